"""Gaussian filtering in many dimensions on the permutohedral lattice.

Adams, Baek and Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice", Eurographics 2010. Values are
splatted onto the corners of the simplex around each point, blurred along the lattice's axes, and read back.

In the coordinates used here the lattice is that of the integer vectors, a step along one of its d + 1 axes adds a unit
vector or all of them at once, and its simplices are those of Kuhn's triangulation: the corners around a point follow
from its integer part and the order of its fractional parts.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from objloc_ros.errors import InputError


class Lattice:
    """The lattice around a set of points, ready to filter any number of values.

    Args:
        points: float [n, d], in units of the Gaussian's standard deviation; n at least 1.

    Raises:
        InputError: If the points span more of the lattice than 63-bit numbers can name.
    """

    def __init__(self, points: Tensor) -> None:
        d = points.shape[1]
        corners, strides, self._weights = _simplices(points.double())
        names = corners.flatten()
        order = torch.sort(names, stable=True)
        first = torch.cat([torch.ones_like(names[:1], dtype=torch.bool), order.values.diff() != 0])
        vertex = torch.empty_like(names)
        vertex[order.indices] = first.long().cumsum(0) - 1
        self._vertices = vertex.view(corners.shape)
        self._starts = first.nonzero()[:, 0]
        self._members = order.indices // (d + 1)
        self._member_weights = self._weights.flatten()[order.indices]
        known = order.values[first]
        self._axes = [_neighbours(known, step) for step in (*strides, strides.sum())]
        self._gain = 1 / (1 + 2.0**-d)

    def __len__(self) -> int:
        """Count the corners that some point touches."""
        return len(self._starts)

    def filter(self, values: Tensor) -> Tensor:
        """Blur values float32 [n, m] over the points; deterministic on every device."""
        splatted = F.embedding_bag(
            self._members, values, self._starts, per_sample_weights=self._member_weights, mode="sum"
        )
        grid = F.pad(splatted, (0, 0, 0, 1))  # the last row is the corner that is not there
        for ahead, behind in self._axes:
            grid[:-1] += 0.5 * (grid[ahead] + grid[behind])
        blurred = F.embedding_bag(self._vertices, grid, per_sample_weights=self._weights, mode="sum")
        return blurred * self._gain


def _simplices(points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The simplex around each point.

    Returns:
        Names int64 [n, d + 1] of its corners, the strides int64 [d] that a step in each dimension adds to a name, and
        the point's barycentric weights float32 [n, d + 1].
    """
    place = points @ _to_lattice(points.shape[1]).T.to(points.device)
    base = place.floor()
    fraction, order = torch.sort((place - base).float(), dim=1, descending=True, stable=True)
    bounds = F.pad(fraction, (1, 1))
    bounds[:, 0] = 1
    base -= base.amin(0) - 1
    strides = _strides(base.amax(0))
    steps = torch.cat([(base.long() * strides).sum(1, keepdim=True), strides[order]], dim=1)
    return steps.cumsum(1), strides, bounds[:, :-1] - bounds[:, 1:]


def _to_lattice(d: int) -> Tensor:
    """Matrix [d, d] from points to lattice coordinates.

    A blur along every axis with the weights (1/2, 1, 1/2) has the variance of a unit Gaussian where d + 1 steps of the
    embedding are sqrt(2/3) (d + 1) long (paper, section 3.1).
    """
    scale = torch.tensor([math.sqrt(2 / 3) * (d + 1) / math.sqrt((i + 1) * (i + 2)) for i in range(d)]).double()
    embedding = torch.zeros(d + 1, d, dtype=torch.float64)
    for j in range(d + 1):
        embedding[j, j:] = scale[j:]
        if j:
            embedding[j, j - 1] = -j * scale[j - 1]
    return (embedding[d] - embedding[:d]) / (d + 1)


def _strides(highest: Tensor) -> Tensor:
    """Strides int64 [d] that give each corner up to one step beyond `highest` [d], and its neighbours, a number."""
    extents = [int(extent) + 3 for extent in highest]
    if math.prod(extents) >= 2**63:
        raise InputError(f"points span {' x '.join(map(str, extents))} lattice corners, more than can be numbered")
    return torch.tensor([1, *extents[:-1]], device=highest.device).cumprod(0)


def _neighbours(known: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """Positions [V] of each corner's neighbours ahead and behind; V where there is none."""
    count = len(known)
    found = torch.searchsorted(known, known + step).clamp_max(count - 1)
    exists = known[found] == known + step
    ahead = torch.where(exists, found, count)
    behind = torch.full_like(found, count)
    behind[found[exists]] = exists.nonzero()[:, 0]
    return ahead, behind
