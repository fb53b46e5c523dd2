"""What an image of a data set contributes to an evaluation, and the metrics over all of them.

A record is plain JSON, and numbers go through JSON unchanged: who computed it, and when, makes no difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from objloc_ros.data import Dataset, Sample
from objloc_ros.data.base import boxes_of, check_size
from objloc_ros.engine.pipeline import Pipeline
from objloc_ros.engine.results import HeadResult, SaliencyResult, SemanticResult, instance_map
from objloc_ros.errors import InputError
from objloc_ros.io.rle import encode
from objloc_ros.methods.found import FoundOptions, corloc_box
from objloc_ros.metrics import Scored, corloc, iou, object_metrics, saliency, semantic
from objloc_ros.ops.geometry import boxes_to_source, map_to_source
from objloc_ros.types import UNLABELLED, Image

RULES: dict[str, saliency.TruthRule] = {"found": "full", "deep_spectral": "half"}
"""Which true pixels each paper's evaluation takes for object; TokenCut's, which are all above 0, for the others."""

Record = dict[str, Any]
Metrics = dict[str, Any]


def record(pipeline: Pipeline, method: str, dataset: Dataset, sample: Sample, image: Image) -> Record:
    """What one image leaves.

    Args:
        pipeline: With the method, and for class maps with the data set's classes but the background as prompts.
        method: The method to evaluate.
        dataset: What the image is of.
        sample: Its names.
        image: RGB uint8 [H, W, 3].

    Returns:
        "score", which orders images from bad to good, and what `summarise` needs.

    Raises:
        InputError: If the truth cannot be read or does not fit.
    """
    check_size(dataset, sample, (image.shape[0], image.shape[1]))
    found = pipeline.run(image, (method,))[method]
    if dataset.kind == "boxes":
        return objects_record(found, dataset, sample)
    if dataset.kind == "saliency":
        one = saliency.score(
            soft_map(found, pipeline.options[method]), dataset.mask(sample), truth_rule=RULES.get(method, "positive")
        )
        return {"score": one.iou, "saliency": one.to_json()}
    return _classes(found, dataset, dataset.mask(sample))


def summarise(dataset: Dataset, records: Sequence[Mapping[str, Any]]) -> Metrics:
    """The metrics of all images.

    Raises:
        InputError: If there is no image.
    """
    if not records:
        raise InputError(f"no image of {dataset.name} could be evaluated")
    if dataset.kind == "boxes":
        return summarise_objects(records)
    if dataset.kind == "saliency":
        return saliency.summarise([saliency.SaliencyScore.from_json(one["saliency"]) for one in records])
    counts = np.zeros((len(dataset.classes),) * 2, np.int64)
    for one in records:
        rows, columns, pixels = np.array(one["confusion"], np.int64).reshape(-1, 3).T
        counts[rows, columns] += pixels
    return semantic.summarise(counts, absent="zero" if dataset.convention == "clip_diy" else "skip")


def soft_map(found: HeadResult, options: Any) -> np.ndarray:
    """The map to be scored, float32 [H, W] in [0, 1].

    FOUND's soft map where it reports every region as it is ("multi", without refinement), as in the paper; the hard
    mask of all others.
    """
    soft = isinstance(options, FoundOptions) and options.mode == "multi" and options.post == "none"
    if soft and isinstance(found, SaliencyResult):
        return np.clip(map_to_source(found.saliency, found.geometry, cv2.INTER_LINEAR), 0, 1)
    return found.mask_u8().astype(np.float32) / 255


def class_map(found: SemanticResult) -> Image:
    """Ids of a data set whose classes from 1 on were the prompts, in their order; unlabelled pixels are 0."""
    order = {prompt: i for i, prompt in enumerate(found.labels.prompts, start=1)}
    table = np.zeros(256, np.uint8)
    for number, prompt in found.labels.names().items():
        table[number] = order[prompt]
    table[UNLABELLED] = 0
    return table[found.classes_u8()]


def _classes(found: HeadResult, dataset: Dataset, truth: Image) -> Record:
    if not isinstance(found, SemanticResult):
        raise InputError("this data set needs an open-vocabulary method")
    maps = truth, class_map(found)
    if dataset.convention == "clip_diy" and truth.shape == maps[1].shape:
        maps = semantic.as_clip_diy(*maps)
    counts = semantic.confusion(*maps, len(dataset.classes))
    rows, columns = counts.nonzero()
    triples = np.stack([rows, columns, counts[rows, columns]], axis=1)
    return {"score": semantic.summarise(counts)["miou"], "confusion": triples.tolist()}


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
