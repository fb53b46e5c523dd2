"""What an image with true objects leaves of an evaluation, and what all of them amount to: CorLoc, AP and AR."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from objloc_ros.engine.results import HeadResult, SaliencyResult
from objloc_ros.evaluation.coco_masks import encode
from objloc_ros.evaluation.datasets import Dataset, Sample
from objloc_ros.evaluation.datasets.base import boxes_of
from objloc_ros.evaluation.metrics import Scored, corloc, iou, object_metrics
from objloc_ros.evaluation.prelabels.masks import instance_map
from objloc_ros.methods.found import corloc_box
from objloc_ros.ops.geometry import boxes_to_source

FIGURES = ("ap", "ap50", "ap75", "ar1", "ar10", "ar100")
"""Which of `object_metrics` are reported; those of masks with "mask_" before them."""


def objects_record(found: HeadResult, dataset: Dataset, sample: Sample) -> dict[str, Any]:
    """Boxes by score, the one that CorLoc is about, the true ones, and masks where the data set has them.

    Raises:
        InputError: If the truth is damaged.
    """
    objects = dataset.objects(sample)
    boxes, truth = found.detections.boxes, boxes_of(objects)
    chosen = _largest_region(found) if isinstance(found, SaliencyResult) else boxes[:1]
    located = np.round(truth) if dataset.rounded else truth
    record = {
        "score": float(iou(chosen, located).max(initial=0)),
        "chosen": chosen.tolist(),
        "boxes": boxes.tolist(),
        "scores": found.detections.scores.tolist(),
        "truth": truth.tolist(),
        "located": located.tolist(),
        "ignored": boxes_of(objects, ignored=True).tolist(),
    }
    if not dataset.masks:
        return record
    ids = instance_map(found)
    masks = [encode(ids == number) for number in range(1, len(boxes) + 1)]
    true_masks = [one.mask for ignored in (False, True) for one in objects if one.ignored == ignored]
    return {**record, "masks": masks, "true_masks": true_masks}


def summarise_objects(records: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """CorLoc, and average precision and recall without classes, as fractions; of masks if the records have them."""
    answers = {str(i): one["chosen"][0] if one["chosen"] else None for i, one in enumerate(records)}
    hits = corloc(answers, {str(i): _array(one["located"]) for i, one in enumerate(records)})
    scored = [_scored(one) for one in records]
    figures = object_metrics(scored)
    metrics = {"corloc": hits.fraction, **{name: figures[name] for name in FIGURES}}
    if "masks" not in records[0]:
        return metrics
    figures = object_metrics(scored, "segm")
    return {**metrics, **{f"mask_{name}": figures[name] for name in FIGURES}}


def _scored(one: Mapping[str, Any]) -> Scored:
    boxes, truth, ignored = (_array(one[name]) for name in ("boxes", "truth", "ignored"))
    return Scored(boxes, np.array(one["scores"]), truth, ignored, one.get("masks", ()), one.get("true_masks", ()))


def _array(boxes: Any) -> np.ndarray:
    return np.array(boxes, np.float64).reshape(-1, 4)


def _largest_region(found: SaliencyResult) -> np.ndarray:
    """FOUND's box for CorLoc, [n, 4] with n of 0 or 1: of the largest region at patch resolution."""
    box = corloc_box(found.logits, found.geometry.patch, found.geometry.resized)
    rows = np.array([] if box is None else box, np.float32).reshape(-1, 4)
    return boxes_to_source(rows, found.geometry)
