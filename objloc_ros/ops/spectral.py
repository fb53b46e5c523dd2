"""The smallest eigenvectors of a graph's normalised Laplacian, by Lanczos iteration on the graph's products.

The problem (D - W) x = lambda D x, with D the diagonal of W's row sums, becomes M y = (1 - lambda) y with
M = D^-1/2 W D^-1/2 and y = D^1/2 x. Its largest eigenpair (1, D^1/2 1) is known and projected out; the next ones are
found by the Rayleigh-Ritz method in a Krylov space whose basis is kept in float64 and fully orthogonalised.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from array_api_compat import array_namespace, device
from scipy.linalg import eigh

from objloc_ros.ops.affinity import Affinity, Array, to_host
from objloc_ros.ops.krylov import KrylovSpace, Ritz, first_eigenvector

Values = npt.NDArray[np.float64]

RESIDUAL_TOL = 1e-6
"""Residual |M y - theta y| below which an eigenvector counts as found."""

TWO_STEPS_ABOVE = 1e-3
"""Residual above which the search takes two steps before it looks again: one does not suffice."""

FINAL_RESIDUAL_TOL = 1e-5
"""Residual that may remain at the end, with the rounding errors of all products in it."""

REFINED_RESIDUAL_TOL = 1e-9
"""Residual at which a refinement ends."""

MAX_REFINEMENT_STEPS = 40
"""Size of the space at which a refinement ends in any case."""

MAX_STEPS = 150
"""Size of the space at which the dense solver takes over."""

EXTRA_PAIRS = 5
"""Number of eigenpairs beyond the wanted ones that the estimate of errors uses."""

DENSE_BELOW = 64
"""Largest number of patches for which the dense solver is as fast."""

EIGENVALUE_TOL = 1e-6
"""Distance below which eigenvalues count as one multiple eigenvalue, whose eigenvectors are not determined."""

DENSE_RESIDUAL = 1e-14
"""Residual that LAPACK leaves, for the estimate of errors."""


class Eigenpairs(NamedTuple):
    """Solutions of (D - W) x = lambda D x beside the constant one, smallest eigenvalue first.

    Args:
        values: float64 [B, k].
        vectors: float64 [B, k, N], x^T D x = 1, of arbitrary sign.
        gaps: float64 [B, k], distances to the nearest other eigenvalue above 0; infinite where there is none.
        errors: float64 [B, k, N], estimates of the error of each entry.
        mean_errors: float64 [B, k], estimates of the error of each vector's mean.
    """

    values: Array
    vectors: Array
    gaps: Array
    errors: Array
    mean_errors: Array


def smallest_eigenpairs(graph: Affinity, k: int = 1) -> Eigenpairs:
    """Solve (D - W) x = lambda D x for the k smallest eigenvalues after the first, which is 0.

    The start is fixed, so the result is the same on every run. A second start follows once the eigenvectors are found:
    one alone never sees the second dimension of a multiple eigenvalue.

    Args:
        graph: A batch of graphs of N >= 2 patches.
        k: Number of wanted eigenpairs; N - 1 where that is less.
    """
    n = graph.shape[1]
    k = min(k, n - 1)
    if n <= DENSE_BELOW:
        return dense_eigenpairs(graph, k)
    space = KrylovSpace(graph)
    ritz = _search(space, k)
    return dense_eigenpairs(graph, k) if ritz is None else _eigenpairs(ritz, space.root, k, rounding=1e-7)


def refined_eigenpairs(graph: Affinity, found: Eigenpairs) -> Eigenpairs:
    """Improve eigenpairs with products of nearly float64 accuracy to `REFINED_RESIDUAL_TOL` where possible."""
    space = KrylovSpace(graph, fine=True)
    k = found.values.shape[1]
    for i in range(k):
        space.set_direction(found.vectors[:, i] * space.root)
        space.expand()
    ritz = space.ritz(k)
    (lengths,) = to_host(ritz.residual_norms())
    while lengths.max() > REFINED_RESIDUAL_TOL and space.size < MAX_REFINEMENT_STEPS:
        space.set_direction(ritz.residuals[:, int(lengths.sum(0).argmax())])
        space.expand()
        ritz = space.ritz(k)
        (lengths,) = to_host(ritz.residual_norms())
    return _eigenpairs(ritz, space.root, k, rounding=1e-11, gaps=found.gaps)


def dense_eigenpairs(graph: Affinity, k: int = 1) -> Eigenpairs:
    """Solve the same problem with LAPACK, on matrices float64 [N, N] in the host's memory."""
    n, host = graph.shape[1], graph.to_host()
    known, root = first_eigenvector(host)
    pairs = []
    for m, r, y in zip(host.dense(), root, known, strict=True):
        m /= r[:, None]
        m /= r
        m -= 3 * y[:, None] * y  # the known eigenvalue moves from 1 to -2, below all others
        pairs.append(eigh(m, subset_by_index=[max(0, n - 1 - k), n - 1], overwrite_a=True, check_finite=False))
    values = np.stack([values[::-1] for values, _ in pairs])
    vectors = np.stack([vectors.T[::-1] for _, vectors in pairs])
    found = _eigenpairs(Ritz(values, vectors, np.full_like(vectors, DENSE_RESIDUAL)), root, k, rounding=1e-15)
    return Eigenpairs._make(map(graph.like, found))


def _search(space: KrylovSpace, k: int) -> Ritz | None:
    """Grow the space until the k largest eigenpairs are found and no other can coincide; None at `MAX_STEPS`."""
    space.start(seed=0)
    space.expand(k + 3)
    while space.size < MAX_STEPS and (residual := float(space.estimate_residuals(k).max())) > RESIDUAL_TOL:
        space.expand(2 if residual > TWO_STEPS_ABOVE else 1)
    space.start(seed=1)
    space.expand(max(3, space.size // 3))
    while space.size < MAX_STEPS:
        ritz = space.ritz(k + 1)
        lengths, values = to_host(ritz.residual_norms(), ritz.values)
        worst = int(lengths[:, :k].sum(0).argmax())
        if lengths[:, worst].max() <= FINAL_RESIDUAL_TOL:
            if not _is_close_call(values, lengths, k):
                return space.ritz(k + EXTRA_PAIRS)
            worst = k
        space.set_direction(ritz.residuals[:, worst])
        space.expand()
    return None


def _is_close_call(values: Values, lengths: Values, k: int) -> bool:
    """Return whether the eigenvalue after the k wanted ones is uncertain and may coincide with the last of them."""
    gap, uncertainty = values[:, k - 1] - values[:, k], lengths[:, k]
    return bool(((gap < 2 * uncertainty) & (uncertainty > 1e-4)).any())


def _eigenpairs(ritz: Ritz, root: Array, k: int, *, rounding: float, gaps: Array | None = None) -> Eigenpairs:
    """Convert the first k pairs to solutions of the problem; `rounding` is the relative error of the products used."""
    xp = array_namespace(root)
    if gaps is None:
        edge = xp.full((root.shape[0], 1), xp.inf, dtype=xp.float64, device=device(root))
        steps = xp.concat([edge, ritz.values[:, :-1] - ritz.values[:, 1:], edge], axis=1)
        gaps = xp.minimum(steps[:, :-1], steps[:, 1:])[:, :k]
        amplification = _amplification(ritz, k)
    else:
        amplification = 1 / xp.maximum(gaps, xp.full_like(gaps, EIGENVALUE_TOL))
    vectors = ritz.vectors[:, :k] / root[:, None]
    residuals = xp.abs(ritz.residuals[:, :k])
    steepness = 1 / xp.maximum(gaps, xp.full_like(gaps, EIGENVALUE_TOL))
    rounded = rounding * xp.max(xp.abs(vectors), axis=2) * steepness
    errors = (3 * amplification * xp.max(residuals, axis=2))[:, :, None] / root[:, None] + rounded[:, :, None]
    mean_errors = 3 * amplification * (residuals / root[:, None]).mean(2)
    return Eigenpairs(1 - ritz.values[:, :k], vectors, gaps, errors, mean_errors)


def _amplification(ritz: Ritz, k: int) -> Array:
    """Compute the ratio of error to residual for the first k eigenvectors: float64 [B, k].

    To first order the error is (theta - M)^-1 applied to the residual. The residual is orthogonal to the space, and so
    nearly to the eigenvectors that the space knows, however close their eigenvalues are; the last one of `ritz` stands
    for all that it does not know.
    """
    xp = array_namespace(ritz.values)
    floor = xp.full_like(ritz.values, EIGENVALUE_TOL)
    beyond = 1 / xp.maximum(ritz.values - ritz.values[:, -1:], floor)
    unknown = xp.minimum(ritz.residual_norms() * beyond, xp.ones_like(floor))
    near = 1 / xp.maximum(xp.abs(ritz.values[:, :, None] - ritz.values[:, None]), floor[:, None])
    neighbours = (near * unknown[:, None] * (1 - xp.eye(near.shape[1], device=device(ritz.values)))).sum(2)
    return (beyond + neighbours)[:, :k]
