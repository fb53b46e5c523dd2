"""Ranking of objects by how well they are linked to others, and the choice of the best ones of each image.

Q and LOD of Vo et al., "Large-Scale Unsupervised Object Discovery", NeurIPS 2021, beside PageRank and the degree. On a
connected graph of symmetric weights, PageRank's answer, and with it LOD's, is the degree's but for the teleportation.
Q's eigenvector is that of one kind of objects where there are several, and tells nothing of the others:
`rank_by_patterns` takes more of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import scipy.sparse
import scipy.sparse.linalg
import torch
from torchvision.ops import box_iou

from objloc_ros.errors import InputError, ParameterError

Vector = npt.NDArray[np.float64]

RankMethod = Literal["degree", "q", "pagerank", "lod"]

RANK_METHODS: tuple[RankMethod, ...] = ("q", "degree", "pagerank", "lod")

DENSE_BELOW = 64
"""Objects up to which all eigenvectors are computed at once."""

BLOCK_EDGES = 1 << 18
"""Edges that are multiplied at a time: their weights are copied to float64, 2 MB of them, which stay in the cache."""


class Weights(Protocol):
    """A symmetric matrix of weights >= 0, which multiplies vectors."""

    @property
    def shape(self) -> tuple[int, int]:
        """[n, n]."""

    def __matmul__(self, vector: Vector, /) -> Vector: ...


class RowBlocks:
    """A sparse matrix [n, n] in blocks of whole rows, each with its own indices of 32 bits.

    Each row is summed within one block, in the order of its columns, so that products are the same bit for bit however
    the rows were split.

    Args:
        blocks: CSR matrices [rows, n] that follow one another; each row's columns ascend.

    Raises:
        InputError: The blocks do not make a square matrix.
    """

    def __init__(self, blocks: Sequence[scipy.sparse.csr_array]) -> None:
        rows = sum(block.shape[0] for block in blocks)
        if any(block.shape[1] != rows for block in blocks):
            raise InputError(f"blocks of rows {[block.shape for block in blocks]} are not those of a square matrix")
        self.blocks = tuple(part for block in blocks for part in split_rows(block, BLOCK_EDGES))
        self.shape = (rows, rows)

    @property
    def nnz(self) -> int:
        """Number of stored weights."""
        return sum(block.nnz for block in self.blocks)

    @property
    def nbytes(self) -> int:
        """Memory of the matrix in bytes."""
        return sum(array.nbytes for block in self.blocks for array in (block.data, block.indices, block.indptr))

    def __matmul__(self, vector: Vector) -> Vector:
        """Multiply by a vector float64 [n]: float64 [n]."""
        return np.concatenate([block @ vector for block in self.blocks])


def split_rows(matrix: scipy.sparse.csr_array, edges: int) -> list[scipy.sparse.csr_array]:
    """Split a CSR matrix into blocks of whole rows with about so many weights each."""
    rows, columns = matrix.shape
    total = int(matrix.indptr[-1])
    marks = np.searchsorted(matrix.indptr, np.arange(edges, total, edges, dtype=np.int64))
    bounds = [0, *np.unique(marks[(marks > 0) & (marks < rows)]).tolist(), rows]
    blocks = []
    for start, stop in pairwise(bounds):
        first, last = int(matrix.indptr[start]), int(matrix.indptr[stop])
        parts = (matrix.data[first:last], matrix.indices[first:last], matrix.indptr[start : stop + 1] - first)
        blocks.append(scipy.sparse.csr_array(parts, shape=(stop - start, columns), copy=False))
    return blocks


@dataclass(frozen=True)
class Ranking:
    """What a ranking gave.

    Args:
        scores: float64 [n], >= 0; 0 for objects without links where the method looks at linked ones only.
        iterations: Number of steps, of LOD's second part alone.
        converged: Whether the scores stood still before the greatest number of steps.
        seed: Q's scores of the linked objects, from which LOD's second part starts; None for other methods.
    """

    scores: Vector
    iterations: int
    converged: bool
    seed: Ranking | None = None


def rank_by_patterns(weights: Weights, vectors: int, *, coef: float = 1e-4, iterations: int = 200) -> Ranking:
    """Rank objects by Q's first eigenvectors, as each of them finds another kind of objects that belong together.

    Args:
        weights: [n, n], symmetric, without negative weights.
        vectors: Number of eigenvectors.
        coef: Part of a uniform matrix that is mixed into the weights.
        iterations: Greatest number of restarts of Lanczos' method.

    Returns:
        The length of each object's row in the matrix of that rank that is nearest to the weights; with one vector the
        order is Q's.

    Raises:
        ParameterError: The number of vectors is below 1.
    """
    if vectors < 1:
        raise ParameterError(f"a ranking needs at least 1 eigenvector, got {vectors}")
    count, products = weights.shape[0], 0

    def multiply(vector: Vector) -> Vector:
        nonlocal products
        products += 1
        flat = np.ravel(vector)
        mixed: Vector = (1 - coef) * (weights @ flat) + coef * flat.sum() / count
        return mixed

    if count <= DENSE_BELOW or count <= vectors:
        dense = np.stack([multiply(row) for row in np.eye(count)]) if count else np.zeros((0, 0))
        values, axes = np.linalg.eigh(dense)
        return Ranking(_measure_rows(values[-vectors:], axes[:, -vectors:]), products, converged=True)
    operator = scipy.sparse.linalg.LinearOperator((count, count), matvec=multiply, dtype=np.float64)
    start = np.random.default_rng(0).random(count)  # equal ones may lack a part of what is sought
    try:
        values, axes = scipy.sparse.linalg.eigsh(operator, k=vectors, which="LA", v0=start, maxiter=iterations)
    except scipy.sparse.linalg.ArpackNoConvergence as error:
        return Ranking(_measure_rows(error.eigenvalues, error.eigenvectors), products, converged=False)
    return Ranking(_measure_rows(values, axes), products, converged=True)


def _measure_rows(values: Vector, axes: Vector) -> Vector:
    """Compute the lengths of the rows of a matrix given by eigenvalues, negative ones left out, and vectors [n, k]."""
    lengths: Vector = np.linalg.norm(np.maximum(values, 0) * axes, axis=1)
    return lengths


def rank(
    weights: Weights,
    counts: npt.NDArray[np.integer[Any]],
    *,
    method: RankMethod = "q",
    coef: float = 1e-4,
    tele: float = 1e-4,
    top: int = 1,
    ratio: float = 0.1,
    iterations: int = 200,
    tolerance: float = 1e-6,
    relative: bool = True,
) -> Ranking:
    """Rank objects by their links.

    Args:
        weights: [n, n], symmetric, without negative weights: `RowBlocks`, or any matrix that multiplies vectors.
        counts: Number of objects of each image [I], which follow one another; they sum to n.
        method: "degree" sums each object's weights; "q" is the largest eigenvector of the weights, "pagerank" that of a
            random walk; "lod" is a random walk that returns to the best objects of the best images by Q.
        coef: Part of a uniform matrix that is mixed into the weights, for "q" and "lod".
        tele: How often the walk jumps back, for "pagerank" and "lod".
        top: Objects of each of the best images that "lod" returns to.
        ratio: Part of the images that are the best.
        iterations: Greatest number of products of each step.
        tolerance: The scores stand still when they change by less, in the Euclidean norm.
        relative: Whether `tolerance` is a part of the scores' norm, as a large fleet needs, whose entries are tiny; the
            authors' is absolute.

    Raises:
        InputError: `counts` do not sum to n.
        ParameterError: The method is unknown.
    """
    if (total := int(np.sum(counts))) != weights.shape[0]:
        raise InputError(f"{len(counts)} images have {total} objects, the weights are of {weights.shape[0]}")
    degree = weights @ np.ones(weights.shape[0])
    live = degree > 0
    uniform = live / max(1, live.sum())
    iterate = _Iteration(iterations, tolerance, relative)
    if method == "degree" or not live.any():
        return Ranking(degree, 1, converged=True)
    if method == "q":
        everywhere = np.full(len(degree), 1 / len(degree))
        return iterate(_q_step(weights, coef, everywhere), np.full(len(degree), len(degree) ** -0.5))
    inverse = np.divide(1.0, degree, out=np.zeros_like(degree), where=live)
    if method == "pagerank":
        return iterate(lambda v: (1 - tele) * (weights @ (inverse * v)) + tele * uniform, uniform)
    if method != "lod":
        raise ParameterError(f"method must be one of {', '.join(RANK_METHODS)}; got {method!r}")
    seed = iterate(_q_step(weights, coef, uniform), live * live.sum() ** -0.5)
    prior = make_prior(seed.scores, counts, live, top=top, ratio=ratio)
    walk = iterate(
        lambda v: (1 - tele) * ((1 - coef) * (weights @ (inverse * v)) + coef * uniform) + tele * prior, prior
    )
    return Ranking(walk.scores, walk.iterations, seed.converged and walk.converged, seed)


def _q_step(weights: Weights, coef: float, uniform: Vector) -> Callable[[Vector], Vector]:
    """Make a step of the power iteration: W mixed with a matrix that gives every object the same."""

    def step(vector: Vector) -> Vector:
        product = (1 - coef) * (weights @ vector) + coef * vector.sum() * uniform
        scaled: Vector = product / np.linalg.norm(product)
        return scaled

    return step


@dataclass(frozen=True)
class _Iteration:
    """Repeats a step until the vector stands still."""

    limit: int
    tolerance: float
    relative: bool

    def __call__(self, step: Callable[[Vector], Vector], start: Vector) -> Ranking:
        vector = start
        for number in range(1, self.limit + 1):
            vector, before = step(vector), vector
            allowed = self.tolerance * (np.linalg.norm(vector) if self.relative else 1.0)
            if np.linalg.norm(vector - before) < allowed:
                return Ranking(vector, number, converged=True)
        return Ranking(vector, self.limit, converged=False)


def make_prior(
    scores: Vector, counts: npt.NDArray[np.integer[Any]], live: npt.NDArray[np.bool_], *, top: int, ratio: float
) -> Vector:
    """Choose where LOD's walk returns to: the best objects of the images whose best object is best.

    Args:
        scores: float64 [n].
        counts: Number of objects of each image [I].
        live: Which objects have links, bool [n].
        top: Objects of each image.
        ratio: Part of the images.

    Returns:
        float64 [n], equal for the chosen ones, 0 for all others, sum 1; over all live objects if none were chosen.
    """
    magnitude = np.abs(scores)
    starts = np.cumsum(counts) - counts
    best = np.full(len(counts), -np.inf)
    filled = counts > 0
    best[filled] = np.maximum.reduceat(magnitude, starts[filled])
    wanted = int(np.floor(len(counts) * ratio + 0.5))
    chosen: npt.NDArray[np.bool_] = np.zeros(len(scores), bool)
    for image in np.argsort(-best, kind="stable")[:wanted]:
        rows = slice(starts[image], starts[image] + counts[image])
        chosen[starts[image] + np.argsort(-magnitude[rows], kind="stable")[:top]] = True
    chosen &= live
    chosen = chosen if chosen.any() else live
    return chosen / chosen.sum()


def select(
    scores: Vector,
    boxes: npt.NDArray[np.number[Any]],
    groups: npt.NDArray[np.integer[Any]] | None = None,
    *,
    k: int = 5,
    iou: float = 0.3,
) -> npt.NDArray[np.int64]:
    """Select the best objects of one image that do not repeat each other.

    Args:
        scores: [m]; their magnitude counts, of equal ones the first is better.
        boxes: [m, 4] as (x1, y1, x2, y2), max side exclusive.
        groups: [m]; of one group only one object is taken, and boxes may then overlap by `iou` itself. None for none.
        k: Most objects to take.
        iou: Greatest overlap of a box with those taken before it.

    Returns:
        Their indices, best first, int64 [<= k].
    """
    corners = torch.from_numpy(np.asarray(boxes, np.float64).reshape(-1, 4))
    overlaps = box_iou(corners, corners).numpy()
    taken: list[int] = []
    for place in np.argsort(-np.abs(scores), kind="stable"):
        if len(taken) == k:
            break
        if groups is not None and any(groups[place] == groups[other] for other in taken):
            continue
        overlap = overlaps[place, taken]
        if (overlap <= iou if groups is not None else overlap < iou).all():
            taken.append(int(place))
    return np.array(taken, np.int64)
