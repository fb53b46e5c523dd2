"""Filtering on the lattice against the Gaussian sum that it stands for."""

import numpy as np
import pytest
import torch

from objloc_ros.errors import InputError
from objloc_ros.ops.crf import Lattice, _simplices, _to_lattice


def gaussian(points, values):
    distance = torch.cdist(points, points)
    return torch.exp(-0.5 * distance**2) @ values


def cloud(n, d, spread, seed=0):
    return torch.rand(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * spread


@pytest.mark.parametrize(("d", "spread", "close"), [(1, 20, 0.06), (2, 10, 0.1), (3, 5, 0.13), (5, 3, 0.2)])
def test_normalised_filtering_approximates_the_gaussian(d, spread, close):
    points = cloud(1500, d, spread)
    values = torch.stack([torch.ones(1500), torch.sin(points.sum(1)).float()], dim=1)
    exact = gaussian(points, values.double())
    ours = Lattice(points).filter(values).double()
    error = (ours[:, 1] / ours[:, 0] - exact[:, 1] / exact[:, 0]).abs().mean()
    assert error < close


@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_weights_are_the_barycentric_coordinates(d):
    points = cloud(200, d, 4)
    names, strides, weights = _simplices(points)
    assert names.shape == weights.shape == (200, d + 1)
    assert (weights >= 0).all()
    torch.testing.assert_close(weights.sum(1), torch.ones(200))
    corners = torch.zeros(200, d + 1, d, dtype=torch.float64)  # decode the names
    rest = names.clone()
    for axis in reversed(range(d)):
        corners[:, :, axis] = (rest // strides[axis]).double()
        rest %= strides[axis]
    place = points @ _to_lattice(d).T
    decoded = (corners * weights[:, :, None]).sum(1)
    offset = decoded - place
    torch.testing.assert_close(offset, offset[:1].expand_as(offset).round(), atol=1e-5, rtol=0)


def test_one_point_keeps_its_value_in_proportion():
    lattice = Lattice(torch.zeros(1, 2, dtype=torch.float64))
    assert 1 <= len(lattice) <= 3
    once, twice = lattice.filter(torch.ones(1, 1)), lattice.filter(2 * torch.ones(1, 1))
    assert once > 0
    torch.testing.assert_close(twice, 2 * once)


def test_filtering_is_linear_symmetric_and_repeatable():
    lattice = Lattice(cloud(300, 5, 3))
    a, b = torch.rand(2, 300, 1, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(lattice.filter(a + b), lattice.filter(a) + lattice.filter(b))
    torch.testing.assert_close((lattice.filter(a) * b).sum(), (a * lattice.filter(b)).sum(), rtol=0.2, atol=0)
    assert torch.equal(lattice.filter(a), Lattice(cloud(300, 5, 3)).filter(a))


def test_columns_are_filtered_alike():
    lattice = Lattice(cloud(200, 3, 3))
    values = torch.rand(200, 4)
    together = lattice.filter(values)
    for column in range(4):
        torch.testing.assert_close(together[:, column : column + 1], lattice.filter(values[:, column : column + 1]))


def test_points_too_far_apart_are_refused():
    far = torch.tensor(np.full((2, 5), [[0.0], [1e6]]).reshape(2, 5))
    with pytest.raises(InputError, match="lattice corners"):
        Lattice(far)
