"""A mask for each object that a method found, as COCO's run lengths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from faster_coco_eval import mask as coco_mask

from objloc_ros.engine.results import HeadResult, InstanceResult, SemanticResult
from objloc_ros.evaluation.coco_masks import encode
from objloc_ros.ops.geometry import boxes_to_source, map_to_source
from objloc_ros.ops.regions import components


def instance_map(found: HeadResult) -> npt.NDArray[np.uint16]:
    """The pixels of each detection at the source size: uint16 [H, W], i + 1 on the i-th, 0 elsewhere.

    The objects of FOUND and of the open-vocabulary methods are 4-connected regions, and are found again by their boxes:
    no two regions of a mask have the same, as both would reach from left to right and from top to bottom, and cross.
    """
    if isinstance(found, InstanceResult):
        return found.instances_u16()
    return map_to_source(_regions(found), found.geometry, cv2.INTER_NEAREST)


def objects(found: HeadResult, tracks: Sequence[int | None]) -> list[dict[str, Any]]:
    """Describe the detections of one image as JSON values.

    Args:
        found: What a method says.
        tracks: The number of each detection's track, or None.

    Returns:
        For each detection "label", "score", "track", and of its mask "segmentation" (`coco_masks.Rle`), "bbox" [x, y,
        width, height] and "area" in pixels. One whose mask has no pixel, which happens where the image is smaller than
        what the method works on, is left out: CVAT refuses a file with such a mask.
    """
    ids = np.asfortranarray(instance_map(found))
    detections = found.detections
    described = []
    for number, (label, score, track) in enumerate(zip(detections.labels, detections.scores, tracks, strict=True), 1):
        rle = encode(ids == number)
        area = int(coco_mask.area(rle))
        if area:
            bbox = [int(side) for side in coco_mask.toBbox(rle)]
            one = {"label": label, "score": round(float(score), 4), "bbox": bbox, "area": area, "segmentation": rle}
            described.append(one if track is None else one | {"track": track})
    return described


def _regions(found: HeadResult) -> npt.NDArray[np.uint16]:
    """The regions of the detections at the processed size, numbered like them."""
    detections = found.detections
    each = enumerate(zip(detections.labels, detections.boxes.tolist(), strict=True), start=1)
    wanted = {(label, tuple(box)): number for number, (label, box) in each}
    drawn: npt.NDArray[np.uint16] = np.zeros(found.geometry.resized, np.uint16)
    for label in dict.fromkeys(detections.labels):
        parts = components(_where(found, label))
        boxes = boxes_to_source(parts.boxes.astype(np.float32), found.geometry).tolist()
        table = np.array([0, *(wanted.get((label, tuple(box)), 0) for box in boxes)], np.uint16)
        drawn = np.maximum(drawn, table[parts.labels])
    return drawn


def _where(found: HeadResult, label: str) -> npt.NDArray[np.bool_]:
    if not isinstance(found, SemanticResult):
        return found.mask
    number = next(number for number, prompt in found.labels.names().items() if prompt == label)
    return np.asarray(found.classes == number)
