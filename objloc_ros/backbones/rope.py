"""DINOv3's rotary position embedding: queries and keys of patches are turned by where the patch lies in the image.

Positions are fractions of the image's sides in [-1, 1], each side for itself, so a network has no size of its own and
nothing is resampled (Siméoni et al., "DINOv3", 2025; Su et al., "RoFormer", 2021). CLS and registers lie nowhere and
are not turned.
"""

from __future__ import annotations

import math
from typing import cast

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from objloc_ros.backbones.attention import Attention, attend
from objloc_ros.types import Grid

BASE = 100.0
"""Ratio of the longest wave to the shortest, nearly: their lengths are BASE^(i / n) for i < n."""


class RopePeriods(nn.Module):
    """The wave lengths, in units of half an image: `periods` float32 [d / 4] for heads of width d."""

    periods: Tensor

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        count = head_dim // 4
        self.register_buffer("periods", BASE ** (torch.arange(count, dtype=torch.float32) / count))


class RopeAttention(Attention):
    """Attention whose queries and keys are turned."""

    def forward(self, x: Tensor, turns: Tensor) -> Tensor:  # type: ignore[override]  # turns stand where masks did
        """Mix tokens [B, T, C], turned by float32 [2, T, d]."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, self.head_dim)).permute(2, 0, 3, 1, 4)  # B heads T d
        mixed = attend(turn(q, turns), turn(k, turns), v).transpose(1, 2).flatten(2)
        return cast(Tensor, self.proj(mixed))


class RopeBlock(Block):
    """timm's block, of which it has the parameters, around `RopeAttention`."""

    def forward(self, x: Tensor, turns: Tensor) -> Tensor:  # type: ignore[override]  # turns stand where masks did
        """Run the block on tokens [B, T, C], turned by float32 [2, T, d]."""
        x = x + self.ls1(self.attn(self.norm1(x), turns))
        return cast(Tensor, x + self.ls2(self.mlp(self.norm2(x))))


def rope_turns(periods: Tensor, grid: Grid, *, leads: int) -> Tensor:
    """Compute by which angles tokens are turned.

    Args:
        periods: Wave lengths float32 [d / 4].
        grid: Patch rows and columns.
        leads: Tokens before the patches, which are not turned.

    Returns:
        float32 [2, leads + N, d]: cosines and sines. The first half of a head's width holds a quarter for the row and a
        quarter for the column, and the second half the same again.
    """
    rows, columns = (
        2 * (torch.arange(count, device=periods.device, dtype=torch.float32) + 0.5) / count - 1 for count in grid
    )
    down = (rows[:, None, None] / periods).expand(-1, grid[1], -1)  # h w d/4
    across = (columns[None, :, None] / periods).expand(grid[0], -1, -1)  # h w d/4
    angles = 2 * math.pi * torch.cat([down, across] * 2, dim=-1).flatten(0, 1)  # N d
    angles = torch.cat([angles.new_zeros(leads, angles.shape[1]), angles])
    return torch.stack([angles.cos(), angles.sin()])


def turn(x: Tensor, turns: Tensor) -> Tensor:
    """Turn each pair of channels (i, i + d / 2) of queries or keys [B, heads, T, d] by its angle, [2, T, d]."""
    cosines, sines = turns
    first, second = x.chunk(2, dim=-1)
    return (x * cosines + torch.cat([-second, first], dim=-1) * sines).to(x.dtype)
