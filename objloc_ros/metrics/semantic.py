"""Mean IoU (mIoU) of class maps, from confusion matrices, which add up over images."""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from objloc_ros.errors import InputError
from objloc_ros.metrics.base import Metric
from objloc_ros.types import UNLABELLED, Image

Confusion = npt.NDArray[np.int64]
"""Pixels by true (rows) and predicted class (columns): [C, C]."""

CLIP_DIY_SIDE = 448
"""Shorter side to which CLIP-DIY's evaluation brings the truth."""


def confusion_matrix(
    truth: npt.NDArray[np.integer],
    prediction: npt.NDArray[np.integer],
    classes: int,
    *,
    ignore: int = UNLABELLED,
    unlabelled: int = 0,
) -> Confusion:
    """Count pixels by true and predicted class.

    Args:
        truth: Class ids [H, W]; pixels of the value `ignore` do not count.
        prediction: Class ids [H, W], UNLABELLED (255) where no class fits.
        classes: Number of classes C.
        ignore: What marks pixels without truth.
        unlabelled: The class that unlabelled pixels are taken for: the background.

    Raises:
        InputError: If the sizes differ or an id is beyond the classes.
    """
    if truth.shape != prediction.shape:
        raise InputError(f"the prediction has {_size(prediction)} pixels, the truth {_size(truth)}")
    counted = truth != ignore
    rows, columns = truth[counted].astype(np.int64), prediction[counted].astype(np.int64)
    columns[columns == UNLABELLED] = unlabelled
    for name, ids in (("truth", rows), ("prediction", columns)):
        if ids.size and not 0 <= ids.min() <= ids.max() < classes:
            raise InputError(f"class ids of the {name} must be below {classes}, got {ids.max()}")
    return np.bincount(rows * classes + columns, minlength=classes * classes).reshape(classes, classes)


def resize_as_clip_diy(truth: Image, prediction: Image) -> tuple[Image, Image]:
    """Bring the truth to a shorter side of 448 pixels and the prediction to the same size, by nearest neighbours."""
    scale = CLIP_DIY_SIDE / min(truth.shape)
    size = tuple(round(scale * side) for side in truth.shape[::-1])
    resized = [cv2.resize(ids, size, interpolation=cv2.INTER_NEAREST) for ids in (truth, prediction)]
    return np.asarray(resized[0], np.uint8), np.asarray(resized[1], np.uint8)


class MeanIoU(Metric):
    """Mean IoU over classes, of the pixels of all images together.

    Args:
        classes: Number of classes C.
        absent: Whether a class that is neither in the truth nor in the predictions counts as an IoU of zero, as in
            CLIP-DIY's evaluation, or not at all, as in mmsegmentation's (MaskCLIP, CLIP-DINOiser).
    """

    def __init__(self, classes: int, *, absent: Literal["zero", "skip"] = "skip") -> None:
        self.absent = absent
        self.counts: Confusion = np.zeros((classes, classes), np.int64)

    def update(self, counts: Confusion) -> None:
        """Add the `confusion_matrix` of an image, int64 [C, C]."""
        self.counts += counts

    def compute(self) -> dict[str, Any]:
        """Return "miou" and "accuracy" in [0, 1], and "per_class": an IoU per class, None for classes left out."""
        right = np.diag(self.counts).astype(np.float64)
        union = self.counts.sum(0) + self.counts.sum(1) - right
        counted = (union > 0) | (self.absent == "zero")
        ious = right / np.maximum(union, 1)
        return {
            "miou": float(ious[counted].mean()) if counted.any() else 0.0,
            "accuracy": float(right.sum() / max(self.counts.sum(), 1)),
            "per_class": [float(iou) if count else None for iou, count in zip(ious, counted, strict=True)],
        }

    def reset(self) -> None:
        """Forget all images."""
        self.counts = np.zeros_like(self.counts)


def _size(values: npt.NDArray[np.integer]) -> str:
    return "x".join(str(side) for side in values.shape[1::-1])
