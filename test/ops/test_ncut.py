"""Cuts: orientation, seeds, ties, and graphs that determine none."""

import numpy as np
import pytest
import torch
from scipy.linalg import block_diag

from objloc_ros.ops import ncut
from objloc_ros.ops.affinity import Affinity, binary_affinity
from objloc_ros.ops.ncut import argmax_first, bipartition
from objloc_ros.ops.spectral import dense_eigenpairs

EPS = 1e-5


def graph_of(links):
    return Affinity([np.asarray(links, np.float32)[None]], base=EPS, scale=1 - EPS, binary=True)


@pytest.mark.parametrize(
    ("values", "index"),
    [
        ([0.0, 2.0, 1.0], 1),
        ([1.0, 2.0, 2.0], 1),
        ([1.0, 2.0 * (1 - 1e-7), 2.0], 1),  # equal but for round-off
        ([1.0, 2.0 * (1 - 1e-5), 2.0], 2),
        ([-3.0, -1.0, -1.0], 1),
    ],
)
def test_the_first_of_the_largest_is_taken(values, index):
    assert argmax_first(np.array(values)) == index


def test_the_smaller_crowd_is_the_seeds_side():
    (cut,) = bipartition(graph_of(block_diag(np.ones((70, 70)), np.ones((20, 20)))))
    assert cut.side.tolist() == [False] * 70 + [True] * 20
    assert (cut.seed, cut.empty, cut.degenerate) == (70, False, False)
    assert cut.vector[cut.seed] == pytest.approx(cut.vector.max(), rel=1e-6)
    assert cut.vector[cut.seed] > 0


@pytest.mark.parametrize("n", [2, 50, 200])
@pytest.mark.parametrize("fill", [np.ones, np.zeros], ids=["all alike", "nothing alike"])
def test_equal_weights_have_no_cut(n, fill):
    (cut,) = bipartition(graph_of(fill((n, n))))
    assert cut.empty


@pytest.mark.parametrize("n", [3, 40], ids=["small", "large"])
def test_equal_crowds_have_no_determined_cut(n):
    (cut,) = bipartition(graph_of(block_diag(*[np.ones((n, n))] * 3)))
    assert cut.degenerate
    assert not cut.empty


def test_an_entry_on_the_mean_leaves_its_side_open():
    """A chain of three equal crowds: the middle one's entries are zero, and so is the mean."""
    bridge = np.zeros((90, 90))
    bridge[:30, :30] = bridge[30:60, 30:60] = bridge[60:, 60:] = 1
    bridge[29, 30] = bridge[30, 29] = bridge[59, 60] = bridge[60, 59] = 1
    links = np.maximum(bridge, bridge[::-1, ::-1])
    (cut,) = bipartition(graph_of(links))
    assert cut.degenerate


@pytest.mark.parametrize("seed", range(12))
def test_sides_are_those_of_the_exact_eigenvector(seed):
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(1, 6, 16, generator=generator)[:, torch.randint(6, (240,), generator=generator)]
    points = torch.nn.functional.normalize(points + 0.8 * torch.randn(1, 240, 16, generator=generator), dim=-1)
    graph = binary_affinity(points, 0.2, EPS)
    (cut,) = bipartition(graph)
    exact = dense_eigenpairs(graph).vectors[0, 0]
    exact = exact * np.sign(exact[cut.seed])
    clear = np.abs(exact - exact.mean()) > 1e-9 * exact.std()
    np.testing.assert_array_equal(cut.side[clear], (exact > exact.mean())[clear])
    assert np.abs(exact[cut.seed]) >= (1 - 2e-6) * np.abs(exact).max()


def test_an_open_question_is_settled_by_refinement(monkeypatch):
    """An eigenvector too inexact for the cut is computed again; a good one is not."""
    calls = []
    refined = ncut.refined_eigenpairs
    monkeypatch.setattr(ncut, "refined_eigenpairs", lambda graph, found: calls.append(1) or refined(graph, found))
    graph = graph_of(block_diag(np.ones((70, 70)), np.ones((20, 20))))
    bipartition(graph)
    assert calls == []
    coarse = ncut.smallest_eigenpairs
    inexact = coarse(graph)._replace(errors=np.ones((1, 1, 90)))
    monkeypatch.setattr(ncut, "smallest_eigenpairs", lambda _: inexact)
    (cut,) = bipartition(graph)
    assert calls == [1]
    assert cut.side.tolist() == [False] * 70 + [True] * 20
