"""TokenCut: one object per image by a normalised cut of the patch graph.

Wang et al., "Self-Supervised Transformers for Unsupervised Object Discovery using Normalized Cut", CVPR 2022.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import eigsh
from torch import Tensor
from torch.nn import functional as F

from objloc_ros.methods.patch_object import PatchObject, check_features, seed_component
from objloc_ros.types import Grid

TIE = 1e-6
"""Entries within this relative distance of the largest one count as tied; the first is the seed."""

GAP = 1e-6
"""Below this distance of the second and third eigenvalue the cut is not determined."""

MARGIN = 1e-9
"""Nor is it where an entry lies this close to the mean, in standard deviations."""


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
    """
    check_features(features, grid)
    return [_locate(f, grid, tau, eps, binary) for f in features.float()]


def _locate(f: Tensor, grid: Grid, tau: float, eps: float, binary: bool) -> PatchObject:
    f = F.normalize(f, dim=-1)
    similarity = f @ f.T
    weights = torch.where(similarity > tau, torch.ones_like(similarity) if binary else similarity, eps)
    if len(f) < 2 or bool((weights == weights[0, 0]).all()):
        return PatchObject(torch.zeros(grid, dtype=torch.bool, device=f.device), 0, degenerate=True)
    cut, gap = second_eigenvector(weights.double().cpu().numpy())
    offset = cut - cut.mean()
    side = offset > 0
    size = np.abs(cut)
    seed = int(np.argmax(size >= (1 - TIE) * size.max()))
    if not side[seed]:
        side = ~side
    mask = seed_component(torch.from_numpy(side).view(grid), seed).to(f.device)
    return PatchObject(mask, seed, degenerate=gap < GAP or bool(np.abs(offset).min() < MARGIN * offset.std()))


def second_eigenvector(affinity: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Second smallest solution of (D - A) x = lambda D x, and its distance to the third eigenvalue.

    With y = D^1/2 x this is the largest eigenpair of D^-1/2 A D^-1/2 once its known top vector D^1/2 1 is deflated.
    """
    root = np.sqrt(affinity.sum(1))
    top = root / np.linalg.norm(root)
    deflated = affinity / np.outer(root, root) - np.outer(top, top)
    if len(deflated) <= 3:
        values, vectors = np.linalg.eigh(deflated)
    else:
        start = np.random.default_rng(0).standard_normal(len(root))
        values, vectors = eigsh(deflated, k=2, which="LA", v0=start)
    return vectors[:, -1] / root, float(values[-1] - values[-2])
