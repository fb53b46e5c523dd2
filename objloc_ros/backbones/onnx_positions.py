"""Learned positions resampled without asking which size there is: what an exported graph of any size computes.

As a product with two small matrices of weights it follows whatever size comes, where the eager form branches on it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from objloc_ros.types import Grid


def open_pos_embed(pos_embed: Tensor, grid: Grid, *, rule: str) -> Tensor:
    """Resample a position embedding without asking which size there is.

    Args:
        pos_embed: [1, 1 + n * n, C], CLS first; by the rule "antialias" [1, n * n, C].
        grid: Wanted patch rows and columns.
        rule: "dino", "size" or "antialias", see `ViTSpec.pos_embed`.

    Returns:
        [1, 1 + N, C] or [1, N, C]: what the functions of `positions` give, to float32 rounding.
    """
    side = math.isqrt(pos_embed.shape[1])  # n, with CLS and without
    leads = pos_embed.shape[1] - side**2
    rows, columns = (torch.full((), count, dtype=torch.float32) for count in grid)
    surplus = torch.zeros(())
    if rule == "dino":  # 0.1 on each side, but for the grid that it has learned
        learned = torch.logical_and(rows == side, columns == side)
        surplus = torch.where(learned, 0.0, 0.1)
    weigh = antialiased_axis_weights if rule == "antialias" else axis_weights
    down = weigh(grid[0], side, (rows + surplus) / side)  # h n
    across = weigh(grid[1], side, (columns + surplus) / side)  # w n
    table = pos_embed[0, leads:].unflatten(0, (side, side))  # n n C
    patches = across @ (down @ table.flatten(1)).unflatten(1, (side, -1))  # h w C
    return torch.cat([pos_embed[0, :leads], patches.flatten(0, 1)])[None]


def axis_weights(count: int, side: int, scale: Tensor) -> Tensor:
    """Return weights of a bicubic resampling along one axis, PyTorch's kernel (a = -0.75), edges repeated.

    Args:
        count: Number of samples.
        side: Number of values sampled from.
        scale: float32 [], samples per value.

    Returns:
        float32 [count, side]; the samples are its product with the values.
    """
    at = (torch.arange(count, dtype=torch.float32) + 0.5) / scale - 0.5
    taps = at.floor()[:, None] + torch.arange(-1, 3, dtype=torch.float32)
    distance = (at[:, None] - taps).abs()
    near = (1.25 * distance - 2.25) * distance * distance + 1
    far = ((-0.75 * distance + 3.75) * distance - 6) * distance + 3
    weights = torch.where(distance <= 1, near, torch.where(distance < 2, far, 0.0))
    values = torch.arange(side, dtype=torch.float32)
    hits = taps.clamp(0, side - 1)[:, :, None] == values
    return (weights[:, :, None] * hits).sum(1)


def antialiased_axis_weights(count: int, side: int, scale: Tensor) -> Tensor:
    """Return weights of a bicubic resampling with antialiasing, PyTorch's kernel for it (a = -0.5), edges left out.

    Args:
        count: Number of samples.
        side: Number of values sampled from.
        scale: float32 [], samples per value; below 1 the kernel is as much wider.

    Returns:
        float32 [count, side]; the samples are its product with the values.
    """
    at = (torch.arange(count, dtype=torch.float32) + 0.5) / scale - 0.5
    values = torch.arange(side, dtype=torch.float32)
    distance = (at[:, None] - values).abs() * scale.clamp(max=1)
    near = (1.5 * distance - 2.5) * distance * distance + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    weights = torch.where(distance <= 1, near, torch.where(distance < 2, far, 0.0))
    return weights / weights.sum(1, keepdim=True)
