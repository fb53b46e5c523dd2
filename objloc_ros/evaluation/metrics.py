"""How well class-free boxes agree with the truth: CorLoc, average precision and recall."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

Boxes = npt.NDArray[np.floating | np.integer]
"""[n, 4] as (x1, y1, x2, y2), max side exclusive."""


def iou(boxes: Boxes, truth: Boxes) -> npt.NDArray[np.float64]:
    """Intersection over union of each box [n, 4] with each true one [m, 4]: float64 [n, m]."""
    inter, union = _overlaps(boxes, truth)
    return inter / np.maximum(union, 1e-12)


def is_hit(box: Sequence[float] | None, truth: Boxes) -> bool:
    """CorLoc: whether a box overlaps some object by an IoU of at least one half; exactly one half counts."""
    if box is None:
        return False
    inter, union = _overlaps(np.asarray([box], np.float64), truth)
    return bool((2 * inter >= union).any())


@dataclass(frozen=True)
class Scored:
    """The boxes that were found in one image, and the true ones.

    Args:
        boxes: [n, 4].
        scores: [n].
        truth: [m, 4].
    """

    boxes: Boxes
    scores: npt.NDArray[np.floating]
    truth: Boxes


def coco_metrics(images: Sequence[Scored]) -> dict[str, float]:
    """COCO's metrics without classes, by pycocotools.

    Returns:
        Fractions: "ap" and "ar" averaged over IoU thresholds 0.5 to 0.95, "ap50" and "recall50" at 0.5; "ar" and
        "recall50" with up to 100 boxes per image. All zero where nothing was found.
    """
    found = [
        {"image_id": i, "category_id": 1, "bbox": _xywh(box), "score": float(score)}
        for i, image in enumerate(images)
        for box, score in zip(image.boxes, image.scores, strict=True)
    ]
    if not found:
        return dict.fromkeys(("ap", "ap50", "ar", "recall50"), 0.0)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = _ground_truth(images)
        evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    ap, ap50, ar = (float(evaluation.stats[i]) for i in (0, 1, 8))
    return {"ap": ap, "ap50": ap50, "ar": ar, "recall50": float(evaluation.eval["recall"][0, 0, 0, 2])}


def _overlaps(boxes: Boxes, truth: Boxes) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Areas of intersection and union, float64 [n, m]; exact for whole numbers."""
    a, b = boxes.astype(np.float64).reshape(-1, 1, 4), truth.astype(np.float64).reshape(1, -1, 4)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    inter = sides.clip(0).prod(-1)
    return inter, (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - inter


def _ground_truth(images: Sequence[Scored]) -> COCO:
    truth = COCO()
    boxes = [(i, _xywh(box)) for i, image in enumerate(images) for box in image.truth]
    truth.dataset = {
        "info": {},
        "images": [{"id": i} for i in range(len(images))],
        "categories": [{"id": 1, "name": "object"}],
        "annotations": [
            {"id": k, "image_id": i, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for k, (i, box) in enumerate(boxes, start=1)
        ],
    }
    truth.createIndex()
    return truth


def _xywh(box: npt.NDArray[np.floating | np.integer]) -> list[float]:
    x1, y1, x2, y2 = (float(side) for side in box)
    return [x1, y1, x2 - x1, y2 - y1]
