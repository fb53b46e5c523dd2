"""Overlaps of boxes (x1, y1, x2, y2), max side exclusive."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray[np.floating | np.integer]
"""[n, 4] as (x1, y1, x2, y2), max side exclusive."""


def iou(boxes: Boxes, others: Boxes) -> npt.NDArray[np.float64]:
    """Compute the intersection over union of each box [n, 4] with each other one [m, 4]: float64 [n, m]."""
    inter, union = overlaps(boxes.reshape(-1, 1, 4), others.reshape(1, -1, 4))
    return inter / np.maximum(union, 1e-12)


def overlaps(boxes: Boxes, others: Boxes) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Compute the areas of intersection and union of pairs, shapes [..., 4]; exact for whole numbers."""
    a, b = boxes.astype(np.float64), others.astype(np.float64)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    inter = sides.clip(0).prod(-1)
    return inter, (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - inter
