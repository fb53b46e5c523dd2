"""The object that a discovery method returns: a mask on the patch grid and the seed it grew from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from objloc_ros.errors import InputError
from objloc_ros.ops.regions import components
from objloc_ros.types import Grid, Size

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class PatchObject:
    """One object on the patch grid.

    Args:
        mask: bool [h, w]; empty when there is no object.
        seed: Row-major index of the patch that the mask grew from.
        degenerate: True when the features do not determine an answer.
    """

    mask: Tensor
    seed: int
    degenerate: bool = False

    def box(self, patch: int, image_size: Size) -> Box | None:
        """Pixel box (x1, y1, x2, y2), max side exclusive, clipped to the unpadded image; None for an empty mask."""
        rows, columns = (torch.nonzero(self.mask.any(dim)).flatten().tolist() for dim in (1, 0))
        if not rows:
            return None
        height, width = image_size
        right, bottom = min(patch * (columns[-1] + 1), width), min(patch * (rows[-1] + 1), height)
        left, top = patch * columns[0], patch * rows[0]
        return (left, top, right, bottom) if left < right and top < bottom else None


def seed_component(mask: Tensor, seed: int) -> Tensor:
    """The 4-connected component of a bool mask [h, w] that contains a row-major index; empty if the seed is not set."""
    labels = components(mask.cpu().numpy()).labels
    wanted = int(labels.flat[seed])
    return torch.from_numpy((labels == wanted) & (wanted > 0)).to(mask.device)


def check_features(features: Tensor, grid: Grid) -> None:
    """Raise InputError unless `features` is finite float [B, N, C] with N = h * w."""
    if features.ndim != 3 or features.shape[1] != grid[0] * grid[1]:
        raise InputError(f"expected features [B, {grid[0] * grid[1]}, C] for grid {grid}, got {tuple(features.shape)}")
    if not torch.isfinite(features).all():
        raise InputError("features hold NaN or infinite values")
