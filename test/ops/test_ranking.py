"""Ranking by links, against the original and on graphs whose answer is known."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import scipy.sparse
from golden_cases import Case, find_cases, load_case

from objloc_ros.errors import InputError, ParameterError
from objloc_ros.ops.ranking import (
    RANK_METHODS,
    Ranking,
    RowBlocks,
    make_prior,
    rank,
    rank_by_patterns,
    select,
    split_rows,
)

AUTHORS = {"iterations": 100, "tolerance": 1e-6, "relative": False}


def matrix(case: Case) -> scipy.sparse.csr_array:
    count = int(case["counts"].sum())
    weights = scipy.sparse.csr_array((case["weight"], (case["row"], case["col"])), shape=(count, count))
    weights.sort_indices()
    return weights


def random_graph(count: int, edges: int, seed: int = 0) -> scipy.sparse.csr_array:
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(0, count, (2, edges))
    half = scipy.sparse.coo_array((rng.random(edges).astype(np.float32), (rows, columns)), shape=(count, count))
    weights = (half + half.T).tocsr()
    weights.setdiag(0)
    weights.eliminate_zeros()
    weights.sort_indices()
    return weights


@pytest.mark.parametrize("path", find_cases("lod_ranking"), ids=lambda path: path.stem)
def test_scores_are_those_of_the_original(path) -> None:
    case = load_case(path)
    about = {name: float(case[name]) for name in ("coef", "tele", "ratio")} | {"top": int(case["top"]), **AUTHORS}
    q, pagerank, lod = (
        rank(matrix(case), case["counts"], method=method, **about) for method in ("q", "pagerank", "lod")
    )
    steps = [ranking.iterations for ranking in (q, pagerank, lod.seed, lod)]
    assert steps == case["iterations"].tolist()
    for name, ranking in (("q", q), ("pagerank", pagerank), ("q_live", lod.seed), ("lod", lod)):
        np.testing.assert_allclose(ranking.scores, case[name], rtol=0, atol=1e-12, err_msg=name)
    assert q.converged == (q.iterations < 100)


@pytest.mark.parametrize("path", find_cases("lod_ranking"), ids=lambda path: path.stem)
def test_selections_are_those_of_the_original(path) -> None:
    case = load_case(path)
    boxes = case["boxes"] + [0, 0, 1, 1]  # maxima exclusive
    starts = np.cumsum(case["counts"]) - case["counts"]
    for image, (start, count) in enumerate(zip(starts, case["counts"], strict=True)):
        own = slice(start, start + count)
        for name, groups in (("picked_group", case["group"][own]), ("picked_nms", None)):
            expected = case[name][image]
            picked = select(case["lod"][own], boxes[own], groups, k=len(expected), iou=float(case["nms"]))
            assert picked.tolist() == expected[expected >= 0].tolist(), (name, image)


@pytest.mark.parametrize("method", RANK_METHODS)
def test_scores_do_not_depend_on_how_rows_are_split(method: str) -> None:
    weights, counts = random_graph(61, 300), np.full(61, 1)
    whole = rank(RowBlocks([weights]), counts, method=method).scores
    for shards in (3, 7):
        bounds = np.linspace(0, 61, shards + 1).astype(int)
        blocks = RowBlocks([weights[start:stop] for start, stop in pairwise(bounds)])
        assert len(blocks.blocks) == shards
        assert np.array_equal(rank(blocks, counts, method=method).scores, whole), shards


def test_rows_are_split_without_losing_any() -> None:
    weights = random_graph(40, 200)
    empty_rows = scipy.sparse.csr_array((5, 40), dtype=np.float32)
    for edges in (1, 7, 100, 10_000):
        parts = split_rows(weights, edges)
        assert (scipy.sparse.vstack(parts) != weights).nnz == 0
        assert all(part.nnz <= edges + np.diff(weights.indptr).max() for part in parts)
    assert [part.shape for part in split_rows(empty_rows, 3)] == [(5, 40)]
    with pytest.raises(InputError, match="not those of a square matrix"):
        RowBlocks([weights[:10]])


@pytest.mark.parametrize("method", RANK_METHODS)
def test_a_permutation_of_images_permutes_scores(method: str) -> None:
    weights, counts = random_graph(30, 200), np.array([3, 1, 4, 2] * 3)
    scores = rank(weights, counts, method=method).scores
    starts, order = np.cumsum(counts) - counts, np.random.default_rng(1).permutation(len(counts))
    rows = np.concatenate([np.arange(starts[image], starts[image] + counts[image]) for image in order])
    permuted = rank(weights[rows][:, rows].tocsr(), counts[order], method=method).scores
    np.testing.assert_allclose(permuted, scores[rows], rtol=1e-6)


def test_on_a_connected_graph_the_walk_ranks_by_degree() -> None:
    weights = random_graph(50, 400)
    degree, walk, mixed = (
        rank(weights, np.full(50, 1), method=method, tele=1e-9, tolerance=1e-12, iterations=2000).scores
        for method in ("degree", "pagerank", "lod")
    )
    np.testing.assert_allclose(walk, degree / degree.sum(), rtol=1e-6)
    assert np.corrcoef(mixed, degree)[0, 1] > 0.999


def test_q_is_the_first_eigenvector() -> None:
    weights = random_graph(40, 400)
    ranking = rank(weights, np.full(40, 1), coef=0, tolerance=1e-12, iterations=5000)
    values, vectors = np.linalg.eigh(weights.toarray().astype(np.float64))
    np.testing.assert_allclose(ranking.scores, np.abs(vectors[:, values.argmax()]), atol=1e-8)
    assert ranking.converged


def block_of_kinds(sizes: list[int], alone: int) -> np.ndarray:
    """Kinds whose objects are all linked, weaker from one to the next, and objects with weak links to a neighbour."""
    count = sum(sizes) + alone
    weights, start = np.zeros((count, count)), 0
    for number, size in enumerate(sizes):
        weights[start : start + size, start : start + size] = 1 - 0.2 * number
        start += size
    for other in range(start, count - 1):
        weights[other, other + 1] = weights[other + 1, other] = 0.3
    np.fill_diagonal(weights, 0)
    return weights


@pytest.mark.parametrize("alone", [10, 90])  # all eigenvectors at once, and by Lanczos' method
def test_several_eigenvectors_find_several_kinds(alone: int) -> None:
    weights = scipy.sparse.csr_array(block_of_kinds([8, 8, 8], alone))
    q = rank(weights, np.full(24 + alone, 1), coef=1e-9, iterations=1000).scores
    patterns = rank_by_patterns(weights, 3, coef=1e-9)
    assert q[8:24].max() < 1e-3 * q[:8].min(), "one eigenvector is of one kind"
    assert patterns.scores[24:].max() < 0.1 * patterns.scores[:24].min()
    assert patterns.converged
    values, vectors = np.linalg.eigh(weights.toarray())
    nearest = vectors[:, -3:] * values[-3:] @ vectors[:, -3:].T
    np.testing.assert_allclose(patterns.scores, np.linalg.norm(nearest, axis=1), atol=1e-6)


def test_one_pattern_has_the_order_of_q() -> None:
    weights = random_graph(120, 900)
    q = rank(weights, np.full(120, 1), tolerance=1e-12, iterations=5000).scores
    one = rank_by_patterns(RowBlocks([weights]), 1).scores
    np.testing.assert_allclose(one / np.linalg.norm(one), q, atol=1e-8)


def test_patterns_of_few_objects_or_none() -> None:
    assert rank_by_patterns(scipy.sparse.csr_array((0, 0)), 3).scores.tolist() == []
    assert rank_by_patterns(scipy.sparse.csr_array((2, 2)), 3, coef=0).scores.tolist() == [0, 0]
    large = rank_by_patterns(scipy.sparse.csr_array((100, 100)), 3)
    assert np.isfinite(large.scores).all()
    with pytest.raises(ParameterError, match="at least 1 eigenvector, got 0"):
        rank_by_patterns(random_graph(4, 9), 0)


def test_a_relative_tolerance_goes_on_where_an_absolute_one_stops_at_the_start() -> None:
    count = 20_000
    weights = random_graph(count, 3 * count)
    absolute, relative = (
        rank(weights, np.full(count, 1), method="pagerank", tolerance=1e-3, relative=flag) for flag in (False, True)
    )
    assert absolute.iterations < relative.iterations


@pytest.mark.parametrize("method", RANK_METHODS)
def test_isolated_objects_images_without_any_and_two_components(method: str) -> None:
    weights = np.zeros((7, 7))
    for one, other, weight in ((0, 1, 2.0), (1, 2, 2.0), (0, 2, 2.0), (4, 5, 1.0)):
        weights[one, other] = weights[other, one] = weight
    ranking = rank(scipy.sparse.csr_array(weights), np.array([2, 0, 2, 3, 0]), method=method, top=1, ratio=0.5)
    assert np.isfinite(ranking.scores).all()
    assert ranking.scores[[3, 6]].max() < ranking.scores[[0, 1, 2]].min()
    if method in ("degree", "q"):  # a walk stays in the component that it starts in
        assert ranking.scores[[4, 5]].max() < ranking.scores[[0, 1, 2]].min()


@pytest.mark.parametrize("method", RANK_METHODS)
def test_few_objects_or_none_linked(method: str) -> None:
    nothing = rank(scipy.sparse.csr_array((3, 3)), np.array([1, 2]), method=method)
    assert nothing.scores.tolist() == [0, 0, 0]
    two = rank(scipy.sparse.csr_array(np.array([[0, 1.0], [1.0, 0]])), np.array([1, 1]), method=method)
    assert two.scores[0] == pytest.approx(two.scores[1])
    assert rank(scipy.sparse.csr_array((0, 0)), np.zeros(0, int), method=method) == Ranking(
        pytest.approx(np.zeros(0)), 1, converged=True
    )


def test_the_prior_is_of_the_best_images_or_of_all() -> None:
    scores, counts = np.array([0.1, 0.9, 0.5, 0.4, 0.0, 0.2]), np.array([2, 0, 2, 1, 1])
    live = np.array([True] * 5 + [False])
    assert make_prior(scores, counts, live, top=1, ratio=0.4).tolist() == [0, 0.5, 0.5, 0, 0, 0]
    assert make_prior(scores, counts, live, top=2, ratio=0.2).tolist() == [0.5, 0.5, 0, 0, 0, 0]
    assert make_prior(scores, counts, live, top=1, ratio=0.09).tolist() == [0.2] * 5 + [0], "no image: all that live"


def test_equal_scores_and_overlaps_at_the_limit() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 3], [20, 20, 30, 30]])  # the first two overlap by 0.3
    assert select(np.ones(3), boxes, np.array([1, 2, 3])).tolist() == [0, 1, 2]
    assert select(np.ones(3), boxes).tolist() == [0, 2], "without groups the limit itself is too much"
    assert select(np.ones(3), boxes, np.array([1, 2, 1])).tolist() == [0, 1]
    assert select(np.ones(3), boxes, k=1).tolist() == [0]
    assert select(np.zeros(0), np.zeros((0, 4))).tolist() == []


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="2 images have 3 objects, the weights are of 4"):
        rank(scipy.sparse.csr_array((4, 4)), np.array([1, 2]))
    with pytest.raises(ParameterError, match="one of q, degree, pagerank, lod; got 'best'"):
        rank(random_graph(4, 9), np.array([4]), method="best")  # type: ignore[arg-type]
