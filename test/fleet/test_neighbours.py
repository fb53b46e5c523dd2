"""Links between objects: who is whose neighbour, what is never linked, and that shards make no difference."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from sklearn.metrics import roc_auc_score

from objloc_ros.errors import InputError, ParameterError
from objloc_ros.fleet import neighbours as rooms
from objloc_ros.fleet.neighbours import (
    BLOCK_ROWS,
    Nodes,
    Origins,
    find_groups,
    find_neighbours,
    keep_best,
    pair_edges,
    symmetrise,
)
from objloc_ros.fleet.recurring import RecurringOptions, rank_objects

NONE = -1


def origins(count: int, **given: Any) -> Origins:
    """Every image a recording of its own, of an unknown camera."""
    fields = {"recordings": np.arange(count), "cameras": np.full(count, NONE), "stamps_s": np.full(count, math.nan)}
    return Origins(**{**fields, **given})


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def make(descriptors: np.ndarray, **given: Any) -> Nodes:
    """One object per image, described as its image."""
    count = len(descriptors)
    boxes = given.pop("boxes", np.zeros((count, 4), np.float32))
    return Nodes(descriptors, boxes, np.ones(count, np.int64), descriptors, origins(count, **given))


def planted(kinds: int = 4, each: int = 12, unique: int = 150, channels: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian descriptors, of which some kinds come back; in random order."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(kinds, channels))
    labels = np.array([kind for kind in range(kinds) for _ in range(each)] + [NONE] * unique)
    rows = np.where((labels >= 0)[:, None], centres[labels] + 0.7 * rng.normal(size=(len(labels), channels)), 0)
    rows[labels < 0] = rng.normal(size=(unique, channels)) * 1.2
    order = rng.permutation(len(labels))
    return unit(rows[order]), labels[order]


def test_neighbours_are_the_largest_products_of_equal_ones_the_first() -> None:
    rows = unit(np.array([[1, 0], [1, 0.1], [1, 0], [0, 1], [1, 0]], float))
    found = find_neighbours(rows, 3, forbidden=origins(5))
    assert found[0].tolist() == [2, 4, 1]
    assert found[3].tolist() == [1, 0, 2]
    assert find_neighbours(rows, 9, forbidden=origins(5))[0].tolist()[:5] == [2, 4, 1, 3, NONE]
    assert find_neighbours(np.zeros((0, 2), np.float16), 3, forbidden=origins(0)).shape == (0, 3)


def test_blocks_of_columns_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = unit(np.random.default_rng(1).integers(-2, 3, (40, 6)) + 0.5)  # many ties
    whole = find_neighbours(rows, 7, forbidden=origins(40))
    monkeypatch.setattr(rooms, "BLOCK_COLUMNS", 9)
    assert np.array_equal(find_neighbours(rows, 7, forbidden=origins(40)), whole)


def test_ties_are_kept_from_the_left() -> None:
    values = np.array([[1, 3, 2, 2, 2], [0, 0, 0, 0, 0]], np.float32)
    kept, ids = keep_best(values, np.broadcast_to(np.arange(5), (2, 5)), 3)
    assert ids.tolist() == [[1, 2, 3], [0, 1, 2]]
    assert kept.tolist() == [[3, 2, 2], [0, 0, 0]]


def test_what_is_never_compared() -> None:
    where = {
        "recordings": np.array([0, 0, 0, 1, 1]),
        "cameras": np.array([0, 0, 0, 0, NONE]),
        "stamps_s": np.array([0.0, 5.0, 100.0, 0.0, math.nan]),
    }

    def allowed(**given: Any) -> list[tuple[int, int]]:
        forbidden = origins(5, **where, **given).forbid(slice(0, 5), slice(0, 5))
        assert np.array_equal(forbidden, forbidden.T)
        return [(i, j) for i in range(5) for j in range(i, 5) if not forbidden[i, j]]

    across = [(0, 3), (0, 4), (1, 3), (1, 4), (2, 3), (2, 4)]
    assert allowed() == across
    assert allowed(apart_s=10) == sorted([(0, 2), (1, 2), *across])
    assert allowed(across="camera") == [(0, 4), (1, 4), (2, 4)]
    assert allowed(across="none") == [(i, j) for i in range(5) for j in range(i + 1, 5)]
    assert not origins(3, recordings=np.zeros(3, int)).has_pairs()
    assert origins(2).has_pairs()
    with pytest.raises(ParameterError, match="across must be one of recording, camera, none; got 'time'"):
        origins(2, across="time")
    with pytest.raises(ParameterError, match="apart must be at least 0 s"):
        origins(2, apart_s=-1.0)


def test_parts_of_the_robot_are_not_linked() -> None:
    rows = unit(np.array([[1, 0.01], [1, 0.02], [1, 0.03]]))
    boxes = np.array([[0, 80, 100, 100], [0, 80, 100, 100], [40, 20, 60, 40]], np.float32)

    def linked(**given: Any) -> set[tuple[int, int]]:
        nodes = make(rows, boxes=boxes, **given)
        near = find_neighbours(rows, 2, forbidden=nodes.origins)
        return set(zip(*(axis.tolist() for axis in pair_edges(nodes, near, links=2, tau=0.0).nonzero()), strict=True))

    everything = {(i, j) for i in range(3) for j in range(3) if i != j}
    assert linked(cameras=np.zeros(3, int)) == everything - {(0, 1), (1, 0)}
    assert linked(cameras=np.arange(3)) == everything
    assert linked() == everything, "of unknown cameras nothing is known"
    assert linked(cameras=np.zeros(3, int), across="none") == everything


def test_links_are_the_best_beyond_tau() -> None:
    rows = unit(np.array([[1, 0, 0], [0.9, 0.4, 0], [0.8, 0, 0.6], [0, 0, 1]]))
    nodes = make(rows)
    near = find_neighbours(rows, 3, forbidden=nodes.origins)
    cosines = rows.astype(np.float32) @ rows.astype(np.float32).T
    edges = pair_edges(nodes, near, links=1, tau=0.5).toarray()
    assert (edges > 0).sum(axis=1).tolist() == [1, 1, 1, 1]
    assert edges[0, 1] == pytest.approx(cosines[0, 1] - 0.5)
    assert edges[3, 2] == pytest.approx(cosines[3, 2] - 0.5)
    assert pair_edges(nodes, near, links=3, tau=0.99).nnz == 0


def test_the_matrix_is_the_greater_direction_whatever_its_blocks() -> None:
    one_way = scipy.sparse.random_array((30, 30), density=0.2, rng=np.random.default_rng(2), dtype=np.float32).tocsr()
    whole = symmetrise([one_way])
    expected = np.maximum(one_way.toarray(), one_way.toarray().T)
    assert np.array_equal(whole.blocks[0].toarray(), expected)
    for bounds in ([0, 10, 20, 30], [0, 1, 29, 30]):
        blocks = [one_way[start:stop] for start, stop in pairwise(bounds)]
        split = symmetrise(blocks, edges=1)
        assert len(split.blocks) == 3
        assert np.array_equal(scipy.sparse.vstack(split.blocks).toarray(), expected)
        vector = np.random.default_rng(3).random(30)
        assert np.array_equal(split @ vector, whole @ vector)
        assert len(symmetrise(blocks).blocks) == 1


def test_groups_need_both_to_have_chosen_each_other() -> None:
    edges = np.zeros((6, 6), np.float32)
    for row, column, weight in ((0, 1, 0.9), (1, 0, 0.9), (2, 1, 0.8), (2, 3, 0.3), (3, 2, 0.3), (4, 0, 0.5)):
        edges[row, column] = weight
    blocks = [scipy.sparse.csr_array(edges[:2]), scipy.sparse.csr_array(edges[2:])]
    assert find_groups(blocks, 5).tolist() == [0, 0, 1, 1, 2, 3]
    assert find_groups(blocks, 1).tolist() == [0, 0, 1, 2, 3, 4], "2 has chosen 1 before 3"


@pytest.mark.parametrize("method", ["q", "degree", "lod"])
def test_planted_kinds_are_ranked_first(method: Any) -> None:
    descriptors, labels = planted()
    nodes = make(descriptors)
    near = find_neighbours(descriptors, 100, forbidden=nodes.origins)
    options = RecurringOptions(method=method)
    edges = pair_edges(nodes, near, links=options.links, tau=options.tau)
    recurring = rank_objects([edges], nodes, options)
    assert roc_auc_score(labels >= 0, recurring.scores) >= 0.95
    first = {int(labels[recurring.groups == number][0]) for number in range(1, 7)}
    assert first == {0, 1, 2, 3}, "all kinds are among the first groups"


@pytest.mark.parametrize("method", ["q", "degree", "pagerank", "lod"])
def test_scores_do_not_depend_on_shards(method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "BLOCK_ROWS", 8)  # so that 56 images make 7 shards
    descriptors = planted(kinds=3, each=6, unique=38)[0]
    nodes, options = make(descriptors), RecurringOptions(method=method, near=20)

    def scores(shards: int) -> np.ndarray:
        bounds = [8 * (7 * number // shards) for number in range(shards)] + [56]
        edges = []
        for start, stop in pairwise(bounds):
            near = find_neighbours(descriptors, 20, forbidden=nodes.origins, rows=range(start, stop))
            edges.append(pair_edges(nodes, near, links=5, tau=0.1, rows=range(start, stop)))
        assert len(edges) == shards
        return rank_objects(edges, nodes, options).scores

    whole = scores(1)
    assert np.array_equal(scores(3), whole)
    assert np.array_equal(scores(7), whole)


def test_a_permutation_of_images_permutes_scores() -> None:
    descriptors, options = planted(kinds=3, each=6, unique=38)[0], RecurringOptions()
    order = np.random.default_rng(4).permutation(len(descriptors))

    def scores(rows: np.ndarray) -> np.ndarray:
        nodes = make(rows)
        near = find_neighbours(rows, 20, forbidden=nodes.origins)
        return rank_objects([pair_edges(nodes, near, links=5, tau=0.1)], nodes, options).scores

    np.testing.assert_allclose(scores(descriptors[order]), scores(descriptors)[order], atol=1e-5)


def test_images_without_objects_and_isolated_ones() -> None:
    descriptors = unit(np.array([[1.0, 0], [1, 0.1], [-1, 0], [0, 1]]))
    nodes = Nodes(
        descriptors, np.zeros((4, 4), np.float32), np.array([1, 0, 2, 1, 0]), descriptors[[0, 0, 1, 2, 3]], origins(5)
    )
    near = find_neighbours(nodes.image_descriptors, 4, forbidden=nodes.origins)
    edges = pair_edges(nodes, near, links=3, tau=0.5)
    recurring = rank_objects([edges], nodes, RecurringOptions())
    assert recurring.groups.tolist() == [1, 1, 0, 0]
    assert recurring.ranks.tolist() == [1, 2, 3, 4]
    assert np.isfinite(recurring.scores).all()


def test_what_cannot_be_linked_is_refused() -> None:
    rows = unit(np.ones((3, 2)))
    broken = rows.copy()
    broken[1, 0] = np.nan
    near = find_neighbours(rows, 2, forbidden=origins(3))
    with pytest.raises(InputError, match="descriptor 1 of 3 is not finite"):
        find_neighbours(broken, 2, forbidden=origins(3))
    with pytest.raises(InputError, match="descriptor 1 of 3 is not finite"):
        pair_edges(make(broken), near, links=1, tau=0)
    with pytest.raises(ParameterError, match="at least 1 neighbour"):
        find_neighbours(rows, 0, forbidden=origins(3))
    with pytest.raises(ParameterError, match=f"multiple of {BLOCK_ROWS}"):
        find_neighbours(rows, 1, forbidden=origins(3), rows=range(1, 3))
    with pytest.raises(ParameterError, match="at least 1 link"):
        pair_edges(make(rows), near, links=0, tau=0)
    with pytest.raises(ParameterError, match="tau must lie between -1 and 1"):
        pair_edges(make(rows), near, links=1, tau=1)
