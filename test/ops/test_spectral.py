"""The spectral core against LAPACK on the whole matrix, multiple eigenvalues included."""

import numpy as np
import pytest
import torch
from scipy.linalg import block_diag, eigh

from objloc_ros.ops import spectral
from objloc_ros.ops.affinity import Affinity, binary_affinity, exact_arithmetic, positive_affinity
from objloc_ros.ops.krylov import KrylovSpace
from objloc_ros.ops.spectral import EIGENVALUE_TOL, dense_eigenpairs, refined_eigenpairs, smallest_eigenpairs

EPS = 1e-5


def features(n, groups=5, noise=0.7, seed=0, batch=1):
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(batch, groups, 24, generator=generator)
    member = torch.randint(groups, (n,), generator=generator)
    points = centres[:, member] + noise * torch.randn(batch, n, 24, generator=generator)
    return torch.nn.functional.normalize(points, dim=-1)


def graph_of(links):
    """A binary graph from a matrix of zeros and ones."""
    return Affinity([np.asarray(links, np.float32)[None]], base=EPS, scale=1 - EPS, binary=True)


def lapack(graph, k):
    (w,) = graph.dense()
    d = np.diag(w.sum(1))
    values, vectors = eigh(d - w, d, subset_by_index=[1, k + 1])
    return values, vectors.T


def aligned(vectors, exact):
    return vectors * np.sign((vectors * exact).sum(-1, keepdims=True))


@pytest.mark.parametrize("n", [3, 20, 64, 65, 150, 400, 900])
@pytest.mark.parametrize(
    "make", [lambda f: binary_affinity(f, 0.2, EPS), positive_affinity], ids=["binary", "weighted"]
)
def test_it_agrees_with_lapack(n, make):
    graph = make(features(n, seed=n))
    k = min(4, n - 2)
    values, exact = lapack(graph, k)
    found = smallest_eigenpairs(graph, k)
    np.testing.assert_allclose(found.values[0], values[:-1], atol=1e-7)
    gaps = np.minimum(np.diff(values), np.append(np.inf, np.diff(values)[:-1]))
    np.testing.assert_allclose(found.gaps[0], gaps, rtol=0.3, atol=1e-3)  # the next value is only looked at from below
    for i in np.flatnonzero(gaps > 1e-4):
        difference = aligned(found.vectors[0, i], exact[i]) - exact[i]
        assert (np.abs(difference) <= np.maximum(found.errors[0, i], 1e-12)).all(), (i, np.abs(difference).max())
        assert abs(difference.mean()) <= found.mean_errors[0, i] + 1e-9


@pytest.mark.parametrize("seed", range(5))
def test_refinement_reaches_nearly_float64(seed):
    graph = binary_affinity(features(300, seed=seed), 0.2, EPS)
    _, exact = lapack(graph, 1)
    found = refined_eigenpairs(graph, smallest_eigenpairs(graph))
    np.testing.assert_allclose(aligned(found.vectors[0, 0], exact[0]), exact[0], rtol=0, atol=1e-9)
    assert found.errors[0, 0].max() < 1e-7


def test_removed_patches_share_one_value():
    graph = binary_affinity(features(200), 0.2, EPS).without(np.arange(200)[None] < 40)
    found = smallest_eigenpairs(graph)
    _, exact = lapack(graph, 1)
    assert (np.abs(aligned(found.vectors[0, 0], exact[0]) - exact[0]) <= found.errors[0, 0]).all()
    assert np.ptp(found.vectors[0, 0, :40]) < 1e-6 * np.abs(found.vectors).max()


def test_patches_with_the_same_links_have_the_same_entries():
    links = (features(150)[0] @ features(150)[0].T > 0.2).numpy()
    twins = np.repeat(np.arange(150), 2)
    found = smallest_eigenpairs(graph_of(links[np.ix_(twins, twins)]))
    pairs = found.vectors[0, 0].reshape(150, 2)
    np.testing.assert_allclose(pairs[:, 0], pairs[:, 1], rtol=0, atol=1e-9 * np.abs(pairs).max())


@pytest.mark.parametrize(
    ("links", "value"),
    [
        (block_diag(*[np.ones((2, 2))] * 50), None),  # fifty equal pairs
        (block_diag(*[np.ones((40, 40))] * 3), None),  # three equal crowds
        (np.ones((100, 100)), 1.0),  # everything alike
        (np.eye(100), None),  # nothing alike
    ],
    ids=["pairs", "crowds", "complete", "identity"],
)
def test_a_multiple_eigenvalue_is_noticed(links, value):
    graph = graph_of(links)
    values, _ = lapack(graph, 2)
    assert values[1] - values[0] < 1e-9
    found = smallest_eigenpairs(graph)
    assert found.gaps[0, 0] < EIGENVALUE_TOL
    np.testing.assert_allclose(found.values[0, 0], values[0] if value is None else value, atol=1e-7)


def test_a_simple_eigenvalue_is_not_taken_for_a_multiple_one():
    found = smallest_eigenpairs(graph_of(block_diag(np.ones((60, 60)), np.ones((40, 40)))))
    assert found.gaps[0, 0] > 0.9


def test_a_patch_that_resembles_nothing_at_all_is_left_out():
    points = features(120)
    points[0, 5:8] = 0
    graph = positive_affinity(points)
    rest = positive_affinity(torch.cat([points[:, :5], points[:, 8:]], dim=1))
    found, expected = smallest_eigenpairs(graph, 3), smallest_eigenpairs(rest, 3)
    np.testing.assert_allclose(found.values, expected.values, atol=1e-8)
    assert np.abs(found.vectors[:, :, 5:8]).max() < 1e-5 * np.abs(found.vectors).max()


def test_graphs_of_a_batch_do_not_mix():
    points = features(160, batch=3)
    together = smallest_eigenpairs(binary_affinity(points, 0.2, EPS), 2)
    for i in range(3):
        alone = smallest_eigenpairs(binary_affinity(points[i : i + 1], 0.2, EPS), 2)
        np.testing.assert_allclose(together.values[i], alone.values[0], atol=1e-8)
        np.testing.assert_allclose(
            aligned(together.vectors[i], alone.vectors[0]), alone.vectors[0], atol=together.errors[i].max() + 1e-7
        )


def test_the_dense_solver_takes_over_at_the_limit(monkeypatch):
    graph = binary_affinity(features(100), 0.2, EPS)
    expected = dense_eigenpairs(graph)
    monkeypatch.setattr(spectral, "MAX_STEPS", 5)
    found = smallest_eigenpairs(graph)
    for ours, dense in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, dense)


def test_the_result_is_the_same_on_every_run_and_thread_count():
    graph = binary_affinity(features(700), 0.2, EPS)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 1, 2):
            torch.set_num_threads(threads)
            with exact_arithmetic():
                results.append(smallest_eigenpairs(graph, 2))
    finally:
        torch.set_num_threads(before)
    for first, second in zip(results[0], results[1], strict=True):
        np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(results[2].vectors, results[0].vectors, atol=results[0].errors.max())


def test_a_space_that_is_full_stops_growing():
    space = KrylovSpace(graph_of(block_diag(np.ones((3, 3)), np.ones((2, 2)))))
    space.start(seed=0)
    space.expand(6)  # four directions beside the known one are all there is
    values = space.ritz(6).values[0]
    np.testing.assert_allclose(sorted(values)[:2], [-2, -2])
    exact, _ = lapack(graph_of(block_diag(np.ones((3, 3)), np.ones((2, 2)))), 3)
    np.testing.assert_allclose(1 - values[:4], exact, atol=1e-6)
