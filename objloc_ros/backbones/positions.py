"""Position embeddings of a ViT, learned for one grid of patches and resampled to others."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from objloc_ros.types import Grid

MAX_TABLES = 8
"""Grids whose tables are kept: one for each size of a camera."""


class Positions:
    """Tables by one rule, resampled once for each grid as long as the learned one stays as it is.

    Args:
        resample: `(pos_embed, grid) -> table`.
    """

    def __init__(self, resample: Callable[[Tensor, Grid], Tensor]) -> None:
        self._resample = resample
        self._kept: dict[tuple[Any, ...], tuple[Tensor, Tensor]] = {}

    def __call__(self, pos_embed: Tensor, grid: Grid) -> Tensor:
        """Resample the learned table [1, 1 + n * n, C] to a grid: [1, 1 + N, C]; computed anew where gradients pass.

        A table without a row for CLS stays without, and of rotary positions `pos_embed` is what they are computed from.
        """
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or pos_embed.is_inference():
            return self._resample(pos_embed, grid)
        key = (grid, pos_embed.device, pos_embed.dtype, pos_embed.data_ptr(), pos_embed._version)
        kept = self._kept.get(key)
        if kept is None:
            for oldest in list(self._kept)[: 1 - MAX_TABLES]:
                self._kept.pop(oldest, None)
            # The learned table's memory is kept, too: as long as it is, no other one can have its address.
            kept = self._kept[key] = pos_embed.detach(), self._resample(pos_embed, grid)
        return kept[1]


def dino_pos_embed(pos_embed: Tensor, grid: Grid) -> Tensor:
    """Resample the position embedding as DINO does: bicubic by a scale factor with 0.1 added to each side.

    PyTorch samples with the given factor, not with the ratio of sizes, so the result differs measurably from
    size-based resampling. A grid equal to the learned one is left untouched.

    Args:
        pos_embed: [1, 1 + n * n, C], CLS first.
        grid: Wanted patch rows and columns.
    """
    side = math.isqrt(pos_embed.shape[1] - 1)
    if grid == (side, side):
        return pos_embed
    scale = ((grid[0] + 0.1) / side, (grid[1] + 0.1) / side)
    return _resample(pos_embed, side, scale_factor=scale)


def sized_pos_embed(pos_embed: Tensor, grid: Grid) -> Tensor:
    """Resample the position embedding by plain size-based bicubic interpolation (no antialiasing)."""
    side = math.isqrt(pos_embed.shape[1] - 1)
    return pos_embed if grid == (side, side) else _resample(pos_embed, side, size=grid)


def antialiased_pos_embed(pos_embed: Tensor, grid: Grid) -> Tensor:
    """Resample the position embedding as DINOv2 with registers does: size-based, bicubic, with antialiasing.

    Args:
        pos_embed: [1, n * n, C], without a row for CLS.
        grid: Wanted patch rows and columns.
    """
    side = math.isqrt(pos_embed.shape[1])
    return pos_embed if grid == (side, side) else _resample(pos_embed, side, size=grid, antialias=True)


def _resample(pos_embed: Tensor, side: int, **target: Any) -> Tensor:
    leads, patches = pos_embed.split([pos_embed.shape[1] - side**2, side**2], dim=1)
    patches = patches.transpose(1, 2).unflatten(2, (side, side))
    patches = F.interpolate(patches, mode="bicubic", align_corners=False, **target)
    return torch.cat([leads, patches.flatten(2).transpose(1, 2)], dim=1)
