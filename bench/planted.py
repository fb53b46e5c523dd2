"""Features with planted objects: what the discovery methods are timed on, without a backbone."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from objloc_ros.types import Grid

CENTRES = ((0.28, 0.25), (0.3, 0.72), (0.72, 0.3), (0.7, 0.72))
"""Where the planted objects lie, (y, x) in parts of the grid."""


def planted_features(grid: Grid, images: int = 1, channels: int = 384, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features that resemble a self-supervised ViT's keys: objects before a background, and noise.

    Each of four objects has a direction of its own, turned a little away from the background's, so that cosines between
    the two are negative. The background mixes its direction with three others whose weights vary smoothly over the
    grid. Patches on an object's edge hold both. Cosines lie between about -0.3 and 0.9, half of them above 0.2.

    Args:
        grid: Patch rows and columns.
        images: Number of images B, each with other directions, positions and sizes.
        channels: Feature width C.
        seed: Of the random numbers.

    Returns:
        Features float32 [B, N, C] and the objects int64 [B, h, w], 0 on the background.
    """
    generator = torch.Generator().manual_seed(seed)
    features, labels = [], []
    for _ in range(images):
        cover = planted_cover(grid, generator)
        background, *others = F.normalize(torch.randn(4 + len(cover), channels, generator=generator), dim=1)
        waves, objects = torch.stack(others[:3]), torch.stack(others[3:]) - 0.15 * background
        smooth = torch.randn(1, 3, 4, 4, generator=generator)
        smooth = F.interpolate(smooth, size=grid, mode="bicubic", align_corners=True)[0]
        share = cover.flatten(1).T
        clean = share @ objects + (1 - share.sum(1, keepdim=True)) * (background + 0.45 * smooth.flatten(1).T @ waves)
        noise = torch.randn(clean.shape, generator=generator) / channels**0.5
        features.append(clean + 0.4 * noise)
        labels.append(torch.where((cover > 0.5).any(0), cover.argmax(0) + 1, 0))
    return torch.stack(features), torch.stack(labels)


def planted_cover(grid: Grid, generator: torch.Generator) -> Tensor:
    """The part of each patch that each object covers: float32 [objects, h, w]; discs and rectangles with soft edges."""
    y, x = torch.meshgrid(*((torch.arange(side) + 0.5) / side for side in grid), indexing="ij")
    cover = []
    for i, centre in enumerate(CENTRES):
        random = torch.rand(4, generator=generator) - 0.5
        dy, dx = ((y - centre[0] - 0.06 * random[0]).abs(), (x - centre[1] - 0.06 * random[1]).abs())
        dy, dx = dy / (0.15 + 0.08 * random[2]), dx / (0.15 + 0.08 * random[3])
        distance = torch.maximum(dy, dx) if i % 2 else torch.hypot(dy, dx)
        cover.append((5 * (1 - distance) + 0.5).clamp(0, 1))
    return torch.stack(cover)
