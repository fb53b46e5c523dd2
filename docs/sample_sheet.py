"""Draw the contact sheets of the documents on photographs: the demo's, and sample pictures that scikit-image ships.

python docs/sample_sheet.py docs/    # methods.jpg (a column per method), detector.jpg
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from skimage import data

from objloc_ros import load_pipeline
from objloc_ros.io.contact_sheet import fit_image, make_contact_sheet
from objloc_ros.io.drawing import overlay
from objloc_ros.io.media import list_sources, read_image, write_image
from objloc_ros.scenes.panning import PHOTOGRAPHS
from objloc_ros.types import Image

NAMES = ("astronaut", "camera", "chelsea", "coffee", "coins", "rocket")
FEW = 5
"""Photographs of the demo that the methods are compared on, the first ones."""
METHODS = ("found", "lost", "tokencut", "deep_spectral", "maskcut")
CELL = (180, 240)
PAIR_CELL = (150, 200)

SURE = 0.4
"""Score from which the detector's objects are drawn."""


def picture(name: str) -> Image:
    """A sample picture as RGB uint8 [H, W, 3]."""
    pixels = getattr(data, name)()
    if pixels.ndim == 2:
        pixels = np.stack([pixels] * 3, axis=2)
    return np.ascontiguousarray(pixels[..., :3])


def draw_methods(target: Path) -> None:
    """Run all methods, refined along the edges of the image, and write a sheet with a column for each."""
    pipeline = load_pipeline(METHODS, "tiny", "cpu")
    for method in METHODS:
        pipeline.configure(method, post="bilateral")
    drawn, captions = [], []
    for image in map(read_image, list_sources([PHOTOGRAPHS])[:FEW]):
        for method, found in pipeline.run(image).heads.items():
            drawn.append(fit_image(overlay(image, found.label_map()), CELL))
            captions.append(method)
    write_image(target, make_contact_sheet(drawn, captions, columns=len(METHODS), cell=CELL))


def draw_detector(target: Path) -> None:
    """Run MaskCut and the detector that it taught on every sample, masks unrefined, and write a sheet of pairs."""
    pipeline = load_pipeline(("maskcut", "detector"), "tiny", "cpu")
    pipeline.configure("maskcut", post="none")
    pipeline.configure("detector", threshold=SURE)
    drawn, captions = [], []
    for image in map(picture, NAMES):
        for method, found in pipeline.run(image).heads.items():
            drawn.append(fit_image(found.draw(image), PAIR_CELL))
            captions.append(method)
    write_image(target, make_contact_sheet(drawn, captions, columns=4, cell=PAIR_CELL))


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    draw_methods(folder / "methods.jpg")
    draw_detector(folder / "detector.jpg")
