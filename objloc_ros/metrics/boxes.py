"""How boxes agree with the truth: CorLoc (Deselaers et al., ECCV 2010; protocol of LOST)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from objloc_ros.metrics.base import Metric
from objloc_ros.ops.boxes import Boxes, overlaps


@dataclass
class CorLoc(Metric):
    """In how many images the box hits some object by an IoU of at least one half.

    The test is 2 * intersection >= union, exact for whole numbers, where a quotient in floating point may fall short of
    one half.

    Args:
        without_truth: Whether an image without any object is a miss, as in LOST's evaluation, or does not count.
        hits: Images whose box hits.
        images: Images that count.
    """

    without_truth: Literal["miss", "skip"] = "miss"
    hits: int = 0
    images: int = 0

    def update(self, boxes: Sequence[Sequence[float] | None], truths: Sequence[Boxes]) -> None:
        """Add images.

        Args:
            boxes: The box (x1, y1, x2, y2) of each image; None, where nothing was found, is a miss.
            truths: The true boxes [n, 4] of each image.
        """
        counted = [pair for pair in zip(boxes, truths, strict=True) if len(pair[1]) or self.without_truth == "miss"]
        self.images += len(counted)
        judged = [(box, truth) for box, truth in counted if box is not None and len(truth)]
        if judged:
            lengths = [len(truth) for _, truth in judged]
            repeated = np.repeat(np.array([box for box, _ in judged], np.float64), lengths, axis=0)  # [sum(n), 4]
            hits = _hits(repeated, np.concatenate([truth for _, truth in judged]))
            self.hits += int(np.logical_or.reduceat(hits, np.cumsum([0, *lengths[:-1]])).sum())

    def compute(self) -> float:
        """Return CorLoc in [0, 1]; 0 without images."""
        return self.hits / self.images if self.images else 0.0

    def reset(self) -> None:
        """Forget all images."""
        self.hits = self.images = 0


def _hits(boxes: Boxes, truth: Boxes) -> npt.NDArray[np.bool_]:
    """Whether pairs of boxes, of broadcastable shapes [..., 4], overlap by one half at least."""
    inter, union = overlaps(boxes, truth)
    return (2 * inter >= union) & (union > 0)
