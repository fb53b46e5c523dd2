"""The object that a discovery method returns: a mask on the patch grid and the seed it grew from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from objloc_ros.errors import InputError
from objloc_ros.ops.affinity import split_batch, to_host
from objloc_ros.types import Grid, Size

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class PatchObject:
    """One object on the patch grid.

    Args:
        mask: bool [h, w] in the host's memory, whatever the features were on; empty when there is no object.
        seed: Row-major index of the patch that the mask grew from.
        degenerate: True when the features do not determine an answer.
        score: How sure the method is, in [0, 1]; None where it does not say, and `separation` takes its place.
    """

    mask: Tensor
    seed: int
    degenerate: bool = False
    score: float | None = None

    def box(self, patch: int, image_size: Size) -> Box | None:
        """Return the pixel box (x1, y1, x2, y2), max exclusive, clipped to the unpadded image; None if empty."""
        rows, columns = (torch.nonzero(self.mask.any(dim)).flatten().tolist() for dim in (1, 0))
        if not rows:
            return None
        height, width = image_size
        right, bottom = min(patch * (columns[-1] + 1), width), min(patch * (rows[-1] + 1), height)
        left, top = patch * columns[0], patch * rows[0]
        return (left, top, right, bottom) if left < right and top < bottom else None


def nothing(grid: Grid) -> PatchObject:
    """Return an empty, degenerate object: the features determine none."""
    return PatchObject(torch.zeros(grid, dtype=torch.bool), 0, degenerate=True)


def separation(features: Tensor, masks: Sequence[Tensor]) -> npt.NDArray[np.float64]:
    """Return how well objects stand out from the rest of their image.

    Args:
        features: float32 [N, C] of one image.
        masks: bool [h, w] of each object.

    Returns:
        float64 [n] in [0, 1]: half the difference between the mean cosine of two patches of the object and that of one
        of its patches and one outside. 0 where the object resembles the rest as much as itself, or there is no rest;
        1 where it is uniform and the rest its opposite.
    """
    return separations(features[None], [masks])[0]


def separations(features: Tensor, masks: Sequence[Sequence[Tensor]]) -> list[npt.NDArray[np.float64]]:
    """Return the `separation` of the objects of each image of a batch, features float32 [B, N, C]."""
    scores: list[npt.NDArray[np.float64]] = []
    for part in split_batch(features):
        scores += _separate(part, masks[len(scores) : len(scores) + len(part)])
    return scores


def _separate(features: Tensor, masks: Sequence[Sequence[Tensor]]) -> list[npt.NDArray[np.float64]]:
    counts = [len(of_image) for of_image in masks]
    inside = np.zeros((len(masks), max(counts), features.shape[1]), bool)  # B k N
    for row, of_image in zip(inside, masks, strict=True):
        for place, mask in enumerate(of_image):
            row[place] = mask.numpy().ravel()
    if not inside.shape[1]:
        return [np.empty(0) for _ in masks]
    unit = F.normalize(features.double(), dim=2)
    own = torch.from_numpy(inside).to(unit.device, non_blocking=True).double() @ unit  # B k C
    others = unit.sum(1, keepdim=True) - own
    within, across = to_host((own * own).sum(2), (own * others).sum(2))  # each B k
    size = inside.sum(2)
    rest = inside.shape[2] - size
    means = within / np.maximum(size, 1) ** 2 - across / np.maximum(size * rest, 1)
    scores = np.where((size > 0) & (rest > 0), np.clip(means / 2, 0.0, 1.0), 0.0)
    return [row[:count] for row, count in zip(scores, counts, strict=True)]


def unit_features(features: Tensor, grid: Grid) -> Tensor:
    """Return features of unit length, float32 [B, N, C]; zero rows stay zero.

    Raises:
        InputError: If `features` is not [B, N, C] with N = h * w, or a value or a square is not finite.
    """
    if features.ndim != 3 or features.shape[1] != grid[0] * grid[1]:
        raise InputError(f"expected features [B, {grid[0] * grid[1]}, C] for grid {grid}, got {tuple(features.shape)}")
    features = features.float()
    length = torch.linalg.vector_norm(features, dim=2, keepdim=True)
    if not torch.isfinite(length).all():
        raise InputError("features hold NaN, infinite or too large values")
    return features / length.clamp_min_(1e-12)
