"""Which pixels of a depth image belong to each object, as detections and masks of our nodes tell it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
from vision_msgs.msg import BoundingBox2D

from objloc_ros.nodes.conversions import ImageMessageError
from objloc_ros.nodes.depth import decode_mask
from objloc_ros.nodes.messages import parse_label_info
from objloc_ros.nodes.pairing import Located
from objloc_ros.ops.regions import BoolMap, components
from objloc_ros.types import BACKGROUND, OBJECT, Size

Ids: TypeAlias = npt.NDArray[Any]

UNLABELLED = 255
"""What vision_msgs keeps for pixels without a class."""

MAX_REGIONS = 100
"""Most regions of a mask alone that are looked at; the largest count."""


@dataclass(frozen=True)
class Region:
    """An object of an image.

    Args:
        pixels: bool [H, W] of the depth image's size.
        id: Its lasting number; empty where there is none.
        label: Its class.
        score: In [0, 1]; 1 where a mask alone tells of it.
    """

    pixels: BoolMap
    id: str
    label: str
    score: float


def check_frame_ids(frame: Located) -> None:
    """Raise ImageMessageError unless results, depth and camera are of one frame; one without a name may be of any."""
    frames = {name: msg.header.frame_id for name, msg in frame.results.items()}
    frames |= {"depth": frame.depth.header.frame_id, "camera_info": frame.info.header.frame_id}
    if len({name for name in frames.values() if name}) > 1:
        listed = ", ".join(f"{name} in {value!r}" for name, value in frames.items())
        raise ImageMessageError("frame_id", f"depth must be registered to the image of the results: {listed}")


def find_regions(frame: Located, image_size: Size, size: Size, min_pixels: int) -> Iterator[Region]:
    """Find the pixels of each object.

    With detections: a mask of instances (mono16) holds 1, 2, ... on them in their order; one of classes (mono8) holds
    ids, of which those count within a box that are named like its class, or where nobody names them, all but 0 and 255.
    Without a mask the whole box counts. With a mask alone: each instance, or each connected region of a class.

    Args:
        frame: The results.
        image_size: Of the images of the camera; a mask says that of its own image.
        size: Of the depth image, that of the regions, too.
        min_pixels: Least pixels of a region of a mask alone.

    Raises:
        ImageMessageError: The mask cannot be used.
    """
    ids, names = None, None if frame.names is None else parse_label_info(frame.names)
    if "mask" in frame.results:
        ids = decode_mask(frame.results["mask"])
        image_size, ids = (ids.shape[0], ids.shape[1]), fit_mask(ids, size)
    if "detections" not in frame.results:
        assert ids is not None
        yield from _regions_of_mask(ids, names, min_pixels)
        return
    for number, detection in enumerate(frame.results["detections"].detections):
        box = fit_box(detection.bbox, image_size, size)
        best = max(detection.results, key=lambda result: result.hypothesis.score, default=None)
        label = "" if best is None else best.hypothesis.class_id
        pixels = np.zeros(size, np.bool_)
        if ids is None:
            pixels[box] = True
        elif ids.dtype == np.uint16:
            pixels = ids == number + 1
        else:
            pixels[box] = _is_of(ids[box], label, names)
        yield Region(pixels, detection.id, label, 0.0 if best is None else best.hypothesis.score)


def fit_mask(ids: Ids, size: Size) -> Ids:
    """Bring a mask to the size of the depth image by nearest neighbours.

    Raises:
        ImageMessageError: It is of another aspect: more than a pixel is missing or too much on either side.
    """
    (height, width), (rows, columns) = size, ids.shape
    if abs(width - columns * height / rows) > 1 and abs(height - rows * width / columns) > 1:
        sizes = f"{columns}x{rows}, the depth image {width}x{height}"
        raise ImageMessageError("size", f"mask and depth image must be of one aspect: the mask is {sizes}")
    return ids if ids.shape == size else cv2.resize(ids, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


def fit_box(box: BoundingBox2D, image_size: Size, size: Size) -> tuple[slice, slice]:
    """Return rows and columns of the depth image that a box in an image covers, none where it covers nothing."""
    center = box.center.position.x, box.center.position.y
    spans = []
    for middle, extent, old, new in zip(center, (box.size_x, box.size_y), image_size[::-1], size[::-1], strict=True):
        ends = (middle - extent / 2) * new / old, (middle + extent / 2) * new / old
        if not all(map(math.isfinite, ends)):
            return slice(0), slice(0)
        spans.append(slice(max(math.floor(ends[0]), 0), max(min(math.ceil(ends[1]), new), 0)))
    return spans[1], spans[0]


def _is_of(ids: Ids, label: str, names: Mapping[int, str] | None) -> BoolMap:
    """Tell the pixels of a class, bool [h, w]."""
    numbers = [number for number, name in (names or {}).items() if name == label]
    return np.isin(ids, numbers) if numbers else (ids != 0) & (ids != UNLABELLED)


def _regions_of_mask(ids: Ids, names: Mapping[int, str] | None, min_pixels: int) -> Iterator[Region]:
    """Find the objects of a mask alone: those of `MAX_REGIONS` that have enough pixels."""
    if ids.dtype == np.uint16:
        areas = np.bincount(ids.ravel())[1:]
        numbers = [int(index) + 1 for index in np.argsort(-areas, kind="stable") if areas[index] >= min_pixels]
        yield from (Region(ids == number, "", OBJECT, 1.0) for number in sorted(numbers[:MAX_REGIONS]))
        return
    if names is None:
        names = {int(number): OBJECT for number in np.unique(ids) if number}
    for number, name in names.items():
        if name in (BACKGROUND, "") or number == UNLABELLED:
            continue
        regions = components(ids == number)
        large = [index for index in np.argsort(-regions.areas, kind="stable") if regions.areas[index] >= min_pixels]
        yield from (Region(regions.labels == index + 1, "", name, 1.0) for index in sorted(large[:MAX_REGIONS]))
