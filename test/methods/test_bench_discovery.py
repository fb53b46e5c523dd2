"""The discovery methods against their literal formulations, on the features of the benchmark."""

import sys
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from objloc_ros.methods.deep_spectral import deep_spectral
from objloc_ros.methods.lost import lost
from objloc_ros.methods.maskcut import maskcut
from objloc_ros.methods.tokencut import tokencut

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
import literal_discovery as literal
from planted import planted_features

GRIDS = [(12, 16), (16, 16), (9, 20)]


@pytest.fixture(autouse=True)
def single_threaded():
    """On matrices this small a second thread only waits."""
    with threadpool_limits(1):
        yield


@pytest.fixture(params=[0, 1])
def seed(request):
    return request.param


def overlap(mask, labels):
    """Best IoU of a mask with a planted object."""
    objects = [labels.numpy() == label for label in range(1, int(labels.max()) + 1)]
    return max((mask & one).sum() / (mask | one).sum() for one in objects)


@pytest.mark.parametrize("symmetrise", [False, True])
@pytest.mark.parametrize("grid", GRIDS)
def test_lost(grid, seed, symmetrise):
    features, labels = planted_features(grid, images=2, seed=seed)
    for image, found, objects in zip(features, lost(features, grid), labels, strict=True):
        mask = literal.lost(image, grid, symmetrise=symmetrise)
        np.testing.assert_array_equal(found.mask.numpy(), mask)
        assert overlap(mask, objects) > 0.5


@pytest.mark.parametrize("grid", GRIDS)
def test_tokencut(grid, seed):
    features, labels = planted_features(grid, images=2, seed=seed)
    for image, found, objects in zip(features, tokencut(features, grid), labels, strict=True):
        mask = literal.tokencut(image, grid)
        np.testing.assert_array_equal(found.mask.numpy(), mask)
        assert overlap(mask, objects) > 0.5


@pytest.mark.parametrize("grid", GRIDS)
def test_maskcut(grid, seed):
    features, labels = planted_features(grid, images=2, seed=seed)
    for image, found, objects in zip(features, maskcut(features, grid), labels, strict=True):
        masks = literal.maskcut(image, grid, size=grid).astype(bool)
        np.testing.assert_array_equal(np.stack([one.mask.numpy() for one in found]), masks)
        assert overlap(masks[0], objects) > 0.5


def test_literal_masks_are_enlarged_to_the_nearest_patch(seed):
    features, _ = planted_features((6, 8), seed=seed)
    masks = literal.maskcut(features[0], (6, 8), size=(6, 8))
    np.testing.assert_array_equal(literal.maskcut(features[0], (6, 8), size=(30, 24)), masks.repeat(5, 1).repeat(3, 2))


@pytest.mark.parametrize("grid", GRIDS)
def test_deep_spectral(grid, seed):
    features, labels = planted_features(grid, images=2, seed=seed)
    for image, found, objects in zip(features, deep_spectral(features, grid), labels, strict=True):
        values, vectors, segment = literal.deep_spectral(image, grid)
        # The literal one divides by a nearly singular matrix in float32, from a random start.
        np.testing.assert_allclose(found.eigenvalues, values, rtol=0, atol=1e-5)
        np.testing.assert_array_equal(found.segment.numpy(), segment)
        np.testing.assert_allclose(found.eigenvectors[1], vectors[1], rtol=0, atol=1e-4)
        assert (objects.numpy()[segment] > 0).mean() > 0.5
