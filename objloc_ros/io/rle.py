"""Masks of COCO documents: polygons and run lengths, whatever comes in, as compressed run lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

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
        return _check_size(segmentation, size)
    if not isinstance(segmentation, list) or not all(_is_polygon(part) for part in segmentation):
        raise InputError("its segmentation is neither run lengths nor a list of polygons [x1, y1, x2, y2, ...]")
    drawn = [polygon for polygon in segmentation if len(polygon) >= 6]
    return to_json(_coco_mask().merge(_coco_mask().frPyObjects(drawn, *size))) if drawn else encode_empty(size)


def merge(masks: Sequence[Rle]) -> Rle:
    """Return the union of one or more masks of one size."""
    return to_json(_coco_mask().merge(list(masks)))


def count_pixels(mask: Mapping[str, Any]) -> int:
    """Return the number of pixels."""
    return int(_coco_mask().area(mask))


def find_box(mask: Mapping[str, Any]) -> list[float]:
    """Return the box around the pixels, [x, y, width, height]; all 0 without any."""
    box: list[float] = _coco_mask().toBbox(mask).tolist()
    return box


def encode_empty(size: Size) -> Rle:
    """Return the run lengths of a mask without any pixel."""
    return to_json(_coco_mask().encode(np.zeros(size, np.uint8, order="F")))


def encode(mask: npt.NDArray[np.bool_]) -> Rle:
    """Return run lengths of a bool mask [H, W]."""
    return to_json(_coco_mask().encode(np.asfortranarray(mask).view(np.uint8)))


def decode(rle: Rle) -> npt.NDArray[np.bool_]:
    """Return the mask, bool [H, W]."""
    return np.asarray(_coco_mask().decode(rle)).astype(bool)


def to_json(rle: Rle) -> Rle:
    """Return run lengths as JSON values."""
    counts = rle["counts"]
    text = counts.decode("ascii") if isinstance(counts, bytes) else counts
    return {"size": [int(side) for side in rle["size"]], "counts": text}


def _check_size(rle: dict[str, Any], size: Size) -> Rle:
    if rle.get("size") != list(size):
        raise InputError(f"its mask has {rle.get('size')} rows and columns, the image {list(size)}")
    try:
        packed = _coco_mask().frPyObjects(rle, *size) if isinstance(rle.get("counts"), list) else rle
        _coco_mask().decode(packed)
        return to_json(packed)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"its run lengths are damaged: {str(error).splitlines()[0]}") from error


def _is_polygon(part: Any) -> bool:
    return isinstance(part, list) and len(part) % 2 == 0 and all(_is_coordinate(value) for value in part)


def _is_coordinate(value: Any) -> bool:
    return is_number(value) and abs(value) <= FARTHEST


def _coco_mask() -> Any:
    from faster_coco_eval import mask  # only who has masks in documents needs it

    return mask
