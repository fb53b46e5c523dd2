"""What it means to ignore an area: methods look away from it, and objects lose their pixels in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from objloc_ros.engine.results import InstanceResult
from objloc_ros.ops.areas import Area
from objloc_ros.ops.geometry import Geometry, boxes_to_source
from objloc_ros.ops.regions import BoolMap, extent
from objloc_ros.types import Features

if TYPE_CHECKING:
    from torch import Tensor

MIN_DETECTION_LEFT = 0.5
"""Part of a detector's object that must lie outside, itself excluded: it saw the area, and found the object there."""


def look_away(features: Features, touched: Sequence[BoolMap]) -> Features:
    """Give each patch that an area touches the features of the nearest patch that it does not touch.

    The surroundings go on into the area: nothing in it stands out, is a seed, or takes the place of another object.

    Args:
        features: Of B images.
        touched: bool [h, w] of each image; one that is touched everywhere stays as it is.
    """
    import torch

    nearest = np.stack([_find_nearest_outside(mask) for mask in touched])  # B N
    index = torch.from_numpy(nearest).to(features.keys.device)

    def take(values: Tensor) -> Tensor:  # B N C
        return values.gather(1, index[:, :, None].expand_as(values))

    return replace(
        features,
        keys=take(features.keys),
        queries=take(features.queries),
        values=take(features.values),
        cls_attention=take(features.cls_attention.mT).mT,
    )


def _find_nearest_outside(touched: BoolMap) -> npt.NDArray[np.int64]:
    """Return the row-major index of the nearest patch outside, for each patch: int64 [N], its own outside."""
    from scipy import ndimage

    if touched.all():
        return np.arange(touched.size)
    rows, columns = ndimage.distance_transform_edt(touched, return_distances=False, return_indices=True)
    return (rows.astype(np.int64) * touched.shape[1] + columns).ravel()


def lower_logits(logits: npt.NDArray[np.float32], geometry: Geometry, area: Area) -> npt.NDArray[np.float32]:
    """Lower logits [h, w] of square cells to -inf where a cell of the padded image holds a pixel of an area."""
    if not area:
        return logits
    cells = area.cells(geometry.resized, geometry.padded[0] // len(logits))  # none of those in the padding alone
    touched = np.pad(cells, [(0, size - part) for size, part in zip(logits.shape, cells.shape, strict=True)])
    return np.where(touched, np.float32(-np.inf), logits)


def cut_objects(result: InstanceResult, ignored: BoolMap, *, min_left: float = 0.0) -> InstanceResult:
    """Take the pixels of an area from all objects; boxes are those of what is left.

    Args:
        result: Objects with a mask each; one without any pixel counts as the rectangle of its box.
        ignored: bool [h', w'] at the processed size.
        min_left: Objects of which no greater part is left are dropped.
    """
    boxes = result.detections.boxes.copy()
    left: dict[int, BoolMap] = {}
    for place in range(len(boxes)):
        mask = result.instance(place)
        seen = mask if mask.any() else _fill_box(boxes[place], result.geometry)
        outside = seen & ~ignored
        if outside.sum() > min_left * seen.sum():
            left[place] = mask & ~ignored
            if (seen & ignored).any():
                boxes[place] = boxes_to_source(np.array([extent(outside)], np.float32), result.geometry)[0]
    places, masks = list(left), list(left.values())
    instances = np.zeros_like(result.instances)
    for rank, mask in reversed(list(enumerate(masks, start=1))):
        instances[mask] = rank
    detections = replace(result.detections, boxes=boxes).select(places)
    return InstanceResult(detections, result.geometry, instances > 0, instances, masks.__getitem__)


def _fill_box(box: npt.NDArray[np.float32], geometry: Geometry) -> BoolMap:
    """Return the pixels of a box in the source image: bool [h', w'] at the processed size."""
    (height, width), (rows, columns) = geometry.source, geometry.resized
    scale = np.array([columns / width, rows / height] * 2)
    (x1, y1), (x2, y2) = np.floor(box * scale)[:2].astype(int), np.ceil(box * scale)[2:].astype(int)
    filled = np.zeros(geometry.resized, np.bool_)
    filled[y1:y2, x1:x2] = True
    return filled
