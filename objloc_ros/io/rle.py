"""Masks of COCO documents: polygons and run lengths, whatever comes in, as compressed run lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from faster_coco_eval import mask as coco_mask

from objloc_ros.errors import InputError
from objloc_ros.io.files import is_number
from objloc_ros.types import Size

Rle = dict[str, Any]
"""{"size": [H, W], "counts": text}: COCO's compressed run lengths, column by column."""

FARTHEST = 1e5
"""Coordinates of polygons beyond this are no pixels: drawing them would take minutes and gigabytes."""


def to_rle(segmentation: Any, size: Size) -> Rle:
    """Read the `segmentation` of an annotation.

    Args:
        segmentation: A list of polygons [x1, y1, x2, y2, ...], or run lengths, compressed or as a list.
        size: Height and width of the image.

    Raises:
        InputError: If it is none of these, or of another size.
    """
    if isinstance(segmentation, dict):
        return _checked(segmentation, size)
    if not isinstance(segmentation, list) or not all(_is_polygon(one) for one in segmentation):
        raise InputError("its segmentation is neither run lengths nor a list of polygons [x1, y1, x2, y2, ...]")
    drawn = [one for one in segmentation if len(one) >= 6]
    return as_text(coco_mask.merge(coco_mask.frPyObjects(drawn, *size))) if drawn else empty(size)


def union(masks: Sequence[Rle]) -> Rle:
    """The pixels of any of some masks of one size, at least one."""
    return as_text(coco_mask.merge(list(masks)))


def area(mask: Mapping[str, Any]) -> int:
    """Number of pixels."""
    return int(coco_mask.area(mask))


def empty(size: Size) -> Rle:
    """No pixel of an image."""
    return as_text(coco_mask.encode(np.zeros(size, np.uint8, order="F")))


def encode(mask: npt.NDArray[np.bool_]) -> Rle:
    """Run lengths of a bool mask [H, W]."""
    return as_text(coco_mask.encode(np.asfortranarray(mask).view(np.uint8)))


def decode(rle: Rle) -> npt.NDArray[np.bool_]:
    """The mask, bool [H, W]."""
    return np.asarray(coco_mask.decode(rle)).astype(bool)


def as_text(rle: Rle) -> Rle:
    """Run lengths as JSON values."""
    counts = rle["counts"]
    text = counts.decode("ascii") if isinstance(counts, bytes) else counts
    return {"size": [int(side) for side in rle["size"]], "counts": text}


def _checked(rle: dict[str, Any], size: Size) -> Rle:
    if rle.get("size") != list(size):
        raise InputError(f"its mask has {rle.get('size')} rows and columns, the image {list(size)}")
    try:
        packed = coco_mask.frPyObjects(rle, *size) if isinstance(rle.get("counts"), list) else rle
        coco_mask.decode(packed)
        return as_text(packed)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"its run lengths are damaged: {str(error).splitlines()[0]}") from error


def _is_polygon(one: Any) -> bool:
    return isinstance(one, list) and len(one) % 2 == 0 and all(_is_coordinate(value) for value in one)


def _is_coordinate(value: Any) -> bool:
    return is_number(value) and abs(value) <= FARTHEST
