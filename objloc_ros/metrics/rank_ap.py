"""Average precision by rank: of everyone's first object, everyone's first two, and so on, whatever their scores.

Protocol of LOD (Vo et al., NeurIPS 2021) and of the authors' earlier work on object discovery. It is not COCO's AP:
images are cut at the same rank, not at the same score, and precisions are not replaced by the best at higher recall.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from objloc_ros.metrics.base import Metric
from objloc_ros.ops.boxes import Boxes, iou

THRESHOLDS = tuple(0.5 + 0.05 * step for step in range(10))
"""Of COCO, and so of LOD's AP@[50:95]."""


class RankFigures(NamedTuple):
    """Figures of all images.

    Args:
        ap: At each of T thresholds, in [0, 1].
        precision: Of everyone's first k objects: T lists of K; at rank 1 it is CorLoc.
        recall: Likewise.
    """

    ap: list[float]
    precision: list[list[float]]
    recall: list[list[float]]


class RankAP(Metric):
    """Average precision by rank.

    An object is right if it is the first of its image to overlap some true object by the threshold at least, so that
    repeating an object costs precision. A true object is found if any object overlaps it so. An image without objects
    counts as one wrong object.

    Args:
        thresholds: Of the intersection over union.
    """

    def __init__(self, thresholds: Sequence[float] = THRESHOLDS) -> None:
        self.thresholds = tuple(thresholds)
        self._right: list[npt.NDArray[np.int64]] = []  # of each image: [T, k], right ones among its first 1...k
        self._found: list[npt.NDArray[np.int64]] = []  # likewise true objects that they find
        self._truths = 0

    def update(self, picked: Boxes, truth: Boxes) -> None:
        """Add an image.

        Args:
            picked: Boxes [k, 4] as (x1, y1, x2, y2), max side exclusive, best first.
            truth: Boxes [m, 4] likewise.
        """
        hits = iou(picked, truth) >= np.array(self.thresholds)[:, None, None]  # T k m
        if not len(picked):
            hits = np.zeros((len(self.thresholds), 1, len(truth)), bool)
        found = np.logical_or.accumulate(hits, axis=1)
        first = hits.copy()
        first[:, 1:] &= ~found[:, :-1]
        self._right.append(first.any(axis=2).cumsum(axis=1))
        self._found.append(found.sum(axis=2))
        self._truths += len(truth)

    def compute(self) -> RankFigures:
        """Return the figures; those of no images have no ranks and are 0."""
        ranks = max((right.shape[1] for right in self._right), default=0)
        right, found = (np.zeros((len(self.thresholds), ranks)) for _ in range(2))
        count = np.zeros(ranks)
        for image_right, image_found in zip(self._right, self._found, strict=True):
            own = np.minimum(np.arange(ranks), image_right.shape[1] - 1)
            right += image_right[:, own]
            found += image_found[:, own]
            count += own + 1
        precision, recall = right / np.maximum(count, 1), found / max(1, self._truths)
        ap = (precision * np.diff(recall, prepend=0, axis=1)).sum(axis=1)
        return RankFigures(ap.tolist(), precision.tolist(), recall.tolist())

    def reset(self) -> None:
        """Forget all images."""
        self._right, self._found, self._truths = [], [], 0
