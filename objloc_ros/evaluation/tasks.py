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
from objloc_ros.evaluation.datasets.base import check_size
from objloc_ros.evaluation.metrics import saliency, semantic
from objloc_ros.evaluation.tasks_objects import objects_record, summarise_objects
from objloc_ros.methods.found import FoundOptions
from objloc_ros.ops.geometry import map_to_source
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
