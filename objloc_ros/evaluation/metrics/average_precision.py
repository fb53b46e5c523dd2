"""COCO's average precision and recall, by faster-coco-eval."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from faster_coco_eval import COCO, COCOeval_faster

from objloc_ros.evaluation.metrics.boxes import Boxes

KEYS = {"ap": 0, "ap50": 1, "ap75": 2, "ar1": 6, "ar10": 7, "ar100": 8}
"""Places of our metrics among COCO's twelve."""


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


def average_precision(
    truth: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    *,
    iou_type: Literal["bbox", "segm"] = "bbox",
    class_agnostic: bool = True,
) -> dict[str, float]:
    """COCO's metrics with up to 100 objects per image.

    Args:
        truth: COCO document: `images`, `annotations` (bbox [x, y, width, height], area, iscrowd; for masks also
            `segmentation`) and `categories`.
        results: COCO results: image_id, category_id, score, and bbox or `segmentation` as RLE.
        iou_type: Compare boxes or masks.
        class_agnostic: Whether all categories are one, as in CutLER's evaluation.

    Returns:
        Fractions: "ap" averaged over the IoU thresholds 0.5 to 0.95, "ap50", "ap75", "ar1", "ar10" and "ar100" with so
        many objects per image, and "recall50" at the threshold 0.5. All zero where nothing was found.
    """
    if not results:
        return dict.fromkeys((*KEYS, "recall50"), 0.0)
    with contextlib.redirect_stdout(io.StringIO()):
        expected = COCO()
        expected.dataset = {**truth, "annotations": [dict(one) for one in truth["annotations"]]}
        expected.createIndex()
        evaluation = COCOeval_faster(expected, expected.loadRes([dict(one) for one in results]), iou_type)
        evaluation.params.useCats = int(not class_agnostic)
        evaluation.run()
    figures = {name: max(0.0, float(evaluation.stats[place])) for name, place in KEYS.items()}
    recalls = evaluation.eval["recall"][0, :, 0, 2]
    known = recalls[recalls > -1]
    return {**figures, "recall50": float(known.mean()) if known.size else 0.0}


def coco_metrics(images: Sequence[Scored]) -> dict[str, float]:
    """`average_precision` of boxes without classes; "ar" is "ar100"."""
    truth = [(i, _xywh(box)) for i, image in enumerate(images) for box in image.truth]
    document = {
        "info": {},
        "images": [{"id": i} for i in range(len(images))],
        "categories": [{"id": 1, "name": "object"}],
        "annotations": [
            {"id": k, "image_id": i, "category_id": 1, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for k, (i, box) in enumerate(truth, start=1)
        ],
    }
    found = [
        {"image_id": i, "category_id": 1, "bbox": _xywh(box), "score": float(score)}
        for i, image in enumerate(images)
        for box, score in zip(image.boxes, image.scores, strict=True)
    ]
    figures = average_precision(document, found)
    return {"ap": figures["ap"], "ap50": figures["ap50"], "ar": figures["ar100"], "recall50": figures["recall50"]}


def _xywh(box: npt.NDArray[np.floating | np.integer]) -> list[float]:
    x1, y1, x2, y2 = (float(side) for side in box)
    return [x1, y1, x2 - x1, y2 - y1]
