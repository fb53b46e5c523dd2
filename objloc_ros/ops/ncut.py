"""The normalised cut of a graph in two (Shi and Malik, PAMI 2000), as TokenCut and MaskCut read it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from objloc_ros.ops.affinity import Affinity, on_host
from objloc_ros.ops.spectral import SAME, Eigenpairs, refined_eigenpairs, smallest_eigenpairs

Vector = npt.NDArray[np.float64]

TIE = 1e-6
"""Entries within this relative distance of the largest one count as tied; the first is the seed."""

EQUAL = 3e-7
"""Entries of patches with the same links differ by less than this part of the largest: by the rounding of products."""

MARGIN = 1e-9
"""Where an entry lies this close to the mean, in standard deviations, its side is not determined."""


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
    """Cut every graph of a batch at the mean of its second eigenvector.

    Where the eigenvector's estimated error leaves open on which side an entry lies or which one is largest, it is
    computed again, more accurately.

    Args:
        graph: Graphs of at least two patches.
    """
    pairs = smallest_eigenpairs(graph)
    if not all(_is_settled(vector, errors) for vector, errors, _, _ in _first(pairs)):
        pairs = refined_eigenpairs(graph, pairs)
    return [_cut(*each) for each in _first(pairs)]


def first_largest(values: Vector) -> int:
    """Index of the first entry that equals the largest one, round-off aside."""
    largest = values.max()
    return int((values >= largest - TIE * abs(largest)).argmax())


def _cut(vector: Vector, errors: Vector, value: float, gap: float) -> Cut:
    seed = first_largest(np.abs(vector))
    oriented = vector if vector[seed] > 0 else -vector
    offset = oriented - oriented.mean()
    undecided = (np.abs(offset) <= np.maximum(MARGIN * offset.std(), errors)).any()
    return Cut(oriented, offset > 0, seed, empty=value > 1 - SAME, degenerate=bool(gap < SAME or undecided))


def _is_settled(vector: Vector, errors: Vector) -> bool:
    """Whether errors of this size change neither the sides nor the seed; both float64 [N]."""
    if (np.abs(vector - vector.mean()) <= errors).any():
        return False
    size = np.abs(vector)
    largest = size.max()
    rivals = size + 2 * errors >= largest - TIE * largest
    below, doubt = 1 - size[rivals] / largest, 2 * errors[rivals] / largest
    return bool((below <= np.maximum(TIE - doubt, EQUAL)).all())


def _first(pairs: Eigenpairs) -> list[tuple[Vector, Vector, float, float]]:
    """First eigenvector, the errors of its offsets from the mean, eigenvalue and gap of each graph."""
    errors = pairs.errors + pairs.mean_errors[:, :, None]
    rows = (on_host(field)[:, 0] for field in (pairs.vectors, errors, pairs.values, pairs.gaps))
    return list(zip(*rows, strict=True))
