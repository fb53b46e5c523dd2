"""Options of the open-vocabulary methods; from cosines of prompts to one label per pixel, from labels to regions."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from objloc_ros.engine.results import SemanticResult
from objloc_ros.methods.clip_diy import gate_by_saliency
from objloc_ros.methods.options import Background, SegmentationOptions
from objloc_ros.ops.geometry import Geometry, boxes_to_source
from objloc_ros.ops.regions import BoolMap, components
from objloc_ros.types import BACKGROUND, UNLABELLED, Detections, Image, LabelSet

LOGIT_SCALE = 100.0
"""CLIP's factor of cosines before the softmax."""


def choose_classes(
    cosines: Tensor,
    saliency: Tensor | None,
    background: Background,
    *,
    signed: bool = False,
    logit_scale: float = LOGIT_SCALE,
    min_region: float | None = None,
    ignored: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Choose the class of each pixel, and say how confident the choice is.

    Args:
        cosines: float32 [..., 1 + P, h, w], the background's first; of one image or of a batch.
        saliency: float32 [..., h, w] in [0, 1]; for background "found" only.
        background: See `SegmentationOptions`.
        signed: Weigh (1 + cosine) / 2 with the saliency instead of the cosine: a product of a negative one would favour
            what the saliency speaks against.
        logit_scale: The tower's factor of cosines before the softmax.
        min_region: Give each region that is at least this fraction of the image one class, and smaller ones none; None
            gives each pixel its own.
        ignored: bool [h, w], pixels that are background whatever fits; None for none.

    Returns:
        int64 [..., h, w], 0 for the background; float32 [..., h, w] in [0, 1]: the softmax over the classes that
        compete, times the saliency where that decides.
    """
    competing = (logit_scale * (cosines if background == "prompt" else cosines[..., 1:, :, :])).softmax(-3)
    prompts = competing[..., 1:, :, :] if background == "prompt" else competing  # ... P h w
    if background == "prompt":
        best = competing.argmax(-3)  # ... h w
    elif background == "none":
        best = prompts.argmax(-3) + 1
    else:
        assert saliency is not None
        fitting = (1 + cosines) / 2 if signed else cosines
        size = saliency.shape[-2:]
        gated = gate_by_saliency(fitting.reshape(-1, *fitting.shape[-3:]), saliency.reshape(-1, *size))
        best = gated.argmax(1).reshape(saliency.shape)
    if ignored is not None:
        best = best.masked_fill(ignored, 0)
    if min_region is not None:
        best = _unite_each(best, prompts, min_area=min_region)
    confidence = prompts.gather(-3, (best - 1).clamp(min=0)[..., None, :, :])[..., 0, :, :]  # of the chosen class
    if background == "prompt":
        confidence = torch.where(best > 0, confidence, competing[..., 0, :, :])
    elif saliency is not None:
        confidence = torch.where(best > 0, confidence * saliency, 1 - saliency)
    return best, confidence


def _unite_each(classes: Tensor, probabilities: Tensor, *, min_area: float) -> Tensor:
    """Run `unite_regions` on each image of a batch: classes [..., h, w], probabilities [..., P, h, w]."""
    if classes.ndim == 2:
        return unite_regions(classes, probabilities, min_area=min_area)
    images = zip(classes, probabilities, strict=True)
    return torch.stack([_unite_each(*image, min_area=min_area) for image in images])


def unite_regions(classes: Tensor, probabilities: Tensor, *, min_area: float) -> Tensor:
    """Give each 4-connected region outside the background the class of the greatest mean probability in it.

    Args:
        classes: int64 [h, w], 0 for the background, i + 1 for the i-th prompt.
        probabilities: float32 [P, h, w] of the prompts.
        min_area: Smallest region that keeps a class, as a fraction of the image.

    Returns:
        int64 [h, w], 0 on the background and on smaller regions.
    """
    regions = components((classes > 0).cpu().numpy())
    numbers = torch.from_numpy(regions.labels).to(classes.device, torch.int64)  # h w
    sums = probabilities.new_zeros(len(probabilities), 1 + len(regions.areas))
    sums.index_add_(1, numbers.flatten(), probabilities.flatten(1))  # P 1+regions
    winners = sums.argmax(0) + 1
    winners[0] = 0
    winners[1:][torch.from_numpy(regions.areas < min_area * classes.numel())] = 0
    return winners[numbers]


def label_pixels(
    classes: Tensor,
    confidence: Tensor,
    labels: LabelSet,
    geometry: Geometry,
    options: SegmentationOptions,
    ignored: BoolMap | None = None,
) -> SemanticResult:
    """Turn the classes of pixels into ids, and describe the regions of each id.

    Args:
        classes: int64 [h', w'], 0 for the background, i + 1 for the i-th prompt.
        confidence: float32 [h', w'].
        labels: The prompts.
        geometry: Maps this size to the source image.
        options: Threshold and smallest region.
        ignored: bool [h', w'], pixels without a label, that of the background included; None for none.
    """
    background = [number for number, prompt in labels.names().items() if is_background(prompt)]
    ids = [background[0] if background else UNLABELLED, *labels.ids]
    table = np.array(ids, np.uint8)
    confidence_map = confidence.clamp(0, 1).cpu().numpy().astype(np.float32)
    ids_map = table[classes.cpu().numpy()]
    ids_map[confidence_map < options.threshold] = UNLABELLED
    if ignored is not None:
        ids_map[ignored] = UNLABELLED
    confidence_map = np.where(ids_map == UNLABELLED, np.float32(0), confidence_map)
    detections = find_regions(ids_map, confidence_map, labels, geometry, min_area=options.min_area)
    return SemanticResult(detections, geometry, ids_map != UNLABELLED, labels, ids_map, confidence_map)


def is_background(prompt: str) -> bool:
    """Return whether a prompt is the word background; the text tower ignores case and surplus spaces."""
    return " ".join(prompt.lower().split()) == BACKGROUND


def find_regions(
    ids: Image, confidence: npt.NDArray[np.float32], labels: LabelSet, geometry: Geometry, *, min_area: float
) -> Detections:
    """Return the 4-connected regions of each label as detections, scored by their mean confidence, best first.

    Args:
        ids: uint8 [h', w'].
        confidence: float32 [h', w'].
        labels: The prompts; regions of the word background are left out.
        geometry: Maps this size to the source image.
        min_area: Smallest region as a fraction of the image.
    """
    boxes: list[npt.NDArray[np.int64]] = [np.empty((0, 4), np.int64)]
    scores: list[npt.NDArray[np.float64]] = [np.empty(0)]
    names: list[str] = []
    present = np.bincount(ids.ravel(), minlength=UNLABELLED + 1)
    for number, prompt in labels.names().items():
        if is_background(prompt) or not present[number]:
            continue
        found = components(ids == number)
        large = found.areas >= min_area * ids.size
        boxes.append(found.boxes[large])
        scores.append(found.mean(confidence)[large])
        names += [prompt] * int(large.sum())
    all_scores = np.clip(np.concatenate(scores), 0, 1).astype(np.float32)
    order = np.argsort(-all_scores, kind="stable")
    placed = boxes_to_source(np.concatenate(boxes)[order].astype(np.float32), geometry)
    return Detections(placed, all_scores[order], tuple(names[i] for i in order))
