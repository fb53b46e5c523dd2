"""Detections as a COCO-style document: what `objloc detect` writes and other tools read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from objloc_ros.types import Detections, Size


class CocoRecords:
    """Collects the detections of one run.

    Args:
        info: What made them (version, method, backbone, options); any JSON values.
        categories: Labels that the detections may have; further ones are added as they come.
    """

    def __init__(self, info: dict[str, Any], categories: Sequence[str] = ("object",)) -> None:
        self._info = info
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._categories = {name: number for number, name in enumerate(categories, start=1)}
        self._failures: list[dict[str, str]] = []

    def add(self, file_name: str, size: Size, detections: Detections, **extra: Any) -> None:
        """Record one image and what was found in it.

        Args:
            file_name: The image, or the video that it is a frame of.
            size: Height and width in pixels.
            detections: Boxes in pixels of the image.
            extra: Further fields of the image record.
        """
        image = {"id": len(self._images) + 1, "file_name": file_name, "width": size[1], "height": size[0], **extra}
        self._images.append(image)
        for box, score, label in zip(detections.boxes, detections.scores, detections.labels, strict=True):
            x1, y1, x2, y2 = (round(float(value), 2) for value in box)
            bbox = [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)]
            self._annotations.append(
                {
                    "id": len(self._annotations) + 1,
                    "image_id": image["id"],
                    "category_id": self._categories.setdefault(label, len(self._categories) + 1),
                    "bbox": bbox,
                    "area": round(bbox[2] * bbox[3], 2),
                    "iscrowd": 0,
                    "score": round(float(score), 4),
                }
            )

    def fail(self, file_name: str, reason: str) -> None:
        """Record a file that could not be used."""
        self._failures.append({"file_name": file_name, "reason": reason})

    def document(self) -> dict[str, Any]:
        """Return the COCO-style document.

        `images` (id, file_name, width, height), `annotations` (image_id, category_id, bbox as [x, y, width, height]
        in pixels, area of the box, score), `categories`; and beyond COCO `info` and `failures`.
        """
        return {
            "info": self._info,
            "images": self._images,
            "annotations": self._annotations,
            "categories": [{"id": number, "name": name} for name, number in self._categories.items()],
            "failures": self._failures,
        }
