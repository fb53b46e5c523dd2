"""Literal formulations of the discovery methods: as paper and specification write them, one image at a time.

They are what `bench/discovery.py` measures against and what the tests compare the product's results with.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from scipy import ndimage
from scipy.linalg import eigh
from scipy.sparse.linalg import ArpackError, eigsh
from torch import Tensor
from torch.nn import functional as F

from objloc_ros.types import Grid, Size

Mask = npt.NDArray[np.bool_]
Vector = npt.NDArray[np.float64]

EPS = 1e-5
"""Weight of pairs that are not linked."""


def lost(features: Tensor, grid: Grid, *, k_patches: int = 100, symmetrise: bool = False) -> Mask:
    """LOST with the whole similarity matrix.

    Args:
        features: float32 [N, C].
        grid: Patch rows and columns.
        k_patches: Patches of lowest degree that may help to expand the seed.
        symmetrise: Also build the sum of the matrix and its transpose, which the original never uses.

    Returns:
        bool [h, w].
    """
    similarity = features @ features.T
    order = _by_degree(similarity, symmetrise)
    seed, candidates = order[0], order[:k_patches]
    similars = candidates[similarity[seed, candidates] > 0]
    votes = similarity[similars].sum(0)
    return _component((votes > 0).view(grid).numpy(), int(seed))


def _by_degree(similarity: Tensor, symmetrise: bool) -> Tensor:
    """Patches by the number of others that resemble them, fewest first; equal ones in row-major order."""
    positive = similarity.clone()
    positive.fill_diagonal_(0)
    positive[positive < 0] = 0
    if symmetrise:
        _ = positive + positive.T
    return torch.argsort((positive > 0).sum(1).float(), stable=True)


def tokencut(features: Tensor, grid: Grid, *, tau: float = 0.2) -> Mask:
    """TokenCut with a dense generalised eigensolver: the object's mask, bool [h, w]."""
    vector = second_eigenvector(features, tau)
    side = vector > vector.mean()
    seed = _first_largest(np.abs(vector))
    if not side[seed]:
        side = ~side
    return _component(side.reshape(grid), seed)


def second_eigenvector(features: Tensor, tau: float) -> Vector:
    """Solve (D - A) x = lambda D x for the second smallest lambda; A is 1 where the cosine exceeds `tau`, else EPS."""
    unit = F.normalize(features, dim=1)
    linked = (unit @ unit.T).numpy() > tau
    weights = np.where(linked.astype(float) == 0, EPS, linked)
    degrees = np.diag(weights.sum(1))
    _, vectors = eigh(degrees - weights, degrees, subset_by_index=[1, 2])
    return vectors[:, 0]


def maskcut(
    features: Tensor, grid: Grid, *, n_masks: int = 3, tau: float = 0.15, size: Size = (480, 480)
) -> npt.NDArray[np.uint8]:
    """MaskCut with one affinity and one dense eigensolver per round, before the refinement along edges.

    Returns:
        uint8 [n_masks, height, width] of zeros and ones, disjoint.
    """
    painted = np.zeros(grid, bool)
    current = np.zeros(grid, bool)
    outputs: list[npt.NDArray[np.uint8]] = []
    for i in range(n_masks):
        if i:
            painted |= current
            features = features * torch.from_numpy(~painted).view(-1, 1)
        mask = _foreground_component(second_eigenvector(features, tau), grid)
        if i and _is_rejected(mask, current):
            mask = np.zeros(grid, bool)
        current = mask
        pixels = F.interpolate(torch.from_numpy(mask)[None, None].float(), size=size, mode="nearest")[0, 0].numpy()
        outputs.append(np.clip(pixels - sum(outputs), 0, None).astype(np.uint8))
    return np.stack(outputs)


def _foreground_component(vector: Vector, grid: Grid) -> Mask:
    """The side of the seed, or the other one where that holds three corners of the grid, around its largest entry.

    The original counts the corners before it looks for the seed, so that its answer depends on the eigenvector's
    arbitrary sign where the seed's side holds three; the vector is turned to the seed first here.
    """
    side = (vector > vector.mean()).reshape(grid)
    if not side.flat[_first_largest(np.abs(vector))]:
        side, vector = ~side, -vector
    if side[[0, 0, -1, -1], [0, -1, 0, -1]].sum() >= 3:
        side, vector = ~side, -vector
    return _component(side, _first_largest(vector))


def _is_rejected(mask: Mask, previous: Mask) -> bool:
    union = (mask | previous).sum()
    repeats = union > 0 and (mask & previous).sum() / union > 0.5
    return bool(repeats or mask.sum() / mask.size <= 0.01)


def deep_spectral(
    features: Tensor, grid: Grid, *, n_vectors: int = 5
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], Mask]:
    """Deep Spectral Methods by shift and invert on the dense float32 matrix, as the original computes.

    Returns:
        Eigenvalues [K], eigenvectors [K, N] and the segment, bool [h, w], where the second one is positive.
    """
    unit = F.normalize(features, dim=1)
    weights = (unit @ unit.T).clamp(min=0)
    weights = (weights / weights.max()).numpy()
    sums = weights.sum(1)
    sums[sums < 1e-12] = 1
    degrees = np.diag(sums)
    try:
        values, columns = eigsh(degrees - weights, k=n_vectors, sigma=0, which="LM", M=degrees)
    except (ValueError, ArpackError):  # the matrix is singular: now and then also in the last bit, and LU divides by 0
        values, columns = eigsh(degrees - weights, k=n_vectors, which="SM", M=degrees)
    vectors = columns.T[values.argsort()]
    for vector in vectors:
        if 0.5 < (vector > 0).mean() < 1:
            vector *= -1
    return np.sort(values), vectors, (vectors[1] > 0).reshape(grid)


def _first_largest(values: Vector) -> int:
    """The first of the entries that equal the largest: patches with the same links tie, and round-off would choose."""
    return int((values >= (1 - 1e-6) * values.max()).argmax())


def _component(mask: Mask, index: int) -> Mask:
    """The 4-connected component of a mask at a row-major index."""
    labels, _ = ndimage.label(mask)
    return (labels == labels.flat[index]) & mask
