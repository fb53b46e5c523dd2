"""What discovery asks of a GPU for a batch, and that it answers as a CPU does; on a stand-in where there is no GPU."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from golden_cases import find_cases, load_case, load_features
from scipy.linalg import block_diag
from stand_in import GPU, StandIn

from objloc_ros.engine.heads.discovery import DiscoveryHead
from objloc_ros.engine.results import Batch
from objloc_ros.errors import InputError
from objloc_ros.methods.deep_spectral import deep_spectral
from objloc_ros.methods.lost import lost
from objloc_ros.methods.maskcut import maskcut
from objloc_ros.methods.options import PATCH_METHODS
from objloc_ros.methods.tokencut import tokencut
from objloc_ros.ops import affinity, ncut, spectral
from objloc_ros.ops.affinity import Affinity, binary_affinity, positive_affinity, to_host
from objloc_ros.ops.geometry import plan
from objloc_ros.ops.krylov import KrylovSpace
from objloc_ros.ops.spectral import dense_eigenpairs, refined_eigenpairs, smallest_eigenpairs
from objloc_ros.types import Features

sys.path.insert(0, str(Path(__file__).parent))
from planted_scene import SCENE, planted

LARGE = np.kron(SCENE, np.ones((2, 2), int))
"""More patches than those for which LAPACK solves the whole problem."""

CALLS = {
    "lost": lambda f, g: [[each] for each in lost(f, g)],
    "tokencut": lambda f, g: [[each] for each in tokencut(f, g)],
    "tokencut weighted": lambda f, g: [[each] for each in tokencut(f, g, binary=False)],
    "maskcut": maskcut,
    "deep_spectral": lambda f, g: [[each.object()] for each in deep_spectral(f, g)],
}


def scene(count, label_map=LARGE, noise=0.2):
    """Features of different images, [count, N, C]."""
    return torch.cat([planted(label_map, noise=noise, channels=24, seed=i) for i in range(count)])


def ask(call, features, *arguments):
    """Return what a method answers to features on the stand-in, and what it asked of it."""
    with StandIn() as gpu:
        answer = call(features.to(GPU), *arguments)
    return answer, gpu


def graph_of(links, batch=1):
    return Affinity([torch.from_numpy(np.tile(links, (batch, 1, 1)).astype(np.float32)).to(GPU)], 1e-5, 1 - 1e-5, True)


@pytest.mark.parametrize("label_map", [SCENE[:7], LARGE], ids=["small", "large"])
@pytest.mark.parametrize("method", CALLS)
def test_a_batch_costs_as_many_launches_as_one_image(method, label_map):
    features = scene(1, label_map)
    counts = [ask(CALLS[method], features.repeat(size, 1, 1), label_map.shape)[1].counts for size in (1, 4, 8)]
    assert counts[0] == counts[1] == counts[2]
    assert all(counts[0])


@pytest.mark.parametrize("method", CALLS)
def test_a_batch_is_answered_as_its_images_are_one_by_one_on_a_cpu(method):
    features = scene(5, noise=0.5)
    answers, _ = ask(CALLS[method], features, LARGE.shape)
    for image, there in zip(features.split(1), answers, strict=True):
        (here,) = CALLS[method](image, LARGE.shape)
        for one, other in zip(here, there, strict=True):
            assert torch.equal(one.mask, other.mask)
            assert (one.seed, one.degenerate) == (other.seed, other.degenerate)


GOLDEN = {"lost": "lost", "tokencut": "tokencut", "maskcut": "maskcut", "deep_spectral": "dss"}


@pytest.mark.parametrize("method", GOLDEN)
def test_golden_cases_are_answered_in_batches_as_one_by_one(method):
    """Those of one grid together; cuts that the features do not determine may be others."""
    by_shape = {}
    for path in find_cases(GOLDEN[method]):
        case = load_case(path)
        if "error" not in case and case["grid"].prod() <= 300:
            features = load_features(case).cpu()
            by_shape.setdefault((tuple(case["grid"].tolist()), features.shape), {})[int(case["features_case"])] = (
                features
            )
    assert max(map(len, by_shape.values())) > 1
    for (grid, _), cases in by_shape.items():
        answers, _ = ask(CALLS[method], torch.cat(list(cases.values())), grid)
        for number, there in zip(cases, answers, strict=True):
            (here,) = CALLS[method](cases[number], grid)
            for one, other in zip(here, there, strict=True):
                assert one.degenerate == other.degenerate, number
                if not one.degenerate:
                    assert torch.equal(one.mask, other.mask), number
                    assert one.seed == other.seed, number


@pytest.mark.parametrize("fine", [False, True])
def test_the_space_grows_without_waiting(fine):
    costs = []
    for size in (1, 4, 8):
        with StandIn() as gpu:
            features = torch.nn.functional.normalize(scene(1).repeat(size, 1, 1), dim=2).to(GPU)
            space = KrylovSpace(binary_affinity(features, 0.2, 1e-5), fine=fine)
            space.start(seed=0)
            before, waits = gpu.launches, gpu.waits.total()
            space.expand(20)
            assert gpu.waits.total() == waits
            costs.append(gpu.launches - before)
            space.estimate_residuals(1)
            assert gpu.waits.total() == waits + 1
    assert costs[0] == costs[1] == costs[2]
    assert costs[0] % 20 == 0  # every step costs the same


@pytest.mark.parametrize(
    "links",
    [block_diag(*[np.ones((2, 2))] * 50), block_diag(*[np.ones((40, 40))] * 3), np.ones((100, 100)), np.eye(100)],
    ids=["pairs", "crowds", "complete", "identity"],
)
def test_a_space_that_is_closed_goes_on_outside_in_one_image_alone(links):
    """Where nothing of an image's vector is left a random one is taken; the other image of the batch does not mind."""
    n = len(links)
    other = (np.random.default_rng(3).random((n, n)) > 0.8).astype(float)
    other = np.maximum(other, other.T)
    here = [Affinity([each.astype(np.float32)[None]], 1e-5, 1 - 1e-5, True) for each in (links, other)]
    alone = [smallest_eigenpairs(graph, 2) for graph in here]
    with StandIn():
        strips = torch.from_numpy(np.stack([links, other]).astype(np.float32)).to(GPU)
        found = to_host(*smallest_eigenpairs(Affinity([strips], 1e-5, 1 - 1e-5, True), 2))
    for i, expected in enumerate(alone):
        np.testing.assert_allclose(found[0][i], expected.values[0], atol=1e-6)
        np.testing.assert_allclose(np.minimum(found[2][i], 1), np.minimum(expected.gaps[0], 1), atol=1e-3)


def test_a_space_is_enlarged_on_a_gpu_as_on_a_cpu():
    links = (np.random.default_rng(5).random((90, 90)) > 0.7).astype(np.float32)
    links = np.maximum(links, links.T)
    here = KrylovSpace(Affinity([links[None]], 1e-5, 1 - 1e-5, True))
    here.start(seed=0)
    here.expand(70)
    with StandIn():
        there = KrylovSpace(graph_of(links))
        there.start(seed=0)
        there.expand(70)
        values, residuals = to_host(there.ritz(3).values, there.ritz(3).residual_norms())
    np.testing.assert_allclose(values, here.ritz(3).values, atol=1e-6)
    assert residuals.max() < 1e-5


@pytest.mark.parametrize(
    "make", [lambda f: binary_affinity(f, 0.2, 1e-5), positive_affinity], ids=["binary", "weighted"]
)
def test_refined_and_dense_pairs_are_those_of_a_cpu(make):
    unit = torch.nn.functional.normalize(scene(3), dim=2)
    with StandIn() as gpu:
        graph = make(unit.to(GPU))
        before = gpu.waits.total()
        dense = dense_eigenpairs(graph, 2)
        assert gpu.waits.total() == before + 1
        dense, refined = to_host(*dense), to_host(*refined_eigenpairs(graph, smallest_eigenpairs(graph, 2)))
    for i in range(3):
        expected = dense_eigenpairs(make(unit[i : i + 1]), 2)
        for found, tolerance in ((dense, 1e-12), (refined, 1e-6)):
            np.testing.assert_allclose(found[0][i], expected.values[0], atol=tolerance)
            vectors = found[1][i] * np.sign((found[1][i] * expected.vectors[0]).sum(1, keepdims=True))
            np.testing.assert_allclose(vectors, expected.vectors[0], rtol=0, atol=100 * tolerance)


def test_a_cut_is_settled_by_refinement_for_the_whole_batch(monkeypatch):
    coarse = ncut.smallest_eigenpairs
    costs = []
    for size in (1, 4):
        with StandIn() as gpu:
            graph = graph_of(block_diag(np.ones((70, 70)), np.ones((20, 20))), size)
            found = coarse(graph)
            inexact = found._replace(errors=found.errors * 0 + 1)
            monkeypatch.setattr(ncut, "smallest_eigenpairs", lambda _, pairs=inexact: pairs)
            cuts = ncut.bipartition(graph)
            costs.append(gpu.counts)
        assert all(cut.side.tolist() == [False] * 70 + [True] * 20 for cut in cuts)
    assert costs[0] == costs[1]


@pytest.mark.parametrize("many", [False, True])
def test_pairs_on_the_threshold_are_decided_with_one_wait(many, monkeypatch):
    monkeypatch.setattr(affinity, "MAX_SINGLE_PAIRS", 10 if many else 10**9)
    with StandIn() as gpu:
        graph = binary_affinity(torch.eye(40).repeat(3, 1, 1).to(GPU), 0.0, 1e-5)
        assert gpu.waits == {"nonzero": 1}
        (links,) = to_host(*graph.strips)
    np.testing.assert_array_equal(links, np.tile(np.eye(40), (3, 1, 1)))


@pytest.mark.parametrize("method", ["lost", "tokencut", "maskcut", "deep_spectral"])
def test_scores_and_boxes_of_a_batch_wait_once_more(method):
    options = PATCH_METHODS[method](post="none")
    head = DiscoveryHead(method)
    geometry = plan((8 * LARGE.shape[0] - 3, 8 * LARGE.shape[1]), patch=8, short_side=None)
    images = [np.zeros((*geometry.source, 3), np.uint8)] * 4

    def features_of(keys):
        return Features(keys, keys, keys, keys.mT[:, :1], LARGE.shape)

    batch = scene(4)
    with StandIn() as gpu:
        there = head(Batch(images, [geometry] * 4, features_of(batch.to(GPU))), options)
    _, method_alone = ask(CALLS[method], batch, LARGE.shape)
    assert gpu.waits.total() == method_alone.waits.total() + 1
    for i, result in enumerate(there):
        (here,) = head(Batch(images[:1], [geometry], features_of(batch[i : i + 1])), options)
        np.testing.assert_array_equal(result.instances, here.instances)
        np.testing.assert_array_equal(result.detections.boxes, here.detections.boxes)
        np.testing.assert_allclose(result.detections.scores, here.detections.scores, atol=1e-6)


@pytest.mark.parametrize("method", CALLS)
def test_unusable_features_are_one_clear_error(method):
    features = scene(2)
    features[1, 5, 3] = float("nan")
    with pytest.raises(InputError, match="NaN"):
        ask(CALLS[method], features, LARGE.shape)


def test_the_stand_in_tells_devices_apart():
    with StandIn() as gpu:
        there = torch.ones(3).to(GPU)
        with pytest.raises(RuntimeError, match="one device"):
            there + torch.ones(3)
        with pytest.raises((RuntimeError, TypeError)):
            there.numpy()
        assert gpu.counts == (0, 0, 1)
        assert float((there + 1).sum()) == 6
        assert gpu.counts == (2, 1, 1)
        assert there[there > 0].cpu().tolist() == [1, 1, 1]
        assert gpu.waits == {"_local_scalar_dense": 1, "bool index": 1, "copy": 1}


def test_the_limit_of_steps_leaves_the_batch_to_lapack(monkeypatch):
    monkeypatch.setattr(spectral, "MAX_STEPS", 5)
    costs = []
    for size in (1, 4):
        with StandIn() as gpu:
            found = to_host(*smallest_eigenpairs(graph_of(block_diag(np.ones((70, 70)), np.ones((20, 20))), size)))
            costs.append(gpu.counts)
        np.testing.assert_allclose(found[0], np.full((size, 1), found[0][0, 0]))
    assert costs[0] == costs[1]
