"""What an image of a data set contributes to an evaluation, and the metrics over all images.

A record is plain JSON, and numbers go through JSON unchanged: who made it, and when, makes no difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from objloc_ros.data import Dataset, Sample
from objloc_ros.data.base import check_size, stack_boxes
from objloc_ros.engine.pipeline import Pipeline
from objloc_ros.engine.results import HeadResult
from objloc_ros.errors import InputError
from objloc_ros.io.rle import encode
from objloc_ros.methods.options import FoundOptions
from objloc_ros.metrics import AveragePrecision, CorLoc, MeanIoU, Metric, RankAP, Saliency, ScoredImage, iou
from objloc_ros.metrics.saliency import SaliencyScore, TruthRule, score
from objloc_ros.metrics.semantic import confusion_matrix, resize_as_clip_diy
from objloc_ros.types import Image

TRUTH_RULES: dict[str, TruthRule] = {"found": "full", "deep_spectral": "half"}
"""Which true pixels each paper's evaluation takes for object; TokenCut's, which are all above 0, for the others."""

Record = Mapping[str, Any]
Metrics = dict[str, Any]


def measure_image(pipeline: Pipeline, method: str, dataset: Dataset, sample: Sample, image: Image) -> Record:
    """Run a method on one image and compare its result with the truth.

    Args:
        pipeline: With the method, and for class maps with the data set's classes but the background as prompts.
        method: The method to evaluate.
        dataset: What the image is of.
        sample: Its names.
        image: RGB uint8 [H, W, 3].

    Returns:
        "score", which orders images from bad to good, and what `compute_metrics` needs.

    Raises:
        InputError: If the truth cannot be read or does not fit.
    """
    check_size(dataset, sample, (image.shape[0], image.shape[1]))
    result = pipeline.run(image, (method,))[method]
    if dataset.kind == "boxes":
        return record_objects(result, dataset, sample)
    if dataset.kind == "saliency":
        prediction = soft_map(result, pipeline.options[method])
        judged = score(prediction, dataset.mask(sample), truth_rule=TRUTH_RULES.get(method, "positive"))
        return {"score": judged.iou, "saliency": judged.to_json()}
    return _record_classes(result, dataset, dataset.mask(sample))


def compute_metrics(dataset: Dataset, records: Sequence[Record]) -> Metrics:
    """Compute the metrics of all images from their records.

    Raises:
        InputError: If there is no image.
    """
    if not records:
        raise InputError(f"no image of {dataset.name} could be evaluated")
    metric: Metric
    contributions: Iterable[Any] = records
    if dataset.kind == "boxes":
        metric = ObjectMetrics()
    elif dataset.kind == "saliency":
        metric = Saliency()
        contributions = (SaliencyScore.from_json(record["saliency"]) for record in records)
    else:
        size = len(dataset.classes)
        metric = MeanIoU(size, absent="zero" if dataset.convention == "clip_diy" else "skip")
        contributions = (_dense(record["confusion"], size) for record in records)
    for contribution in contributions:
        metric.update(contribution)
    return metric.compute()


def soft_map(result: HeadResult, options: Any) -> np.ndarray:
    """Return the map to be scored, float32 [H, W] in [0, 1].

    That is FOUND's soft map where it reports every region as it is ("multi", without refinement), as in the paper, and
    the hard mask of all others.
    """
    soft = isinstance(options, FoundOptions) and options.mode == "multi" and options.post == "none"
    return result.soft_map() if soft else result.mask_u8().astype(np.float32) / 255


def class_map(result: HeadResult) -> Image:
    """Return the ids of a data set whose classes from 1 on were the prompts, in their order: uint8 [H, W], 0 elsewhere.

    Raises:
        InputError: The method has no prompts.
    """
    if result.prompts is None:
        raise InputError("this data set needs an open-vocabulary method")
    table = np.zeros(256, np.uint8)  # of UNLABELLED, too
    table[list(result.prompts.ids)] = range(1, len(result.prompts) + 1)
    return table[result.label_map()]


def _record_classes(result: HeadResult, dataset: Dataset, truth: Image) -> Record:
    maps = truth, class_map(result)
    if dataset.convention == "clip_diy" and truth.shape == maps[1].shape:
        maps = resize_as_clip_diy(*maps)
    metric = MeanIoU(len(dataset.classes))
    metric.update(confusion_matrix(*maps, len(dataset.classes)))
    rows, columns = metric.counts.nonzero()
    triples = np.stack([rows, columns, metric.counts[rows, columns]], axis=1)
    return {"score": metric.compute()["miou"], "confusion": triples.tolist()}


def _dense(triples: Sequence[Sequence[int]], size: int) -> np.ndarray:
    """Make a confusion matrix [size, size] of (row, column, pixels)."""
    counts = np.zeros((size, size), np.int64)
    rows, columns, pixels = np.array(triples, np.int64).reshape(-1, 3).T
    counts[rows, columns] = pixels
    return counts


FIGURES = ("ap", "ap50", "ap75", "ar1", "ar10", "ar100")
"""Which figures of `AveragePrecision` are reported; those of masks with "mask_" before them."""

MAX_RANK = 50
"""Objects per image that count for average precision by rank; LOD takes as many as the fullest image has true ones."""


def record_objects(result: HeadResult, dataset: Dataset, sample: Sample) -> Record:
    """Record boxes by score, the one that CorLoc is about, the true ones, and masks where the data set has them.

    There are two truths, as in LOST's evaluation: "located" of all objects for CorLoc, and "truth" without those that
    are flagged difficult for average precision.

    Raises:
        InputError: If the truth is damaged.
    """
    objects = dataset.objects(sample)
    detectable = [item for item in objects if not item.difficult]
    boxes, located = result.detections.boxes, stack_boxes(objects)
    chosen = result.main_box()
    located = np.round(located) if dataset.rounded else located
    record = {
        "score": float(iou(chosen, located).max(initial=0)),
        "chosen": chosen.tolist(),
        "boxes": boxes.tolist(),
        "scores": result.detections.scores.tolist(),
        "truth": stack_boxes(detectable).tolist(),
        "located": located.tolist(),
        "ignored": stack_boxes(detectable, ignored=True).tolist(),
    }
    if not dataset.masks:
        return record
    masks = [encode(mask) for mask in result.masks()]
    true_masks = [item.mask for ignored in (False, True) for item in detectable if item.ignored == ignored]
    return {**record, "masks": masks, "true_masks": true_masks}


class ObjectMetrics(Metric):
    """CorLoc, and average precision and recall without classes, as fractions; of masks if the records have them.

    Average precision by rank is about the boxes that CorLoc is about, so that its precision at rank 1 is CorLoc.
    """

    def __init__(self) -> None:
        self._corloc, self._ranks = CorLoc(), RankAP()
        self._boxes, self._masks = AveragePrecision(), AveragePrecision("segm")

    def update(self, record: Record) -> None:
        """Add the record of an image, as from `record_objects`."""
        self._corloc.update([next(iter(record["chosen"]), None)], [_array(record["located"])])
        boxes, truth, ignored = (_array(record[name]) for name in ("boxes", "truth", "ignored"))
        masks = record.get("masks", ()), record.get("true_masks", ())
        image = ScoredImage(boxes, np.array(record["scores"]), truth, ignored, *masks)
        self._boxes.update(image)
        self._ranks.update(boxes[:MAX_RANK], _array(record["located"]))
        if "masks" in record:
            self._masks.update(image)

    def compute(self) -> dict[str, float]:
        """Return "corloc", `FIGURES`, "rank_ap50" and "rank_ap"."""
        boxes, by_rank = self._boxes.compute(), self._ranks.compute().ap
        metrics = {"corloc": self._corloc.compute(), **{name: boxes[name] for name in FIGURES}}
        metrics |= {"rank_ap50": by_rank[0], "rank_ap": float(np.mean(by_rank))}
        if self._masks.images:
            masks = self._masks.compute()
            metrics |= {f"mask_{name}": masks[name] for name in FIGURES}
        return metrics

    def reset(self) -> None:
        """Forget all images."""
        for metric in (self._corloc, self._ranks, self._boxes, self._masks):
            metric.reset()


def _array(boxes: Any) -> np.ndarray:
    return np.array(boxes, np.float64).reshape(-1, 4)
