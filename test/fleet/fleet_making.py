"""Fleets for tests: pictures with coloured objects and the pre-labels of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from objloc_ros.data.coco_document import PRELABELS
from objloc_ros.io.media import write_image
from objloc_ros.io.rle import encode
from objloc_ros.types import Image

SIZE = (96, 128)


def picture(colour: Sequence[int], box: Sequence[int], ground: int = 40) -> Image:
    """A rectangle (x1, y1, x2, y2) on grey."""
    rgb = np.full((*SIZE, 3), ground, np.uint8)
    x1, y1, x2, y2 = box
    rgb[y1:y2, x1:x2] = colour
    return rgb


def annotation(image: int, box: Sequence[int], **more: Any) -> dict[str, Any]:
    x1, y1, x2, y2 = box
    mask = np.zeros(SIZE, bool)
    mask[y1:y2, x1:x2] = True
    about = {"image_id": image, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": int(mask.sum())}
    return about | {"iscrowd": 0, "score": 0.5, "segmentation": encode(mask), **more}


def prelabels(
    folder: Path,
    pictures: Sequence[tuple[Image, Sequence[Sequence[int]]]],
    *,
    about: Sequence[dict[str, Any]] = (),
    info: dict[str, Any] | None = None,
) -> Path:
    """Write pictures and what `objloc prelabel` would say of the boxes in each; `about` goes into the image records."""
    images, annotations = [], []
    for number, (rgb, boxes) in enumerate(pictures):
        extra = about[number] if about else {}
        name = extra.get("file_name", f"{number:03}.png")
        (folder / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        write_image(folder / "images" / name, rgb)
        height, width = rgb.shape[:2]
        images.append({"id": number + 1, "file_name": name, "width": width, "height": height, **extra})
        annotations += [annotation(number + 1, box) for box in boxes]
    for number, record in enumerate(annotations, 1):
        record["id"] = number
    document = {
        "info": {"backbone": "tiny", "tracks": "video", **(info or {})},
        "categories": [{"id": 1, "name": "object"}],
        "images": images,
        "annotations": annotations,
    }
    (folder / PRELABELS).parent.mkdir(parents=True, exist_ok=True)
    (folder / PRELABELS).write_text(json.dumps(document))
    return folder
