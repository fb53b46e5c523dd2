"""Mean IoU (mIoU) of class maps, from confusion matrices, which add up over images."""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from objloc_ros.errors import InputError
from objloc_ros.types import UNLABELLED, Image

Confusion = npt.NDArray[np.int64]
"""Pixels by true (rows) and predicted class (columns): [C, C]."""

CLIP_DIY_SIDE = 448
"""Shorter side to which CLIP-DIY's evaluation brings the truth."""


def confusion(
    truth: npt.NDArray[np.integer],
    answer: npt.NDArray[np.integer],
    classes: int,
    *,
    ignore: int = UNLABELLED,
    unlabelled: int = 0,
) -> Confusion:
    """Count pixels by true and predicted class.

    Args:
        truth: Class ids [H, W]; pixels of the value `ignore` do not count.
        answer: Class ids [H, W], UNLABELLED (255) where no class fits.
        classes: Number of classes C.
        ignore: What marks pixels without truth.
        unlabelled: The class that unlabelled pixels are taken for: the background.

    Raises:
        InputError: If the sizes differ or an id is beyond the classes.
    """
    if truth.shape != answer.shape:
        raise InputError(f"the answer has {_size(answer)} pixels, the truth {_size(truth)}")
    counted = truth != ignore
    rows, columns = truth[counted].astype(np.int64), answer[counted].astype(np.int64)
    columns[columns == UNLABELLED] = unlabelled
    for name, ids in (("truth", rows), ("answer", columns)):
        if ids.size and not 0 <= ids.min() <= ids.max() < classes:
            raise InputError(f"class ids of the {name} must be below {classes}, got {ids.max()}")
    return np.bincount(rows * classes + columns, minlength=classes * classes).reshape(classes, classes)


def as_clip_diy(truth: Image, answer: Image) -> tuple[Image, Image]:
    """Bring the truth to a shorter side of 448 pixels and the answer to the same size, both by nearest neighbours."""
    scale = CLIP_DIY_SIDE / min(truth.shape)
    size = tuple(round(scale * side) for side in truth.shape[::-1])
    resized = [cv2.resize(each, size, interpolation=cv2.INTER_NEAREST) for each in (truth, answer)]
    return np.asarray(resized[0], np.uint8), np.asarray(resized[1], np.uint8)


def summarise(counts: Confusion, *, absent: Literal["zero", "skip"] = "skip") -> dict[str, Any]:
    """Read the metrics off a confusion matrix.

    Args:
        counts: int64 [C, C].
        absent: Whether a class that is neither in the truth nor in the answers counts as an IoU of zero, as in
            CLIP-DIY's evaluation, or not at all, as in mmsegmentation's (MaskCLIP, CLIP-DINOiser).

    Returns:
        "miou" and "accuracy" in [0, 1], and "per_class", an IoU per class, None for classes left out.
    """
    right = np.diag(counts).astype(np.float64)
    union = counts.sum(0) + counts.sum(1) - right
    present = union > 0
    each = right / np.maximum(union, 1)
    kept = each if absent == "zero" else each[present]
    return {
        "miou": float(kept.mean()) if kept.size else 0.0,
        "accuracy": float(right.sum() / max(counts.sum(), 1)),
        "per_class": [float(v) if p or absent == "zero" else None for v, p in zip(each, present, strict=True)],
    }


def _size(values: npt.NDArray[np.integer]) -> str:
    return "x".join(str(side) for side in values.shape[1::-1])
