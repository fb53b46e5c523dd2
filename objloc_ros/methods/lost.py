"""LOST: one object per image from the patch that resembles the fewest others.

Siméoni et al., "Localizing Objects with Self-Supervised Transformers and no Labels", BMVC 2021.
"""

from __future__ import annotations

import torch
from torch import Tensor

from objloc_ros.methods.options import LostOptions
from objloc_ros.methods.patch_object import PatchObject, unit_features
from objloc_ros.ops.affinity import exact_arithmetic, gram_strips, split_batch, threshold_strip, to_host
from objloc_ros.ops.regions import component_at
from objloc_ros.types import Grid


@torch.no_grad()
@exact_arithmetic()
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
        One object per image; `degenerate` and empty when the seed's own feature is zero, so that nothing is similar
        to it, `degenerate` when all patches are alike.

    Raises:
        InputError: If the shapes disagree or a value is not finite.
        ParameterError: If `k_patches` is below 1.
    """
    LostOptions.check(k_patches=k_patches)
    found: list[PatchObject] = []
    for part in split_batch(unit_features(features, grid)):
        keys = features[len(found) : len(found) + len(part)].double()
        found += _locate(keys, degrees(part), grid, k_patches)
    return found


def degrees(features: Tensor) -> Tensor:
    """Count the other patches with a positive inner product (paper, section 3.2).

    Args:
        features: float32 [B, N, C] of unit length, or zero.

    Returns:
        float32 [B, N], whole numbers.
    """
    counts = features.new_zeros(features.shape[:2])
    for first, strip in gram_strips(features):
        end = first + strip.shape[1]
        positive = threshold_strip(strip, features, first, 0.0)
        counts[:, first:end] += positive.sum(2)
        if end < counts.shape[1]:
            counts[:, end:] += positive[:, :, end - first :].sum(1)
    return counts - (torch.linalg.vector_norm(features, dim=2) > 0).float()


def _locate(keys: Tensor, degree: Tensor, grid: Grid, k_patches: int) -> list[PatchObject]:
    """Grow the seed of each image: keys float64 [B, N, C], degree float32 [B, N]."""
    lowest = torch.argsort(degree, dim=1, stable=True)[:, :k_patches]  # B k
    helpers = keys.gather(1, lowest[:, :, None].expand(-1, -1, keys.shape[2]))  # B k C
    voters = (helpers @ helpers[:, 0, :, None] > 0).double()  # B k 1
    votes = (keys @ (helpers.mT @ voters))[:, :, 0]  # B N
    alike = (degree == degree.shape[1] - 1).all(1)
    sides, seeds, degenerate = to_host(votes > 0, lowest[:, 0], alike | ~voters.any(dim=1)[:, 0])
    return [
        PatchObject(torch.from_numpy(component_at(side.reshape(grid), int(seed))), int(seed), bool(is_degenerate))
        for side, seed, is_degenerate in zip(sides, seeds, degenerate, strict=True)
    ]
