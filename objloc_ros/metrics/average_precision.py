"""COCO's average precision and recall, by faster-coco-eval."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from faster_coco_eval import COCO, COCOeval_faster

from objloc_ros.io.rle import area
from objloc_ros.metrics.boxes import Boxes

KEYS = {"ap": 0, "ap50": 1, "ap75": 2, "ar1": 6, "ar10": 7, "ar100": 8}
"""Places of our metrics among COCO's twelve."""


@dataclass(frozen=True)
class Scored:
    """The boxes that were found in one image, and the true ones.

    Args:
        boxes: [n, 4].
        scores: [n].
        truth: [m, 4].
        ignored: [k, 4], regions in which finding something is neither right nor wrong.
        masks: Run lengths of each found object, where masks are compared.
        true_masks: Run lengths of each true object, and after them of each ignored region.
    """

    boxes: Boxes
    scores: npt.NDArray[np.floating]
    truth: Boxes
    ignored: Boxes = field(default_factory=lambda: np.zeros((0, 4)))
    masks: Sequence[Mapping[str, Any]] = ()
    true_masks: Sequence[Mapping[str, Any]] = ()


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
        # Ids of our own: 0 would mean "matched with nothing" there, and annotations of one id would be one.
        numbered = [{**one, "id": i} for i, one in enumerate(truth["annotations"], start=1)]
        expected.dataset = {**truth, "annotations": numbered}
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
    figures = object_metrics(images)
    return {"ap": figures["ap"], "ap50": figures["ap50"], "ar": figures["ar100"], "recall50": figures["recall50"]}


def object_metrics(images: Sequence[Scored], iou_type: Literal["bbox", "segm"] = "bbox") -> dict[str, float]:
    """`average_precision` without classes; found objects whose masks have no pixel do not count among masks."""
    truth: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for number, image in enumerate(images):
        crowds = [0] * len(image.truth) + [1] * len(image.ignored)
        for place, (box, crowd) in enumerate(zip((*image.truth, *image.ignored), crowds, strict=True)):
            bbox = _xywh(box)
            fields = {"id": len(truth) + 1, "image_id": number, "category_id": 1, "bbox": bbox, "iscrowd": crowd}
            mask = {"segmentation": image.true_masks[place]} if iou_type == "segm" else {}
            truth.append({**fields, "area": bbox[2] * bbox[3], **mask})
        for place, (box, score) in enumerate(zip(image.boxes, image.scores, strict=True)):
            about = {"image_id": number, "category_id": 1, "score": float(score)}
            if iou_type == "bbox":
                found.append({**about, "bbox": _xywh(box)})
            elif area(image.masks[place]):
                found.append({**about, "segmentation": image.masks[place]})
    categories = [{"id": 1, "name": "object"}]
    numbered = [{"id": i, **_size(image)} for i, image in enumerate(images)]
    document = {"info": {}, "images": numbered, "categories": categories, "annotations": truth}
    return average_precision(document, found, iou_type=iou_type)


def _size(image: Scored) -> dict[str, int]:
    """Height and width of an image with masks."""
    sizes = [mask["size"] for mask in (*image.true_masks, *image.masks)]
    return dict(zip(("height", "width"), sizes[0], strict=True)) if sizes else {}


def _xywh(box: npt.NDArray[np.floating | np.integer]) -> list[float]:
    x1, y1, x2, y2 = (float(side) for side in box)
    return [x1, y1, x2 - x1, y2 - y1]
