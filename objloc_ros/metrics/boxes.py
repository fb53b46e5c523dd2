"""How boxes agree with the truth: overlaps, and CorLoc (Deselaers et al., ECCV 2010; protocol of LOST)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray[np.floating | np.integer]
"""[n, 4] as (x1, y1, x2, y2), max side exclusive."""


def iou(boxes: Boxes, truth: Boxes) -> npt.NDArray[np.float64]:
    """Intersection over union of each box [n, 4] with each true one [m, 4]: float64 [n, m]."""
    inter, union = _overlaps(boxes.reshape(-1, 1, 4), truth.reshape(1, -1, 4))
    return inter / np.maximum(union, 1e-12)


def is_hit(box: Sequence[float] | None, truth: Boxes) -> bool:
    """CorLoc: whether a box overlaps some object by an IoU of at least one half; exactly one half counts."""
    return box is not None and bool(_hits(np.asarray([box]), truth.reshape(-1, 4)).any())


@dataclass(frozen=True)
class CorLoc:
    """In how many images the box hits an object. Parts of a data set add up: `CorLoc(3, 4) + CorLoc(1, 2)`.

    Args:
        hits: Images whose box hits.
        images: Images that count.
    """

    hits: int
    images: int

    def __add__(self, other: CorLoc) -> CorLoc:
        return CorLoc(self.hits + other.hits, self.images + other.images)

    @property
    def fraction(self) -> float:
        """CorLoc in [0, 1]; 0 without images."""
        return self.hits / self.images if self.images else 0.0


def corloc(
    answers: Mapping[str, Sequence[float] | None],
    truth: Mapping[str, Boxes],
    *,
    without_truth: Literal["miss", "skip"] = "miss",
) -> CorLoc:
    """Count the images whose box overlaps some object by an IoU of at least one half.

    The test is 2 * intersection >= union, exact for whole numbers, where a quotient in floating point may fall short of
    one half.

    Args:
        answers: A box (x1, y1, x2, y2) per image; an image without one, or with None, is a miss.
        truth: Boxes [n, 4] of every image that counts.
        without_truth: Whether an image without any object is a miss, as in LOST's evaluation, or does not count.
    """
    counted = [key for key, boxes in truth.items() if len(boxes) or without_truth == "miss"]
    judged = [(answers[key], truth[key]) for key in counted if answers.get(key) is not None and len(truth[key])]
    if not judged:
        return CorLoc(0, len(counted))
    lengths = [len(boxes) for _, boxes in judged]
    repeated = np.repeat(np.array([box for box, _ in judged], np.float64), lengths, axis=0)
    hits = _hits(repeated, np.concatenate([boxes for _, boxes in judged]))
    starts = np.cumsum([0, *lengths[:-1]])
    return CorLoc(int(np.logical_or.reduceat(hits, starts).sum()), len(counted))


def _hits(boxes: Boxes, truth: Boxes) -> npt.NDArray[np.bool_]:
    """Whether pairs of boxes, of broadcastable shapes [..., 4], overlap by one half at least."""
    inter, union = _overlaps(boxes, truth)
    return (2 * inter >= union) & (union > 0)


def _overlaps(boxes: Boxes, truth: Boxes) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Areas of intersection and union of pairs; exact for whole numbers."""
    a, b = boxes.astype(np.float64), truth.astype(np.float64)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    inter = sides.clip(0).prod(-1)
    return inter, (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - inter
