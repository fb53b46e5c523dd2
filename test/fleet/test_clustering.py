"""Clusters of descriptors against LOST's, and where there is little to cluster."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from golden_cases import find_cases, load_case

from objloc_ros.errors import InputError, ParameterError
from objloc_ros.fleet.clustering import cluster_objects, compute_inertia, whiten


def plant(clusters: int, each: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.permutation(np.repeat(np.arange(clusters), each))
    centres = rng.normal(0, 1, (clusters, 32))
    return centres[truth] + rng.normal(0, 0.1, (len(truth), 32)), truth


@pytest.mark.parametrize("path", find_cases("lost_od_clusters"), ids=lambda path: path.stem)
def test_clusters_are_at_least_as_tight_as_the_originals(path: Path) -> None:
    case = load_case(path)
    features = case["features"].astype(np.float32)
    rows = whiten(features)
    np.testing.assert_allclose(rows[0], case["whitened_row0"], atol=1e-6)
    assert compute_inertia(rows, case["labels"]) == pytest.approx(case["inertia"], rel=1e-5)
    labels = cluster_objects(features, int(case["k"]), int(case["seed"]))
    assert compute_inertia(rows, labels) <= case["inertia"]
    assert len(np.unique(labels)) == case["k"]


def test_planted_clusters_are_found_and_numbered_by_size() -> None:
    features, truth = plant(5, 12)
    kept = np.flatnonzero((truth != 3) | (np.cumsum(truth == 3) <= 6))
    labels, truth = cluster_objects(features[kept], 5, 1), truth[kept]
    pairs = {(label, kind) for label, kind in zip(labels, truth, strict=True)}
    assert len(pairs) == 5
    assert (4, 3) in pairs, "the smallest is the last"
    first = [int(np.flatnonzero(labels == label)[0]) for label in range(4)]
    assert first == sorted(first)


def test_the_seed_decides_alone() -> None:
    features = np.random.default_rng(3).normal(0, 1, (50, 8))
    np.testing.assert_array_equal(cluster_objects(features, 7, 5), cluster_objects(features.copy(), 7, 5))


def test_equal_descriptors_are_one_cluster_and_one_object_is_its_own() -> None:
    assert cluster_objects(np.ones((6, 4)), 3).tolist() == [0] * 6
    assert cluster_objects(np.ones((1, 4)), 1).tolist() == [0]
    assert cluster_objects(np.zeros((2, 4)), 2).tolist() == [0, 0]


def test_a_constant_dimension_is_divided_by_one() -> None:
    rows = whiten(np.array([[2.0, 0.0], [2.0, 2.0]]))
    np.testing.assert_allclose(rows, [[1, 0], [2**-0.5, 2**-0.5]])


@pytest.mark.parametrize("k", [0, -1, 4])
def test_more_clusters_than_objects_are_refused(k: int) -> None:
    with pytest.raises(ParameterError, match=f"at most the number of objects, 3; got {k}"):
        cluster_objects(np.eye(3), k)


def test_descriptors_that_are_no_numbers_are_refused() -> None:
    features = np.eye(3)
    features[1, 2] = np.nan
    with pytest.raises(InputError, match="descriptor 1 of 3 is not finite"):
        cluster_objects(features, 2)
