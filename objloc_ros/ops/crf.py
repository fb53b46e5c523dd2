"""The fully connected CRF of two labels, which moves a mask to the edges of its image.

Krähenbühl and Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials", NeurIPS 2011. With
two labels the mean field has one unknown per pixel, s = Q(object) - Q(background), and its update is
s <- tanh(1/2 (u + sum_k w_k F_k s)), with u the log-odds of the mask and F_k a normalised Gaussian filter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from objloc_ros.errors import InputError, ParameterError
from objloc_ros.ops.regions import BoolMap, fill_holes, mask_iou
from objloc_ros.types import check_image


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
        names = corners.flatten()  # n*(d+1)
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
    """Return the simplex around each point.

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
    """Return the matrix [d, d] from points to lattice coordinates.

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
    """Return strides int64 [d] that number each corner up to one step beyond `highest` [d], and its neighbours."""
    extents = [int(extent) + 3 for extent in highest]
    if math.prod(extents) >= 2**63:
        raise InputError(f"points span {' x '.join(map(str, extents))} lattice corners, more than can be numbered")
    return torch.tensor([1, *extents[:-1]], device=highest.device).cumprod(0)


def _neighbours(known: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """Return positions [V] of each corner's neighbours ahead and behind; V where there is none."""
    count = len(known)
    found = torch.searchsorted(known, known + step).clamp_max(count - 1)
    exists = known[found] == known + step
    ahead = torch.where(exists, found, count)
    behind = torch.full_like(found, count)
    behind[found[exists]] = exists.nonzero()[:, 0]
    return ahead, behind


@dataclass(frozen=True)
class CrfOptions:
    """The model; checked on construction.

    Args:
        position_deviation: Standard deviation of the kernel of position alone, pixels.
        position_weight: Its weight.
        bilateral_deviation: Standard deviation in position of the kernel of position and colour, pixels.
        colour_deviation: Its standard deviation in colour, grey levels.
        bilateral_weight: Its weight.
        confidence: Probability of the label that the mask gives, in (0.5, 1).
        iterations: Mean-field updates.
        short_side: Shorter side in pixels of the images that the deviations in position are for; None for all images.
    """

    position_deviation: float = 3.0
    position_weight: float = 7.0
    bilateral_deviation: float = 50.0
    colour_deviation: float = 5.0
    bilateral_weight: float = 10.0
    confidence: float = math.e / (1 + math.e)
    iterations: int = 10
    short_side: int | None = None

    def shrink_to(self, short_side: int) -> CrfOptions:
        """Return the model for images of a shorter side in pixels: on smaller ones positions deviate by less."""
        if self.short_side is None or short_side >= self.short_side:
            return self
        scale = short_side / self.short_side
        return replace(
            self,
            position_deviation=self.position_deviation * scale,
            bilateral_deviation=self.bilateral_deviation * scale,
            short_side=short_side,
        )

    def __post_init__(self) -> None:
        for name in ("position_deviation", "bilateral_deviation", "colour_deviation"):
            if not getattr(self, name) > 0:
                raise ParameterError(f"{name} must be positive, got {getattr(self, name)}")
        for name in ("position_weight", "bilateral_weight"):
            if not getattr(self, name) >= 0:
                raise ParameterError(f"{name} must be at least 0, got {getattr(self, name)}")
        if not 0.5 < self.confidence < 1:
            raise ParameterError(f"confidence must lie between 0.5 and 1, both excluded, got {self.confidence}")
        if self.iterations < 1:
            raise ParameterError(f"iterations must be at least 1, got {self.iterations}")


MASKCUT = CrfOptions(short_side=480)
"""CutLER's: the mask's softmax as confidence; it resizes every image to 480x480 pixels."""

DEEP_SPECTRAL = CrfOptions(
    position_weight=3.0,
    bilateral_deviation=80.0,
    colour_deviation=13.0,
    confidence=0.99,
    iterations=5,
)
"""Of the single-object segmentation of Deep Spectral Methods."""


class DenseCrf:
    """The CRF of one image, ready to refine any number of masks.

    Args:
        image_rgb_u8: RGB uint8 [H, W, 3].
        options: The model.
        device: Where to compute.

    Raises:
        InputError: If the image is not a non-empty RGB uint8 array.
    """

    def __init__(
        self,
        image_rgb_u8: npt.NDArray[np.uint8],
        options: CrfOptions = MASKCUT,
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        check_image(image_rgb_u8)
        self._options, self._device = options, torch.device(device)
        self._shape = image_rgb_u8.shape[:2]
        rows, columns = np.mgrid[: self._shape[0], : self._shape[1]].reshape(2, -1)
        position = torch.from_numpy(np.stack([columns, rows], axis=1)).to(self._device)
        colour = torch.from_numpy(image_rgb_u8.reshape(-1, 3)).to(self._device)
        bilateral = torch.cat([position / options.bilateral_deviation, colour / options.colour_deviation], dim=1)
        self._kernels = [
            (options.position_weight, _NormalisedFilter(position / options.position_deviation)),
            (options.bilateral_weight, _NormalisedFilter(bilateral)),
        ]

    @torch.no_grad()
    def refine(self, masks: Sequence[BoolMap]) -> list[BoolMap]:
        """Infer the most likely label of every pixel.

        Args:
            masks: bool [H, W] each.

        Returns:
            bool [H, W] each.

        Raises:
            InputError: If a mask is not bool or not of the image's size.
        """
        for mask in masks:
            if mask.shape != self._shape or mask.dtype != np.bool_:
                raise InputError(f"expected bool masks of shape {self._shape}, got {mask.dtype} {mask.shape}")
        if not masks:
            return []
        signs = torch.from_numpy(np.stack(masks, axis=-1).reshape(-1, len(masks))).to(self._device).float() * 2 - 1
        unary = signs * math.log(self._options.confidence / (1 - self._options.confidence))
        odds = unary
        for _ in range(self._options.iterations):
            belief = torch.tanh(odds / 2)
            odds = unary + sum(weight * kernel(belief) for weight, kernel in self._kernels)
        refined = (odds > 0).T.reshape(len(masks), *self._shape).cpu().numpy()
        return list(refined)

    def gated(self, masks: Sequence[BoolMap]) -> list[BoolMap]:
        """Refine and fill holes; a mask that changes to an IoU below 0.5 with itself becomes empty (CutLER, 3.2)."""
        filled = [fill_holes(mask) for mask in self.refine(masks)]
        return [
            new if mask_iou(old, new) >= 0.5 else np.zeros_like(old) for old, new in zip(masks, filled, strict=True)
        ]


class _NormalisedFilter:
    """A Gaussian filter with symmetric normalisation: n F(n x), n = 1 / sqrt(F(1))."""

    def __init__(self, points: Tensor) -> None:
        self._lattice = Lattice(points)
        ones = torch.ones(len(points), 1, device=points.device)
        self._norm = (self._lattice.filter(ones) + 1e-20).rsqrt()

    def __call__(self, values: Tensor) -> Tensor:
        return self._norm * self._lattice.filter(self._norm * values)
