"""Data sets of the published layouts, of a few small images each."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import PIL.Image

OBJECT = (8, 6, 40, 30)
"""The box in every picture: x1, y1, x2, y2, max side exclusive."""


def picture(seed: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """A bright textured object on dark ground: uint8 [H, W, 3]."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(20, 60, (*size, 3), dtype=np.uint8)
    x1, y1, x2, y2 = OBJECT
    pixels[y1:y2, x1:x2] = rng.integers(180, 255, (y2 - y1, x2 - x1, 3), dtype=np.uint8)
    return pixels


def truth_mask(value: int = 255, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    x1, y1, x2, y2 = OBJECT
    mask[y1:y2, x1:x2] = value
    return mask


def make_voc(root: Path, year: int = 2007, count: int = 3, *, hard: str = "") -> Path:
    """VOC boxes; the last image's object has the flag `hard`."""
    base = root / "VOCdevkit" / f"VOC{year}"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main", "ImageSets/Segmentation", "SegmentationClass"):
        (base / folder).mkdir(parents=True)
    names = [f"{i:06}" for i in range(count, 0, -1)]
    for i, name in enumerate(names):
        cv2.imwrite(str(base / "JPEGImages" / f"{name}.jpg"), picture(i))
        flag = f"<{hard}>1</{hard}>" if hard and i == count - 1 else ""
        x1, y1, x2, y2 = OBJECT
        box = f"<xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
        (base / "Annotations" / f"{name}.xml").write_text(
            f"<annotation><object><name>car</name>{flag}<bndbox>{box}</bndbox></object></annotation>"
        )
        image = PIL.Image.fromarray(truth_mask(7)).convert("P")
        image.putdata([int(v) for v in truth_mask(7).ravel()])
        image.save(base / "SegmentationClass" / f"{name}.png")
    for part, split in (("Main", "trainval"), ("Segmentation", "val")):
        (base / "ImageSets" / part / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    return root


def make_ecssd(root: Path, count: int = 5) -> Path:
    for folder in ("images", "ground_truth_mask"):
        (root / folder).mkdir(parents=True)
    for i in range(count):
        cv2.imwrite(str(root / "images" / f"{i:04}.jpg"), picture(i))
        cv2.imwrite(str(root / "ground_truth_mask" / f"{i:04}.png"), truth_mask())
    return root
