"""The normalised cut of a graph in two (Shi and Malik, PAMI 2000), as TokenCut and MaskCut read it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from objloc_ros.ops.affinity import Affinity, to_host
from objloc_ros.ops.spectral import EIGENVALUE_TOL, Eigenpairs, refined_eigenpairs, smallest_eigenpairs

Vector = npt.NDArray[np.float64]

TIE_TOL = 1e-6
"""Relative distance from the largest entry within which entries count as tied; the first of them is the seed."""

ROUNDING_TOL = 3e-7
"""Relative difference below which entries of patches with the same links differ only by the rounding of products."""

MIN_OFFSET_STD = 1e-9
"""Distance of an entry from the mean, in standard deviations, below which its side is not determined."""


@dataclass(frozen=True)
class Cut:
    """Two sides of one graph.

    Args:
        vector: float64 [N], the second eigenvector, x^T D x = 1, oriented so that its largest entry is positive.
        side: bool [N], the entries above the mean: the seed's side.
        seed: Index of the largest entry, the first among tied ones.
        empty: Whether all weights are equal, so that there is nothing to cut.
        degenerate: Whether the graph determines no cut: the second eigenvalue equals the third, or an entry the mean.
    """

    vector: Vector
    side: npt.NDArray[np.bool_]
    seed: int
    empty: bool
    degenerate: bool


def bipartition(graph: Affinity) -> list[Cut]:
    """Cut every graph of a batch at the mean of its second eigenvector, one `Cut` per graph.

    Where the eigenvector's estimated error leaves open on which side an entry lies or which one is largest, it is
    computed again, more accurately.

    Args:
        graph: Graphs of at least two patches.
    """
    pairs = smallest_eigenpairs(graph)
    if not all(_is_decided(vector, errors) for vector, errors, _, _ in _unpack_first(pairs)):
        pairs = refined_eigenpairs(graph, pairs)
    return [_cut(*first_pair) for first_pair in _unpack_first(pairs)]


def argmax_first(values: Vector) -> int:
    """Return the index of the first entry that equals the largest one up to round-off."""
    largest = values.max()
    return int((values >= largest - TIE_TOL * abs(largest)).argmax())


def _cut(vector: Vector, errors: Vector, value: float, gap: float) -> Cut:
    seed = argmax_first(np.abs(vector))
    oriented = vector if vector[seed] > 0 else -vector
    offset = oriented - oriented.mean()
    undecided = (np.abs(offset) <= np.maximum(MIN_OFFSET_STD * offset.std(), errors)).any()
    return Cut(
        oriented, offset > 0, seed, empty=value > 1 - EIGENVALUE_TOL, degenerate=bool(gap < EIGENVALUE_TOL or undecided)
    )


def _is_decided(vector: Vector, errors: Vector) -> bool:
    """Return whether errors of this size change neither the sides nor the seed; both float64 [N]."""
    if (np.abs(vector - vector.mean()) <= errors).any():
        return False
    size = np.abs(vector)
    largest = size.max()
    rivals = size + 2 * errors >= largest - TIE_TOL * largest
    below, doubt = 1 - size[rivals] / largest, 2 * errors[rivals] / largest
    return bool((below <= np.maximum(TIE_TOL - doubt, ROUNDING_TOL)).all())


def _unpack_first(pairs: Eigenpairs) -> list[tuple[Vector, Vector, float, float]]:
    """Return first eigenvector, errors of its offsets from the mean, eigenvalue and gap of each graph."""
    errors = pairs.errors + pairs.mean_errors[:, :, None]
    rows = to_host(*(field[:, 0] for field in (pairs.vectors, errors, pairs.values, pairs.gaps)))
    return list(zip(*rows, strict=True))
