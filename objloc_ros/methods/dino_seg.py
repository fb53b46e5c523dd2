"""DINO-seg: the patches that one attention head of the CLS token looks at most.

The baseline of LOST (Siméoni et al., BMVC 2021) after the segmentations in Caron et al., "Emerging Properties in
Self-Supervised Vision Transformers", ICCV 2021.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from objloc_ros.errors import InputError, ParameterError
from objloc_ros.methods.options import DinoSegOptions
from objloc_ros.methods.patch_object import PatchObject, nothing
from objloc_ros.ops.regions import components
from objloc_ros.types import Grid


@torch.no_grad()
def dino_seg(
    cls_attention: Tensor, grid: Grid, *, head: int = 4, mass: float = 0.6, compat: bool = False
) -> list[PatchObject]:
    """Locate one object in each image: the largest component of the most attended patches.

    Args:
        cls_attention: float32 [B, heads, N], softmax over all tokens, CLS column dropped; N = h * w, row-major.
        grid: Patch rows and columns (h, w).
        head: Index of the head, from 0.
        mass: Part of the attention to keep.
        compat: Choose the component as the original does, which never takes the last one in raster order, and takes the
            background where there is only one.

    Returns:
        One object per image, its seed the most attended patch; `degenerate` where all patches draw equal attention.

    Raises:
        InputError: If the shapes disagree or a value is negative or not finite.
        ParameterError: If an option is out of range or there is no such head.
    """
    DinoSegOptions.check(head=head, mass=mass)
    if cls_attention.ndim != 3 or cls_attention.shape[2] != grid[0] * grid[1]:
        raise InputError(
            f"expected attention [B, heads, {grid[0] * grid[1]}] for grid {grid}, got {tuple(cls_attention.shape)}"
        )
    if head >= cls_attention.shape[1]:
        raise ParameterError(f"head must be below the number of heads {cls_attention.shape[1]}, got {head}")
    attention = cls_attention[:, head].double()
    if not (torch.isfinite(attention).all() and (attention >= 0).all()):
        raise InputError("attention holds NaN, infinite or negative values")
    return [_locate(row, grid, mass, compat) for row in attention.cpu().numpy()]


def _locate(attention: np.ndarray, grid: Grid, mass: float, compat: bool) -> PatchObject:
    if attention.min() == attention.max():
        return nothing(grid)
    order = np.argsort(attention, kind="stable")
    kept = np.empty(len(attention), bool)
    kept[order] = np.cumsum(attention[order]) > (1 - mass) * attention.sum()
    parts = components(kept.reshape(grid))
    label = _original_choice(parts.labels) if compat else parts.largest()
    mask = parts.labels == label
    seed = int(np.where(mask.ravel(), attention, -1).argmax())
    return PatchObject(torch.from_numpy(mask), seed)


def _original_choice(labels: np.ndarray) -> int:
    """Return the largest of the labels 1, ..., n - 1, or 0 where it is the only one: label n is never looked at."""
    sizes = np.bincount(labels.ravel())[:-1]
    return 1 + int(sizes[1:].argmax()) if len(sizes) > 1 else 0
