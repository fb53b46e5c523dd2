"""A growing space of vectors and the best approximations of a graph's eigenvectors inside it (Rayleigh-Ritz).

On a GPU a vector is added without waiting for anything: what a CPU does only where rounding asks for it, a second
orthogonalisation and a random vector instead of none, is done with every vector there, for all images at once. The
host waits once for each look at the space, whose small matrices it decomposes itself.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace, device

from objloc_ros.ops.affinity import Affinity, Array, to_host

CAPACITY_STEP = 32
"""Number of vectors by which the arrays are enlarged at a time."""

MIN_NORM = 1e-12
"""Norm below which an orthogonalised direction is round-off: the space contains it already."""

REORTHOGONALISE_BELOW = 1e-4
"""Fraction of a vector's squared norm; if less remains, round-off matters and the vector is orthogonalised again."""

MIN_ROW_SUM = 1e-12
"""Row sum below which a patch counts as having no links."""


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

    def residual_norms(self) -> Array:
        """Compute the norms of the residuals: float64 [B, k]."""
        return (self.residuals**2).sum(2) ** 0.5


def first_eigenvector(graph: Affinity) -> tuple[Array, Array]:
    """Return M's unit eigenvector of value 1 and the square roots of D, both float64 [B, N].

    A patch without any link, not even to itself, has a row sum of 0: its D is set to 1, its entry in the eigenvector
    is 0.
    """
    degrees = graph.degrees
    isolated = 1.0 * (degrees < MIN_ROW_SUM)
    length = (degrees.sum(1) + MIN_NORM**2) ** 0.5
    return degrees**0.5 / length[:, None], (degrees + isolated) ** 0.5


class KrylovSpace:
    """An orthonormal basis, its images under M = D^-1/2 W D^-1/2, and M's matrix in that basis.

    Vectors are kept in float64 and orthogonalised against all others (twice where little of them remains), including
    M's known first eigenvector D^1/2 1. The next vector is what the last image adds to the space (so it is a Krylov
    space), or one given by `set_direction`.

    Args:
        graph: The weights W.
        fine: Whether to multiply with nearly float64 accuracy instead of float32.

    Attributes:
        root: Square roots of the row sums, float64 [B, N].
        size: Number of vectors besides the known one.
    """

    def __init__(self, graph: Affinity, *, fine: bool = False) -> None:
        self._graph, self._fine = graph, fine
        first, self.root = first_eigenvector(graph)
        self._xp = array_namespace(first)
        self._is_on_host = isinstance(first, np.ndarray)
        self._inverse = 1 / self.root
        self._basis = self._allocate(CAPACITY_STEP, first.shape[1])
        self._images = self._allocate(CAPACITY_STEP, first.shape[1])
        self._matrix = self._allocate(CAPACITY_STEP, CAPACITY_STEP)
        self._spares = self._draw_spares()
        self._basis[:, 0] = first
        self.size = 0

    def start(self, *, seed: int) -> None:
        """Set the next direction to the image of a random vector, the same one on every run.

        Patches with the same links have the same entries in an image, thus in all that follows from it, and thus in the
        eigenvectors, however far these are from convergence.
        """
        self.set_direction(self._image(self._broadcast(_random_vector(seed, self.root.shape[1]))))

    def set_direction(self, direction: Array) -> None:
        """Set the next direction, float64 [B, N], in place of what the last image adds."""
        self._turn_to(direction)

    def expand(self, steps: int = 1) -> None:
        """Add vectors to the space, at the cost of one product with the graph each."""
        for _ in range(steps):
            self._expand()

    def estimate_residuals(self, k: int) -> npt.NDArray[np.float64]:
        """Estimate the residual norms of `ritz`, float64 [B, k] on the host, without touching vectors of length N.

        Valid for a space whose direction was set only once: its images then lack only what the last one adds.
        """
        matrix, length = to_host(self._inside, self._length)
        _, weights = _eigenpairs(matrix, k)
        return np.abs(weights[:, :, -1]) * length[:, None]

    def ritz(self, k: int) -> Ritz:
        """Compute the best approximations of the k largest eigenpairs, fewer in a smaller space."""
        (matrix,) = to_host(self._inside)
        values, weights = map(self._graph.like, _eigenpairs(matrix, k))
        vectors = weights @ self._basis[:, 1 : self.size + 1]
        images = weights @ self._images[:, 1 : self.size + 1]
        return Ritz(values, vectors, images - values[:, :, None] * vectors)

    @property
    def _inside(self) -> Array:
        """M's matrix in the basis, without the known vector; its lower triangle counts."""
        return self._matrix[:, 1 : self.size + 1, 1 : self.size + 1]

    def _expand(self) -> None:
        self.size += 1
        j = self.size
        if j == self._basis.shape[1]:
            self._enlarge()
        self._basis[:, j] = self._next
        image = self._image(self._next)
        self._images[:, j] = image
        # M's eigenvalues lie in [-1, 1]: a zero vector must not pass for an eigenvector of value 0.
        penalty = 2 * self._is_zero
        self._matrix[:, j, : j + 1] = self._turn_to(image)
        self._matrix[:, j, j] -= penalty

    def _image(self, y: Array) -> Array:
        return self._graph.product(y * self._inverse, fine=self._fine) * self._inverse

    def _turn_to(self, w: Array) -> Array:
        """Set the next direction to the part of w [B, N] outside the space; return w's inner products [B, size + 1].

        Where nothing of it is outside, M maps the space into itself: then it goes on anywhere outside.
        """
        if self._is_on_host:
            inner, rest = self._split(w[:, None])
            spare = rest
            if (_norms(rest) < MIN_NORM).any():
                spare = self._split(self._broadcast(_random_vector(self.size, w.shape[1]))[:, None])[1]
        else:
            elsewhere = self._xp.broadcast_to(self._spares[self.size % CAPACITY_STEP], w.shape)
            inner, both = self._split(self._xp.stack([w, elsewhere], axis=1))
            rest, spare = both[:, :1], both[:, 1:]
        self._length = _norms(rest)[:, 0]
        chosen = self._xp.where((self._length < MIN_NORM)[:, None], spare[:, 0], rest[:, 0])
        length = _norms(chosen)
        self._is_zero = 1.0 * (length < MIN_NORM)
        self._next = chosen * ((1 - self._is_zero) / (length + self._is_zero))[:, None]
        return inner[:, 0]

    def _split(self, w: Array) -> tuple[Array, Array]:
        """Return the inner products [B, m, size + 1] of w [B, m, N] with the basis, and the parts of w outside."""
        basis = self._basis[:, : self.size + 1]
        across = self._xp.matrix_transpose(basis)
        inner = w @ across
        rest = w - inner @ basis
        if not self._is_on_host or ((rest**2).sum(2) < REORTHOGONALISE_BELOW * (w**2).sum(2)).any():
            again = rest @ across
            inner, rest = inner + again, rest - again @ basis
        return inner, rest

    def _broadcast(self, vector: npt.NDArray[np.float64]) -> Array:
        """Return one vector [N] for all images, [B, N]."""
        return self._xp.broadcast_to(self._graph.like(vector), self.root.shape)

    def _draw_spares(self) -> Array:
        """Return on a GPU random vectors for the next sizes of the space, [CAPACITY_STEP, N]; elsewhere None."""
        if self._is_on_host:
            return None
        first, n = self._basis.shape[1] - CAPACITY_STEP, self.root.shape[1]
        return self._graph.like(np.stack([_random_vector(first + i, n) for i in range(CAPACITY_STEP)]))

    def _enlarge(self) -> None:
        more, held = self._allocate(CAPACITY_STEP, self.root.shape[1]), self._matrix.shape[1]
        self._basis, self._images = (self._xp.concat([rows, more], axis=1) for rows in (self._basis, self._images))
        matrix = self._allocate(held + CAPACITY_STEP, held + CAPACITY_STEP)
        matrix[:, :held, :held] = self._matrix
        self._matrix = matrix
        self._spares = self._draw_spares()

    def _allocate(self, *shape: int) -> Array:
        return self._xp.empty((self.root.shape[0], *shape), dtype=self._xp.float64, device=device(self.root))


def _eigenpairs(matrices: npt.NDArray[np.float64], k: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the k largest eigenvalues [B, k] of matrices [B, n, n], the largest first, and eigenvectors [B, k, n]."""
    values, vectors = np.linalg.eigh(matrices)  # reads the lower triangles
    return values[:, -k:][:, ::-1], vectors[:, :, -k:][:, :, ::-1].transpose(0, 2, 1)


def _norms(vectors: Array) -> Array:
    return (vectors**2).sum(-1) ** 0.5


@lru_cache(maxsize=160)
def _random_vector(seed: int, n: int) -> npt.NDArray[np.float64]:
    return np.random.default_rng(seed).standard_normal(n)
