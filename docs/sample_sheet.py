"""Draw the contact sheets of the documents on sample pictures that scikit-image ships.

python docs/sample_sheet.py docs/    # writes samples.jpg (FOUND), methods.jpg (a column per method) and prompts.jpg
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from skimage import data

from objloc_ros import load_pipeline
from objloc_ros.evaluation.held_out_prompts import captioned_scenes, held_out_bank
from objloc_ros.io.contact_sheet import contact_sheet, fitted
from objloc_ros.io.drawing import label_overlay, overlay
from objloc_ros.io.media import write_image
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


def draw_prompts(target: Path, count: int = 4) -> None:
    """Run CLIP-DIY on held-out procedural scenes, each with its own objects and one more thing as prompts."""
    pipeline = load_pipeline(("clip_diy",), "tiny", "cpu")
    scenes = [scene for scene in captioned_scenes(held_out_bank(), 60) if len(scene.objects) == 3][:count]
    drawn, captions = [], []
    for scene in scenes:
        prompts = [f"{one.colour} {one.shape}" for one in scene.objects]
        pipeline.set_prompts(list(dict.fromkeys([*prompts, "black ring"])))
        found = pipeline.run(scene.image)["clip_diy"]
        drawn += [scene.image, label_overlay(scene.image, found.classes_u8(), found.labels.names())]
        captions += ["camera", ", ".join(found.labels.prompts)]
    write_image(target, contact_sheet(drawn, captions, columns=4))


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    draw_found(folder / "samples.jpg")
    draw_methods(folder / "methods.jpg")
    draw_prompts(folder / "prompts.jpg")
