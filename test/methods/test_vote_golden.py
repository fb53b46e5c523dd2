"""The vote and its clusters against the original implementation's outputs."""

import numpy as np
import pytest
from golden_cases import IS_ILL_POSED, find_cases, load_case, to_device, to_host

from objloc_ros.methods.patch_object import unit_features
from objloc_ros.methods.vote import CLUSTERS, minmax_affinity, spectral_candidates
from objloc_ros.ops.spectral import smallest_eigenpairs
from objloc_ros.ops.voting import vote


@pytest.mark.parametrize("path", find_cases("selfmask_vote"), ids=lambda path: path.stem)
def test_vote(path):
    case = load_case(path)
    outcome = vote(case["masks"], bool(case["small_large"]))
    np.testing.assert_array_equal(outcome.kept, case["kept"])
    np.testing.assert_allclose(outcome.scores, case["scores"], rtol=1e-6)
    assert outcome.winner == case["best"]
    np.testing.assert_array_equal(case["masks"][outcome.winner], case["best_mask"])
    if IS_ILL_POSED["selfmask_vote"](case):  # nobody may take part, so all do
        assert len(outcome.kept) == len(case["masks"])


@pytest.mark.parametrize("path", find_cases("selfmask_spectral"), ids=lambda path: path.stem)
def test_clusters(path):
    case = load_case(path)
    grid, k = case["labels"].shape, int(case["k"])
    features = to_device(case["features"]).flatten(1).T[None]
    graph = minmax_affinity(unit_features(features, grid))
    np.testing.assert_allclose(to_host(next(graph.dense())[0]), case["adjacency_row0"], atol=1e-6)
    np.testing.assert_allclose(to_host(graph.degrees[0]), case["degree"], rtol=1e-6)
    np.testing.assert_allclose(to_host(smallest_eigenpairs(graph, k).values[0]), case["eigenvalues"][1:], atol=1e-7)
    (masks,) = spectral_candidates(features, grid)
    start = sum(fewer for fewer in CLUSTERS if fewer < k)
    np.testing.assert_array_equal(masks[start : start + k].argmax(0), case["labels"])
