"""Copy-paste of CutLER (Wang et al., CVPR 2023, section 3.4): objects of one image in another.

Teachers that find one object in an image so teach a detector to find several. Three deliberate differences from the
original: boxes are always those of the masks (of an image without objects the original shifts them along the wrong
axes), objects that vanish when they shrink are left out, and every draw is keyed, so that it does not depend on the
number of workers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import interpolate

from objloc_ros.ops.regions import count_shared, extent
from objloc_ros.types import Image, Size, size_of

Masks = npt.NDArray[np.bool_]
"""[n, H, W]."""

FIRST_RATIO = (0.3, 1.0)
"""Range of the scale of what is pasted, relative to the target, in the first training."""

LATER_RATIO = (0.5, 1.0)
"""The same in the rounds that follow."""

MAX_COVERED = 0.5
"""An object is pasted only where it covers less than this part of every object that is there."""


class Draw(NamedTuple):
    """What is pasted, and where.

    Args:
        choice: int64 [m], the places of the pasted objects among those of the source.
        ratio: Sides of the pasted image relative to the target's.
        shift_x: Its left side in the target, in pixels.
        shift_y: Its upper side in the target, in pixels.
    """

    choice: npt.NDArray[np.int64]
    ratio: float
    shift_x: int
    shift_y: int


class Pasted(NamedTuple):
    """An image with objects of another.

    Args:
        image: RGB uint8 [H, W, 3], a new one.
        masks: bool [n, H, W], the objects that were there and are still seen, then those that were pasted.
        boxes: float64 [n, 4], tight around the masks (x1, y1, x2, y2), max side exclusive.
        kept: int64, the places of the former among the target's objects.
        pasted: int64, the places of the latter among the source's objects.
    """

    image: Image
    masks: Masks
    boxes: npt.NDArray[np.float64]
    kept: npt.NDArray[np.int64]
    pasted: npt.NDArray[np.int64]


def draw_paste(rng: np.random.Generator, count: int, size: Size, ratios: tuple[float, float] = FIRST_RATIO) -> Draw:
    """Draw what is pasted: one object of a single one, else at least one and never all; anywhere in the target.

    Args:
        rng: `np.random.default_rng([seed, step, i])` for the i-th pair of a step.
        count: Number of the source's objects, at least 1.
        size: Height and width of the target.
        ratios: Range of the scale.
    """
    chosen = 1 if count == 1 else int(rng.integers(1, count))
    choice = rng.choice(count, chosen, replace=False)
    ratio = float(rng.uniform(*ratios))
    height, width = _scale(size, ratio)
    shift_x = int(rng.integers(0, size[1] - width + 1))
    return Draw(choice.astype(np.int64), ratio, shift_x, int(rng.integers(0, size[0] - height + 1)))


def copy_paste(
    source: Image,
    source_masks: Masks,
    target: Image,
    target_masks: Masks,
    *,
    choice: npt.NDArray[np.int64],
    ratio: float,
    shift_x: int,
    shift_y: int,
) -> tuple[Image, Masks, npt.NDArray[np.float64]]:
    """Paste objects of one image into another; see `paste_objects`.

    Returns:
        Image, masks and boxes of a `Pasted`.
    """
    return paste_objects(source, source_masks, target, target_masks, Draw(choice, ratio, shift_x, shift_y))[:3]


def paste_objects(source: Image, source_masks: Masks, target: Image, target_masks: Masks, draw: Draw) -> Pasted:
    """Paste objects of one image into another, in front of what is there.

    The whole source is brought to the target's size times the ratio, whatever its aspect; masks grow by the pixels that
    they touch. An object that covers half of one that is there is not pasted.

    Args:
        source: RGB uint8 [H', W', 3].
        source_masks: bool [m, H', W'].
        target: RGB uint8 [H, W, 3].
        target_masks: bool [n, H, W].
        draw: What is pasted and where.
    """
    size = size_of(target)
    height, width = _scale(size, draw.ratio)
    rows, columns = slice(draw.shift_y, draw.shift_y + height), slice(draw.shift_x, draw.shift_x + width)
    moved = np.zeros((len(draw.choice), *size), np.bool_)
    moved[:, rows, columns] = _resize(source_masks[draw.choice].astype(np.float32), (height, width)) > 0
    fits = _measure_covered(moved, target_masks) < MAX_COVERED
    fits &= moved.any(axis=(1, 2))
    front = np.logical_or.reduce(moved[fits], axis=0)
    image = target.copy()
    if fits.any():
        pixels = _resize(source.transpose(2, 0, 1).astype(np.float32), (height, width)).astype(np.uint8)  # truncated
        inside = front[rows, columns]
        image[rows, columns][inside] = pixels.transpose(1, 2, 0)[inside]
    behind = target_masks & ~front
    seen = behind.any(axis=(1, 2))
    masks = np.concatenate([behind[seen], moved[fits]])
    boxes = np.array([extent(mask) for mask in masks], np.float64).reshape(-1, 4)
    return Pasted(image, masks, boxes, np.flatnonzero(seen), draw.choice[fits])


def _scale(size: Size, ratio: float) -> Size:
    """Return the size of what is pasted: at least one pixel, rounded down."""
    return max(1, int(ratio * size[0])), max(1, int(ratio * size[1]))


def _resize(planes: npt.NDArray[np.float32], size: Size) -> npt.NDArray[np.float32]:
    """Resize [n, H, W] bilinearly, without smoothing, as the original does to the last bit."""
    if not len(planes):
        return np.zeros((0, *size), np.float32)
    resized: npt.NDArray[np.float32] = interpolate(torch.from_numpy(planes)[None], size, mode="bilinear")[0].numpy()
    return resized


def _measure_covered(moved: Masks, masks: Masks) -> npt.NDArray[np.float64]:
    """Measure the largest part of any mask [n, H, W] that each moved one [m, H, W] covers: float64 [m]."""
    if not len(masks):
        return np.zeros(len(moved))
    areas = np.maximum(np.count_nonzero(masks, axis=(1, 2)), 1)
    covered: npt.NDArray[np.float64] = (count_shared(moved, masks) / areas).max(axis=1)
    return covered
