"""A growing space of vectors and the best approximations of a graph's eigenvectors inside it (Rayleigh-Ritz)."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace

from objloc_ros.ops.affinity import Affinity, Array

GROWTH = 32
"""Vectors for which room is made at a time."""

NOTHING = 1e-12
"""A direction shorter than this after orthogonalisation is round-off: the space holds it already."""

LITTLE = 1e-4
"""Part of a vector's squared length; where less remains, so that round-off counts, it is orthogonalised again."""

ALONE = 1e-12
"""A row sum below this is none."""


class Ritz(NamedTuple):
    """Approximate eigenpairs of M, the largest first.

    Args:
        values: float64 [B, k].
        vectors: float64 [B, k, N], orthonormal.
        residuals: float64 [B, k, N], M y - theta y.
    """

    values: Array
    vectors: Array
    residuals: Array

    def lengths(self) -> Array:
        """Lengths of the residuals, float64 [B, k]."""
        return (self.residuals**2).sum(2) ** 0.5


def known_eigenvector(graph: Affinity) -> tuple[Array, Array]:
    """M's eigenvector of value 1, of unit length, and the roots of D, both float64 [B, N].

    A patch without any link, not even to itself, has a row sum of 0: its D is set to 1, and it is no part of the
    eigenvector.
    """
    degrees = graph.degrees
    alone = 1.0 * (degrees < ALONE)
    length = (degrees.sum(1) + NOTHING**2) ** 0.5
    return degrees**0.5 / length[:, None], (degrees + alone) ** 0.5


class KrylovSpace:
    """An orthonormal basis, its images under M = D^-1/2 W D^-1/2, and M's matrix in that basis.

    Vectors are kept in float64 and orthogonalised against all others (twice where little of them remains), among them
    M's known first eigenvector D^1/2 1. The vector to come is what the last image adds to the space (so it is a Krylov
    space), or one given.

    Args:
        graph: The weights W.
        fine: Whether to multiply in all but float64, or in float32.

    Attributes:
        root: Square roots of the row sums, float64 [B, N].
        size: Number of vectors besides the known one.
    """

    def __init__(self, graph: Affinity, *, fine: bool = False) -> None:
        self._graph, self._fine = graph, fine
        first, self.root = known_eigenvector(graph)
        self._xp = array_namespace(first)
        self._inverse = 1 / self.root
        self._basis = self._room(GROWTH, first.shape[1])
        self._images = self._room(GROWTH, first.shape[1])
        self._matrix = self._room(GROWTH, GROWTH)
        self._basis[:, 0] = first
        self.size = 0

    def start(self, *, seed: int) -> None:
        """Turn to the image of a random vector, the same one on every run.

        Patches with the same links have the same entries in an image, thus in all that follows from it, and thus in the
        eigenvectors, however far these are from convergence.
        """
        self.turn(self._image(self._random(seed)))

    def turn(self, direction: Array) -> None:
        """Grow in a direction float64 [B, N] next, and leave the last image's addition out."""
        self._set_next(self._split(direction)[1])

    def expand(self, steps: int = 1) -> None:
        """Take more vectors into the space, at the cost of one product with the graph each."""
        for _ in range(steps):
            self._expand()

    def estimate(self, k: int) -> Array:
        """Lengths of the residuals of `ritz`, [B, k], without a look at long vectors.

        For a space that turned only once: all that its images miss is then what the last one adds.
        """
        _, weights = self._eigenpairs(k)
        return self._xp.abs(weights[:, -1]) * self._length[:, None]

    def ritz(self, k: int) -> Ritz:
        """Best approximations of the k largest eigenpairs, fewer in a smaller space."""
        values, weights = self._eigenpairs(k)
        weights = self._xp.matrix_transpose(weights)
        vectors = weights @ self._basis[:, 1 : self.size + 1]
        images = weights @ self._images[:, 1 : self.size + 1]
        return Ritz(values, vectors, images - values[:, :, None] * vectors)

    def _expand(self) -> None:
        self.size += 1
        j = self.size
        if j == self._basis.shape[1]:
            self._make_room()
        self._basis[:, j] = self._next
        image = self._image(self._next)
        self._images[:, j] = image
        inner, rest = self._split(image)
        # M's eigenvalues lie in [-1, 1]: a vector that is none must not pass for an eigenvector of value 0.
        inner[:, j] -= 2 * self._is_none
        self._matrix[:, j, : j + 1] = inner
        self._set_next(rest)

    def _image(self, y: Array) -> Array:
        return self._graph.product(y * self._inverse, fine=self._fine) * self._inverse

    def _eigenpairs(self, k: int) -> tuple[Array, Array]:
        inside = slice(1, self.size + 1)
        values, weights = self._xp.linalg.eigh(self._matrix[:, inside, inside])  # reads the lower triangle
        return self._xp.flip(values[:, -k:], axis=1), self._xp.flip(weights[:, :, -k:], axis=2)

    def _split(self, w: Array) -> tuple[Array, Array]:
        """Inner products [B, size + 1] of w [B, N] with the basis, and the part of w outside the space."""
        basis = self._basis[:, : self.size + 1]
        inner = (basis @ w[:, :, None])[:, :, 0]
        rest = w - (inner[:, None] @ basis)[:, 0]
        if ((rest**2).sum(1) < LITTLE * (w**2).sum(1)).any():
            again = (basis @ rest[:, :, None])[:, :, 0]
            inner, rest = inner + again, rest - (again[:, None] @ basis)[:, 0]
        return inner, rest

    def _set_next(self, rest: Array) -> None:
        self._length = length = (rest**2).sum(1) ** 0.5
        if (length < NOTHING).any():  # M maps the space into itself: go on anywhere outside it
            elsewhere = self._split(self._random(self.size))[1]
            rest = self._xp.where((length < NOTHING)[:, None], elsewhere, rest)
            length = (rest**2).sum(1) ** 0.5
        self._is_none = 1.0 * (length < NOTHING)
        self._next = rest * ((1 - self._is_none) / (length + self._is_none))[:, None]

    def _random(self, seed: int) -> Array:
        vector = self._xp.asarray(_random_vector(seed, self.root.shape[1]), device=self.root.device)
        return self._xp.broadcast_to(vector, self.root.shape)

    def _make_room(self) -> None:
        more, held = self._room(GROWTH, self.root.shape[1]), self._matrix.shape[1]
        self._basis, self._images = (self._xp.concat([rows, more], axis=1) for rows in (self._basis, self._images))
        matrix = self._room(held + GROWTH, held + GROWTH)
        matrix[:, :held, :held] = self._matrix
        self._matrix = matrix

    def _room(self, *shape: int) -> Array:
        return self._xp.empty((self.root.shape[0], *shape), dtype=self._xp.float64, device=self.root.device)


@lru_cache(maxsize=8)
def _random_vector(seed: int, n: int) -> npt.NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal(n)
