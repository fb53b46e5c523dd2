"""Draw the contact sheets of the documents on sample pictures that scikit-image ships.

python docs/sample_sheet.py docs/    # methods.jpg (a column per method), detector.jpg, prompts.jpg
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from skimage import data

from objloc_ros import load_pipeline
from objloc_ros.evaluation.held_out_prompts import make_bank, make_captioned_scenes
from objloc_ros.io.contact_sheet import fit_image, make_contact_sheet
from objloc_ros.io.drawing import overlay
from objloc_ros.io.media import write_image
from objloc_ros.types import Image

NAMES = ("astronaut", "camera", "chelsea", "coffee", "coins", "rocket")
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
    for image in map(picture, NAMES):
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


def draw_prompts(target: Path, count: int = 4) -> None:
    """Run CLIP-DIY on held-out procedural scenes, each with its own objects and one more thing as prompts."""
    pipeline = load_pipeline(("clip_diy",), "tiny", "cpu")
    scenes = [scene for scene in make_captioned_scenes(make_bank(), 60) if len(scene.objects) == 3][:count]
    drawn, captions = [], []
    for scene in scenes:
        prompts = [f"{attributes.colour} {attributes.shape}" for attributes in scene.objects]
        pipeline.set_prompts(list(dict.fromkeys([*prompts, "black ring"])))
        found = pipeline.run(scene.image)["clip_diy"]
        drawn += [scene.image, found.draw(scene.image)]
        captions += ["camera", ", ".join(found.prompts.prompts if found.prompts else ())]
    write_image(target, make_contact_sheet(drawn, captions, columns=4))


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    draw_methods(folder / "methods.jpg")
    draw_detector(folder / "detector.jpg")
    draw_prompts(folder / "prompts.jpg")
