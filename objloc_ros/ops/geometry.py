"""From a camera frame to a ViT input and back: resize, normalise, zero-pad right and bottom, and the exact inverse.

LOST, TokenCut and FOUND pad after normalisation, so padding has the mean colour. At native resolution (`short_side`
None) the rule is exactly theirs: no resizing, zeros up to the next multiple of the patch size.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from objloc_ros.errors import InputError, ParameterError
from objloc_ros.types import Grid, Size

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Geometry:
    """How one image size becomes a ViT input.

    Args:
        source: Height and width of the camera image.
        resized: Size that the methods work at; equal to `source` at native resolution.
        padded: `resized` rounded up to multiples of the patch size.
        patch: Patch side in pixels.
    """

    source: Size
    resized: Size
    padded: Size
    patch: int

    @property
    def grid(self) -> Grid:
        """Patch rows and columns of the padded image."""
        return self.padded[0] // self.patch, self.padded[1] // self.patch


def plan(source: Size, *, patch: int, short_side: int | None) -> Geometry:
    """Plan the sizes on the way from a source image to the ViT.

    Args:
        source: Height and width of the image, at least 1 each.
        patch: Patch side in pixels.
        short_side: Wanted shorter side in pixels, aspect ratio kept; a smaller image is never enlarged.
            None keeps the native resolution.

    Raises:
        InputError: If a side is below 1.
        ParameterError: If `patch` or `short_side` is below 1.
    """
    if min(source) < 1:
        raise InputError(f"image sides must be at least 1, got {source[1]}x{source[0]}")
    for name, value in (("patch", patch), ("short_side", short_side)):
        if value is not None and value < 1:
            raise ParameterError(f"{name} must be at least 1, got {value}")
    shorter = min(source)
    wanted = shorter if short_side is None else min(shorter, short_side)
    height, width = (max(1, round(side * wanted / shorter)) for side in source)
    padded = (-(-height // patch) * patch, -(-width // patch) * patch)
    return Geometry(source, (height, width), padded, patch)


def resize(image_u8: npt.NDArray[np.uint8], geometry: Geometry) -> npt.NDArray[np.uint8]:
    """Bring the source image uint8 [H, W, 3] to the processed size by averaging areas; at native size it is returned.

    Even sides are halved first while a factor of 1.5 or more remains: OpenCV's 2 x 2 mean is ten times faster than its
    averaging by fractional factors, which then reads a quarter of the pixels. Below 1.5 the detour would alias.

    Raises:
        InputError: If the image is not of the geometry's source size.
    """
    if image_u8.shape[:2] != geometry.source:
        raise InputError(f"expected an image of {geometry.source} rows x columns, got {image_u8.shape[:2]}")
    pixels = image_u8
    for size in steps(geometry):
        pixels = _shrink(pixels, size)
    return pixels


def steps(geometry: Geometry) -> list[Size]:
    """Return the sizes that an image passes on its way to the processed size, which is the last; none at native size.

    Each step but the last halves both sides.
    """
    if geometry.resized == geometry.source:
        return []
    sizes, (height, width) = [], geometry.source
    while all(
        side % 2 == 0 and side // 2 >= 1.5 * wanted
        for side, wanted in zip((height, width), geometry.resized, strict=True)
    ):
        height, width = height // 2, width // 2
        sizes.append((height, width))
    return [*sizes, geometry.resized]


def normalise_array(
    pixels_u8: npt.NDArray[np.uint8], geometry: Geometry, mean: Triple, std: Triple, *, black: bool = False
) -> npt.NDArray[np.float32]:
    """Normalise and pad pixels uint8 [h', w', 3]: float32 [1, 3, Hp, Wp].

    The 256 values per channel are looked up: an order of magnitude faster than arithmetic.

    Args:
        pixels_u8: RGB, as `resize` returns them.
        geometry: From `plan`.
        mean: Channel means in [0, 1] units.
        std: Channel standard deviations in [0, 1] units.
        black: Pad before normalisation, as CLIP-DINOiser does; else after it, as the methods on DINO do.
    """
    height, width = geometry.resized
    out = np.zeros((1, 3, *geometry.padded), dtype=np.float32)
    for plane, values, target in zip(cv2.split(pixels_u8), lookup(mean, std), out[0], strict=True):
        if black:
            target[:] = values[0]
        target[:height, :width] = cv2.LUT(plane, values)
    return out


def boxes_to_source(boxes: npt.NDArray[np.float32], geometry: Geometry) -> npt.NDArray[np.float32]:
    """Map boxes float [n, 4] in processed pixels to float32 source pixels, clipped to the source image."""
    (height, width), (rows, columns) = geometry.source, geometry.resized
    scale = np.array([width / columns, height / rows] * 2)
    limit = np.array([width, height] * 2, dtype=np.float64)
    scaled = np.asarray(boxes, dtype=np.float64).reshape(-1, 4) * scale
    return np.clip(scaled, 0.0, limit).astype(np.float32)


def map_to_source(values: npt.NDArray, geometry: Geometry, interpolation: int = cv2.INTER_LINEAR) -> npt.NDArray:
    """Resample a map [h', w'] of the processed size to the source size [H, W]; at native resolution it is returned.

    Args:
        values: float32, uint8 or bool; a bool map is always sampled by nearest neighbour and stays bool.
        geometry: From `plan`.
        interpolation: An OpenCV flag: cv2.INTER_LINEAR or cv2.INTER_NEAREST.

    Raises:
        InputError: If the map is not of the processed size.
    """
    if values.shape != geometry.resized:
        raise InputError(f"expected a map of {geometry.resized} rows x columns, got {values.shape}")
    if geometry.resized == geometry.source:
        return values
    height, width = geometry.source
    if values.dtype == bool:
        return cv2.resize(values.view(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST).view(bool)
    return cv2.resize(values, (width, height), interpolation=interpolation)


def _shrink(pixels: npt.NDArray[np.uint8], size: Size) -> npt.NDArray[np.uint8]:
    return cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)


@lru_cache(maxsize=8)
def lookup(mean: Triple, std: Triple) -> npt.NDArray[np.float32]:
    """Return the normalised value of each byte, float32 [3, 256]: (v / 255 - mean) / std."""
    unit = np.arange(256, dtype=np.float32) / np.float32(255)
    return (unit - np.array(mean, dtype=np.float32)[:, None]) / np.array(std, dtype=np.float32)[:, None]
