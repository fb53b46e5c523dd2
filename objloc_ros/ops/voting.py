"""Candidate masks of one image and the vote among them: the one that the others resemble most.

Shin et al., "Unsupervised Salient Object Detection with Spectral Cluster Voting", CVPR workshops 2022, section 3.2.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from objloc_ros.errors import InputError
from objloc_ros.ops.regions import BoolMap

MIN_AREA = 0.05
"""Part of the image that a mask must cover where small ones are left out."""

MAX_BOX_AREA = 0.95
"""Part of the image that a mask's box may cover where large ones are left out."""


class Vote(NamedTuple):
    """The outcome of a vote.

    Args:
        winner: Index of the winning mask among all candidates.
        kept: int64 [k], indices of the candidates that took part, ascending.
        scores: float64 [k], sum of each one's IoUs with all that took part, itself among them.
    """

    winner: int
    kept: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]

    @property
    def confidence(self) -> float:
        """The winner's mean IoU with all that took part, in [0, 1]."""
        return float(self.scores.max() / len(self.kept))


def vote(masks: BoolMap, small_large: bool = False) -> Vote:
    """Let candidates elect the mask with the largest sum of IoUs, the first among equals.

    Empty masks do not take part, nor those that touch two opposite borders: they are background. If none is left, all
    take part, empty ones too.

    Args:
        masks: Any dtype [n, h, w], true where not zero; n >= 1.
        small_large: Whether to leave out masks below `MIN_AREA` and those whose box is above `MAX_BOX_AREA`, too.

    Raises:
        InputError: There is no mask, or the shape is another.
    """
    masks = np.asarray(masks).astype(bool, copy=False)
    if masks.ndim != 3 or 0 in masks.shape:
        raise InputError(f"a vote needs masks [n, h, w] with at least one of each, got {list(masks.shape)}")
    eligible = _find_eligible(masks, small_large)
    kept = np.flatnonzero(eligible if eligible.any() else ~eligible)
    scores = overlaps(masks[kept]).sum(1)
    return Vote(int(kept[scores.argmax()]), kept, scores)


def overlaps(masks: BoolMap) -> npt.NDArray[np.float64]:
    """Compute the IoU of every pair of masks bool [n, h, w]: float64 [n, n], 0 where both are empty."""
    flat = masks.reshape(len(masks), -1).astype(np.float32)
    shared = (flat @ flat.T).astype(np.float64)  # whole numbers below 2^24 are exact in float32
    areas = shared.diagonal()
    union = areas[:, None] + areas - shared
    # The original adds 1e-7 to the union, which would favour the larger one of two equally good masks.
    ious: npt.NDArray[np.float64] = shared / np.maximum(union, 1)
    return ious


def _find_eligible(masks: BoolMap, small_large: bool) -> npt.NDArray[np.bool_]:
    """Tell which masks may take part: bool [n]."""
    rows: BoolMap = np.any(masks, axis=2)  # n h
    columns: BoolMap = np.any(masks, axis=1)  # n w
    spans = (rows[:, 0] & rows[:, -1]) | (columns[:, 0] & columns[:, -1])
    eligible: npt.NDArray[np.bool_] = rows.any(1) & ~spans
    if small_large:
        areas = masks.mean((1, 2))
        boxes = (_last_less_first(rows) * _last_less_first(columns)).astype(np.float64) / masks[0].size
        eligible &= (areas >= MIN_AREA) & (boxes <= MAX_BOX_AREA)
    return eligible


def _last_less_first(line: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return the distance of the last from the first true entry of each row: int64 [n], one less than a box's side."""
    length = line.shape[1]
    distance: npt.NDArray[np.int64] = length - 1 - line[:, ::-1].argmax(1) - line.argmax(1)
    return distance
