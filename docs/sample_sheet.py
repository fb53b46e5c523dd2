"""Draw the contact sheets of the documents on sample pictures that scikit-image ships.

python docs/sample_sheet.py docs/    # writes samples.jpg (FOUND) and methods.jpg (a column per method)
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from skimage import data

from objloc_ros import load_pipeline
from objloc_ros.ops.contact_sheet import contact_sheet, fitted
from objloc_ros.ops.drawing import overlay
from objloc_ros.ops.media import write_image
from objloc_ros.types import Image

NAMES = ("astronaut", "camera", "chelsea", "coffee", "coins", "horse", "rocket", "stereo_motorcycle")
FEW = ("astronaut", "camera", "chelsea", "coffee", "coins")
METHODS = ("found", "lost", "tokencut", "deep_spectral", "maskcut")
CELL = (180, 240)


def picture(name: str) -> Image:
    """A sample picture as RGB uint8 [H, W, 3]."""
    pixels = getattr(data, name)()
    pixels = pixels[0] if isinstance(pixels, tuple) else pixels
    if pixels.dtype == bool:
        pixels = pixels.astype(np.uint8) * 255
    if pixels.ndim == 2:
        pixels = np.stack([pixels] * 3, axis=2)
    return np.ascontiguousarray(pixels[..., :3])


def draw_found(target: Path) -> None:
    """Run FOUND on every sample and write the sheet."""
    pipeline = load_pipeline(backbone="tiny", device="cpu")
    drawn = []
    for image in map(picture, NAMES):
        found = pipeline.run(image)["found"]
        drawn.append(overlay(image, found.mask_u8(), found.detections))
    write_image(target, contact_sheet(drawn, NAMES, columns=4))


def draw_methods(target: Path, names: Sequence[str] = FEW) -> None:
    """Run all methods, refined along the edges of the image, and write a sheet with a column for each."""
    pipeline = load_pipeline(METHODS, "tiny", "cpu")
    for method in METHODS:
        pipeline.configure(method, post="bilateral")
    drawn, captions = [], []
    for image in map(picture, names):
        for method, found in pipeline.run(image).heads.items():
            mask = found.mask_u8() if method == "found" else found.instances_u16()
            drawn.append(fitted(overlay(image, mask), CELL))
            captions.append(method)
    write_image(target, contact_sheet(drawn, captions, columns=len(METHODS), cell=CELL))


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    draw_found(folder / "samples.jpg")
    draw_methods(folder / "methods.jpg")
