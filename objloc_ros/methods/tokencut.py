"""TokenCut: one object per image by a normalised cut of the patch graph.

Wang et al., "Self-Supervised Transformers for Unsupervised Object Discovery using Normalized Cut", CVPR 2022.
"""

from __future__ import annotations

import torch
from torch import Tensor

from objloc_ros.methods.options import TokenCutOptions
from objloc_ros.methods.patch_object import PatchObject, nothing, unit_features
from objloc_ros.ops.affinity import binary_affinity, exact_arithmetic, split_batch, thresholded_affinity
from objloc_ros.ops.ncut import Cut, bipartition
from objloc_ros.ops.regions import component_at
from objloc_ros.types import Grid


@torch.no_grad()
@exact_arithmetic()
def tokencut(
    features: Tensor, grid: Grid, *, tau: float = 0.2, eps: float = 1e-5, binary: bool = True
) -> list[PatchObject]:
    """Locate one object in each image.

    Patches are linked with weight 1 where their cosine exceeds `tau`, else `eps`. The second generalised eigenvector
    of (D - A) x = lambda D x is cut at its mean; the object is the side of the largest entry, reduced to that entry's
    4-connected component.

    Args:
        features: float32 [B, N, C], last-block keys without CLS; N = h * w, row-major.
        grid: Patch rows and columns (h, w).
        tau: Cosine above which two patches are linked.
        eps: Weight of all other links.
        binary: False keeps the cosines themselves above `tau`.

    Returns:
        One object per image; `degenerate` with an empty mask for a single patch or constant features, `degenerate`
        with one of the possible masks where the second and third eigenvalue coincide.

    Raises:
        InputError: If the shapes disagree or a value is not finite.
        ParameterError: If `tau` or `eps` is out of range.
    """
    TokenCutOptions.check(tau=tau, eps=eps, binary=binary)
    features = unit_features(features, grid)
    if features.shape[1] < 2:
        return [nothing(grid) for _ in features]
    affinity = binary_affinity if binary else thresholded_affinity
    found = []
    for part in split_batch(features):
        found += [_object(cut, grid) for cut in bipartition(affinity(part, tau, eps))]
    return found


def _object(cut: Cut, grid: Grid) -> PatchObject:
    if cut.empty:
        return nothing(grid)
    mask = torch.from_numpy(component_at(cut.side.reshape(grid), cut.seed))
    return PatchObject(mask, cut.seed, cut.degenerate)
