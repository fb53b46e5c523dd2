"""Data sets of the published layouts, of a few small images each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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


def enlarge(pixels: np.ndarray, scale: int) -> np.ndarray:
    """Repeat each pixel: an object of 32 x 24 pixels is too small for the methods to be right about."""
    return pixels.repeat(scale, axis=0).repeat(scale, axis=1)


def truth_mask(value: int = 255, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    mask = np.zeros(size, np.uint8)
    x1, y1, x2, y2 = OBJECT
    mask[y1:y2, x1:x2] = value
    return mask


def make_voc(root: Path, year: int = 2007, count: int = 3, *, hard: str = "", scale: int = 1) -> Path:
    """VOC boxes; the last image's object has the flag `hard`."""
    base = root / "VOCdevkit" / f"VOC{year}"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main", "ImageSets/Segmentation", "SegmentationClass"):
        (base / folder).mkdir(parents=True)
    names = [f"{i:06}" for i in range(count, 0, -1)]
    for i, name in enumerate(names):
        cv2.imwrite(str(base / "JPEGImages" / f"{name}.jpg"), enlarge(picture(i), scale))
        flag = f"<{hard}>1</{hard}>" if hard and i == count - 1 else ""
        x1, y1, x2, y2 = (scale * side for side in OBJECT)
        box = f"<xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
        (base / "Annotations" / f"{name}.xml").write_text(
            f"<annotation><object><name>car</name>{flag}<bndbox>{box}</bndbox></object></annotation>"
        )
        labels = enlarge(truth_mask(7), scale)
        image = PIL.Image.fromarray(labels).convert("P")
        image.putdata([int(v) for v in labels.ravel()])
        image.save(base / "SegmentationClass" / f"{name}.png")
    for part, split in (("Main", "trainval"), ("Segmentation", "val")):
        (base / "ImageSets" / part / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    return root


def make_ecssd(root: Path, count: int = 5, *, scale: int = 1) -> Path:
    for folder in ("images", "ground_truth_mask"):
        (root / folder).mkdir(parents=True)
    for i in range(count):
        cv2.imwrite(str(root / "images" / f"{i:04}.jpg"), enlarge(picture(i), scale))
        cv2.imwrite(str(root / "ground_truth_mask" / f"{i:04}.png"), enlarge(truth_mask(), scale))
    return root


def make_coco(root: Path, split: str = "val2017", count: int = 3, *, scale: int = 1) -> Path:
    """COCO's layout: image i has i + 1 objects, the first of which is `OBJECT`, a car; the last image also a crowd."""
    names = [f"COCO_train2014_{i:012}.jpg" if split == "train2014" else f"{i:012}.jpg" for i in range(9, 9 + count)]
    annotations = []
    for i, name in enumerate(names):
        write(root / split / name, enlarge(picture(i), scale))
        boxes = [(x1 / 2, OBJECT[1], OBJECT[2], OBJECT[3]) for x1 in range(2 * OBJECT[0], 2 * OBJECT[0] + i + 1)]
        annotations += [
            annotation(len(annotations) + k, 9 + i, 3 if k == 1 else 1, tuple(scale * v for v in b))
            for k, b in enumerate(boxes, 1)
        ]
    height, width = 48 * scale, 64 * scale
    crowd = np.zeros((height, width), np.uint8, order="F")
    crowd[40 * scale :, 50 * scale :] = 1
    lengths = np.diff(np.flatnonzero(np.diff(crowd.ravel(order="F"), prepend=0)), prepend=0).tolist()
    counts = [*lengths, width * height - sum(lengths)]
    annotations.append(
        {
            **annotation(900, 8 + count, 17, (50 * scale, 40 * scale, width, height)),
            "iscrowd": 1,
            "segmentation": {"size": [height, width], "counts": counts},
        }
    )
    images = [{"id": 9 + i, "file_name": name, "height": height, "width": width} for i, name in enumerate(names)]
    categories = [{"id": 17, "name": "cat"}, {"id": 3, "name": "car"}, {"id": 1, "name": "person"}]
    path = root / f"annotations/instances_{split}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return root


def annotation(number: int, image: int, category: int, box: tuple[float, ...]) -> dict[str, Any]:
    """A rectangle as COCO has it, with a polygon around it."""
    x1, y1, x2, y2 = box
    about = {"id": number, "image_id": image, "category_id": category, "iscrowd": 0}
    shape = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
    return {**about, **shape, "segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]]}


def make_coco20k(root: Path, chosen: tuple[int, ...] = (11, 9)) -> Path:
    """Three images of train2014, of which the list names some."""
    make_coco(root, "train2014")
    (root / "coco_20k_filenames.txt").write_text("".join(f"train2014/COCO_train2014_{i:012}.jpg\n" for i in chosen))
    return root


def make_stuff(root: Path, values: np.ndarray, count: int = 2) -> Path:
    """COCO-Stuff's layout: the same map for each image."""
    for i in range(count):
        write(root / f"val2017/{i:012}.jpg", picture(i))
        write(root / f"stuffthingmaps/val2017/{i:012}.png", values)
    return root


KITTI_LABELS = """\
Car 0.00 0 -1.57 8.00 6.00 40.00 30.00 1.5 1.6 3.7 1.0 1.5 8.4 -1.56
Pedestrian 0.80 3 0.2 1.25 2.50 5.75 20.10 1.8 0.5 0.9 1.0 1.5 8.4 0.01
DontCare -1 -1 -10 44.00 2.00 60.00 12.00 -1 -1 -1 -1000 -1000 -1000 -10
"""


def make_kitti(root: Path, count: int = 3) -> Path:
    for i in range(count):
        write(root / f"training/image_2/{i:06}.png", picture(i))
        path = root / f"training/label_2/{i:06}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(KITTI_LABELS)
    return root


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)
