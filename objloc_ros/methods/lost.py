"""LOST: one object per image from the patch that resembles the fewest others.

Siméoni et al., "Localizing Objects with Self-Supervised Transformers and no Labels", BMVC 2021.
"""

from __future__ import annotations

import torch
from torch import Tensor

from objloc_ros.methods.patch_object import PatchObject, check_features, seed_component
from objloc_ros.types import Grid


def lost(features: Tensor, grid: Grid, *, k_patches: int = 100) -> list[PatchObject]:
    """Locate one object in each image.

    The degree of a patch is the number of others with a positive inner product. The seed is the patch of lowest
    degree (ties: the first in row-major order); of the `k_patches` lowest, those similar to the seed vote, and the
    object is the seed's component of patches with a positive vote.

    Args:
        features: float32 [B, N, C], last-block keys without CLS, not normalised; N = h * w, row-major.
        grid: Patch rows and columns (h, w).
        k_patches: Size of the set that the seed is expanded with; fewer when N is smaller.

    Returns:
        One object per image; `degenerate` when the seed's own feature is zero, so that nothing is similar to it.

    Raises:
        InputError: If the shapes disagree or a value is not finite.
    """
    check_features(features, grid)
    return [_locate(f, grid, k_patches) for f in features.float()]


def _locate(f: Tensor, grid: Grid, k_patches: int) -> PatchObject:
    similar = f @ f.T > 0
    degree = similar.sum(1) - similar.diagonal().long()
    lowest = torch.argsort(degree, stable=True)[:k_patches]
    seed = int(lowest[0])
    voters = lowest[similar[seed, lowest]]
    votes = f @ f[voters].sum(0)
    mask = seed_component((votes > 0).view(grid), seed)
    return PatchObject(mask, seed, degenerate=not bool(similar[seed, seed]))
