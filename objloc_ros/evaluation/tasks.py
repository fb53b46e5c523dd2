"""What an image of a data set leaves of an evaluation, and what all of them amount to.

A record is plain JSON, and numbers go through JSON unchanged: who computed it, and when, makes no difference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from objloc_ros.engine.pipeline import Pipeline
from objloc_ros.engine.results import HeadResult, SaliencyResult, SemanticResult
from objloc_ros.errors import InputError
from objloc_ros.evaluation.datasets import Dataset, Sample
from objloc_ros.evaluation.metrics import Scored, coco_metrics, corloc, iou, saliency, semantic
from objloc_ros.methods.found import FoundOptions, corloc_box
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
    found = pipeline.run(image, (method,))[method]
    if dataset.kind == "boxes":
        return _boxes(found, dataset.boxes(sample))
    if dataset.kind == "saliency":
        one = saliency.score(
            soft_map(found, pipeline.options[method]), dataset.mask(sample), truth_rule=RULES.get(method, "positive")
        )
        return {"score": one.iou, "saliency": one.to_json()}
    return _classes(found, dataset.mask(sample), len(dataset.classes))


def summarise(dataset: Dataset, records: Sequence[Mapping[str, Any]]) -> Metrics:
    """The metrics of all images.

    Raises:
        InputError: If there is no image.
    """
    if not records:
        raise InputError(f"no image of {dataset.name} could be evaluated")
    if dataset.kind == "boxes":
        return _summarised_boxes(records)
    if dataset.kind == "saliency":
        return saliency.summarise([saliency.SaliencyScore.from_json(one["saliency"]) for one in records])
    counts = np.zeros((len(dataset.classes),) * 2, np.int64)
    for one in records:
        rows, columns, pixels = np.array(one["confusion"], np.int64).reshape(-1, 3).T
        counts[rows, columns] += pixels
    return semantic.summarise(counts)


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


def _boxes(found: HeadResult, truth: np.ndarray) -> Record:
    """Boxes by score, and the one that CorLoc is about."""
    boxes = found.detections.boxes
    chosen = _largest_region(found) if isinstance(found, SaliencyResult) else boxes[:1]
    return {
        "score": float(iou(chosen, truth).max(initial=0)),
        "chosen": chosen.tolist(),
        "boxes": boxes.tolist(),
        "scores": found.detections.scores.tolist(),
        "truth": truth.tolist(),
    }


def _largest_region(found: SaliencyResult) -> np.ndarray:
    """FOUND's box for CorLoc, [n, 4] with n of 0 or 1: of the largest region at patch resolution."""
    box = corloc_box(found.logits, found.geometry.patch, found.geometry.resized)
    rows = np.array([] if box is None else box, np.float32).reshape(-1, 4)
    return boxes_to_source(rows, found.geometry)


def _summarised_boxes(records: Sequence[Mapping[str, Any]]) -> Metrics:
    arrays = [
        {name: np.array(one[name], np.float64).reshape(-1, 4) for name in ("chosen", "boxes", "truth")}
        for one in records
    ]
    answers = {str(i): each["chosen"][0].tolist() if len(each["chosen"]) else None for i, each in enumerate(arrays)}
    hits = corloc(answers, {str(i): each["truth"] for i, each in enumerate(arrays)})
    scored = [
        Scored(each["boxes"], np.array(one["scores"]), each["truth"]) for each, one in zip(arrays, records, strict=True)
    ]
    ap = coco_metrics(scored)
    return {"corloc": hits.fraction, "ap": ap["ap"], "ap50": ap["ap50"], "ar100": ap["ar"]}


def _classes(found: HeadResult, truth: Image, classes: int) -> Record:
    if not isinstance(found, SemanticResult):
        raise InputError("this data set needs an open-vocabulary method")
    counts = semantic.confusion(truth, class_map(found), classes)
    rows, columns = counts.nonzero()
    triples = np.stack([rows, columns, counts[rows, columns]], axis=1)
    return {"score": semantic.summarise(counts)["miou"], "confusion": triples.tolist()}
