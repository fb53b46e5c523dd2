"""Graphs of patches: exact thresholds, and products against the matrix written out."""

import numpy as np
import pytest
import torch

from objloc_ros.ops import affinity
from objloc_ros.ops.affinity import (
    binary_affinity,
    exact_arithmetic,
    gram_strips,
    positive_affinity,
    thresholded_affinity,
)

TAU, EPS = 0.15, 1e-5


def unit(n, channels=16, batch=1, seed=0):
    features = torch.randn(batch, n, channels, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.normalize(features, dim=-1)


@pytest.fixture(params=["square", "strips"])
def storage(request, monkeypatch):
    """Small graphs as one square, as they are, and in strips, as large ones are."""
    if request.param == "strips":
        monkeypatch.setattr(affinity, "ONE_STRIP_BELOW", 8)
        monkeypatch.setattr(affinity, "STRIP_ROWS", 16)
    return request.param


@pytest.mark.parametrize("n", [1, 9, 16, 40, 53])
def test_strips_are_the_upper_half_of_the_products(n, storage):
    features = unit(n, batch=2)
    rows = 0
    for first, strip in gram_strips(features):
        expected = features[:, first : first + strip.shape[1]] @ features[:, first:].mT
        torch.testing.assert_close(strip, expected, rtol=0, atol=1e-6)
        rows += strip.shape[1]
    assert rows == n


@pytest.mark.parametrize("offset", [-1e-9, 1e-9])
def test_a_pair_next_to_the_threshold_is_decided_in_float64(offset, storage):
    features = unit(40, channels=384)
    exact = features[0].double() @ features[0].double().T
    tau = float(exact[3, 20]) + offset
    (dense,) = binary_affinity(features, tau, EPS).dense()
    np.testing.assert_array_equal(dense > 0.5, (exact > tau).numpy())


def test_many_pairs_on_the_threshold_are_decided_at_once(storage, monkeypatch):
    monkeypatch.setattr(affinity, "MAX_SINGLE_PAIRS", 10)
    features = torch.eye(40).repeat(1, 1, 1)  # 1560 pairs of exactly 0
    (dense,) = binary_affinity(features, 0.0, EPS).dense()
    np.testing.assert_array_equal(dense > 0.5, np.eye(40, dtype=bool))


MAKERS = {
    "binary": (lambda f: binary_affinity(f, TAU, EPS), lambda g: np.where(g > TAU, 1.0, EPS)),
    "thresholded": (lambda f: thresholded_affinity(f, TAU, EPS), lambda g: np.where(g > TAU, g, EPS)),
    "positive": (positive_affinity, lambda g: np.maximum(g, 0)),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_products_and_degrees_are_those_of_the_matrix(kind, storage):
    make, literal = MAKERS[kind]
    features = unit(53, batch=2)
    graph = make(features)
    expected = literal((features.double() @ features.double().mT).numpy())
    np.testing.assert_allclose(np.stack(list(graph.dense())), expected, atol=1e-6)
    matrix = np.stack(list(graph.dense()))
    z = np.random.default_rng(0).standard_normal((2, 53))
    exact = np.einsum("bij,bj->bi", matrix, z)
    assert graph.shape == (2, 53)
    np.testing.assert_allclose(graph.product(z, fine=False), exact, rtol=0, atol=2e-5)
    np.testing.assert_allclose(graph.product(z, fine=True), exact, rtol=0, atol=1e-9)
    np.testing.assert_allclose(graph.degrees, matrix.sum(2), rtol=1e-12)


def test_fine_products_are_nearly_float64():
    graph = binary_affinity(unit(1500), TAU, EPS)
    z = np.random.default_rng(1).standard_normal((1, 1500))
    (dense,) = graph.dense()
    np.testing.assert_allclose(graph.product(z, fine=True)[0], dense @ z[0], rtol=0, atol=1e-10 * np.abs(z).sum())


def test_a_patch_without_links_keeps_the_base_weight(storage):
    features = unit(40)
    removed = np.zeros((1, 40), bool)
    removed[0, [3, 17]] = True
    graph = binary_affinity(features, TAU, EPS).without(removed)
    expected = np.where((features[0].double() @ features[0].double().T).numpy() > TAU, 1.0, EPS)
    expected[removed[0]] = expected[:, removed[0]] = EPS
    (dense,) = graph.dense()
    np.testing.assert_allclose(dense, expected, rtol=1e-12)
    z = np.random.default_rng(2).standard_normal((1, 40))
    np.testing.assert_allclose(graph.product(z, fine=True)[0], expected @ z[0], atol=1e-9)
    again = graph.without(np.roll(removed, 1))
    assert np.count_nonzero(again.active == 0) == 4


def test_global_precision_is_put_aside_and_restored():
    torch.set_float32_matmul_precision("medium")
    try:
        with exact_arithmetic():
            assert torch.get_float32_matmul_precision() == "highest"
        with pytest.raises(ZeroDivisionError), exact_arithmetic():
            raise ZeroDivisionError
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")


def test_autocast_does_not_reach_the_products():
    features = unit(30)
    with torch.autocast("cpu", torch.bfloat16), exact_arithmetic():
        ((_, strip),) = gram_strips(features)
        assert strip.dtype == torch.float32
        assert (features @ features.mT).dtype == torch.float32
