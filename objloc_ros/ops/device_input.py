"""Images that lie on a device as bytes become a ViT's input there: resized, normalised and padded as a batch.

The way is that of `geometry.resize`: halvings in integers, to the bit, then the mean over areas by fractional factors.
That is linear and separable, so that it is two matrix products with weights that depend on the sizes alone; rounded, it
is within one of 255 levels of what OpenCV computes. Nothing waits for the device but the first image of a size, whose
weights go up.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from objloc_ros.errors import InputError
from objloc_ros.ops.geometry import Geometry, Triple, lookup, steps
from objloc_ros.types import Size

MAX_KEPT = 32
"""Constants that are kept on the device: two for each pair of sizes, two for each network."""


class DeviceInput:
    """`inputs.to_input` for a batch on a device.

    Args:
        device: Where the images are.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._kept: dict[Hashable, Tensor] = {}

    def __call__(
        self, pixels_u8: Tensor, geometry: Geometry, mean: Triple, std: Triple, *, black: bool = False
    ) -> Tensor:
        """Resize, normalise and pad images of one size.

        Args:
            pixels_u8: RGB uint8 [B, H, W, 3] of the geometry's source size.
            geometry: From `plan`.
            mean: Channel means in [0, 1] units.
            std: Channel standard deviations in [0, 1] units.
            black: Pad before normalisation; else after it, with zeros.

        Returns:
            float32 [B, 3, Hp, Wp].

        Raises:
            InputError: If the images are not of the geometry's source size.
        """
        planes = self._resize(pixels_u8, geometry)  # B 3 h' w'
        table = self._keep(("bytes", mean, std), lambda: lookup(mean, std))  # 3 256
        channel = self._keep("channels", lambda: np.arange(3)[:, None, None] * 256)
        normalised = table.take(planes.long() + channel)
        if geometry.padded == geometry.resized:
            return normalised
        padding = table[:, :1, None] if black else torch.zeros_like(table[:, :1, None])  # 3 1 1
        padded = padding.expand(len(planes), 3, *geometry.padded).contiguous()
        padded[..., : geometry.resized[0], : geometry.resized[1]] = normalised
        return padded

    def _resize(self, pixels_u8: Tensor, geometry: Geometry) -> Tensor:
        """Bring images uint8 [B, H, W, 3] to the processed size: whole numbers [B, 3, h', w']."""
        if tuple(pixels_u8.shape[1:3]) != geometry.source:
            raise InputError(f"expected images of {geometry.source} rows x columns, got {tuple(pixels_u8.shape[1:3])}")
        pixels = pixels_u8
        for size in steps(geometry):
            if tuple(pixels.shape[1:3]) != (2 * size[0], 2 * size[1]):
                return self._average(pixels, size)
            pixels = halve(pixels)
        return pixels.permute(0, 3, 1, 2)

    def _average(self, pixels: Tensor, size: Size) -> Tensor:
        """Average whole numbers [B, H, W, 3] over areas, rounded: float32 [B, 3, h', w']."""
        down, across = (
            self._keep((side, wanted), partial(area_weights, side, wanted))
            for side, wanted in zip(pixels.shape[1:3], size, strict=True)
        )
        rows = (down @ pixels.float().flatten(2)).unflatten(2, pixels.shape[2:])  # B h' W 3
        return (rows.permute(0, 3, 1, 2) @ across.mT).round()

    def _keep(self, key: Hashable, make: Callable[[], npt.NDArray]) -> Tensor:
        """Return a constant, brought to the device when it is first asked for."""
        kept = self._kept.get(key)
        if kept is None:
            for oldest in list(self._kept)[: 1 - MAX_KEPT]:
                self._kept.pop(oldest, None)
            kept = self._kept[key] = torch.from_numpy(make()).to(self._device)
        return kept


def halve(pixels: Tensor) -> Tensor:
    """Average whole numbers [B, 2h, 2w, 3] over 2 x 2 pixels, halves rounded up as OpenCV does: int32 [B, h, w, 3]."""
    fours = pixels.unflatten(2, (-1, 2)).unflatten(1, (-1, 2))  # B h 2 w 2 3
    return (fours.sum((2, 4), dtype=torch.int32) + 2) >> 2


def area_weights(side: int, wanted: int) -> npt.NDArray[np.float32]:
    """Return which part of each of `wanted` equal areas of a line of `side` pixels each pixel is: [wanted, side]."""
    edges = np.arange(wanted + 1) * (side / wanted)
    start = np.arange(side)
    overlap = np.minimum(edges[1:, None], start + 1) - np.maximum(edges[:-1, None], start)
    return (np.clip(overlap, 0, None) * (wanted / side)).astype(np.float32)
