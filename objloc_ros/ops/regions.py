"""Masks: their overlap, and their connected regions, labelled in raster order of their first pixel.

Everything is linear in the number of pixels, whatever the number of regions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

BoolMap = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Regions:
    """The connected components of a mask.

    Args:
        labels: int32 [h, w]; 0 outside the mask, 1..n in raster order of each component's first pixel.
        areas: int64 [n], pixels per component.
        boxes: int64 [n, 4] as (x1, y1, x2, y2), max side exclusive.
    """

    labels: npt.NDArray[np.int32]
    areas: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.areas)

    def largest(self) -> int:
        """Return the label of the largest component, the lowest one among equals; 0 if there is none."""
        return int(self.areas.argmax()) + 1 if len(self) else 0

    def mean(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """Return the mean of a map [h, w] over each component: float64 [n]."""
        inside = self.labels > 0
        sums = np.bincount(self.labels[inside], weights=values[inside], minlength=len(self) + 1)
        return sums[1:] / self.areas

    def select(self, keep: npt.NDArray[np.bool_]) -> BoolMap:
        """Union of the components whose entry in `keep` [n] is True: bool [h, w]."""
        return np.concatenate(([False], keep))[self.labels]


def components(mask: BoolMap, *, connectivity: Literal[4, 8] = 4) -> Regions:
    """Find the connected components of a bool mask [h, w]."""
    pixels = np.ascontiguousarray(mask).view(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(pixels, connectivity=connectivity, ltype=cv2.CV_32S)
    x, y, width, height, area = stats[1:].astype(np.int64).T
    return Regions(labels.astype(np.int32, copy=False), area, np.stack([x, y, x + width, y + height], axis=1))


def component_at(mask: BoolMap, index: int, *, connectivity: Literal[4, 8] = 4) -> BoolMap:
    """Return the connected component of a bool mask [h, w] at a row-major index; empty if the mask is not set there."""
    pixels = np.ascontiguousarray(mask).view(np.uint8)
    _, labels = cv2.connectedComponents(pixels, connectivity=connectivity, ltype=cv2.CV_32S)
    return (labels == labels.flat[index]) & mask


def extent(mask: BoolMap) -> tuple[int, int, int, int] | None:
    """Return the smallest box (x1, y1, x2, y2) around a bool mask [h, w], max exclusive; None for an empty mask."""
    x, y, width, height = cv2.boundingRect(np.ascontiguousarray(mask).view(np.uint8))
    return (x, y, x + width, y + height) if width else None


def fill_holes(mask: BoolMap) -> BoolMap:
    """Close every background region of a mask that no 4-connected path joins to the border."""
    outside = np.pad(~mask, 1, constant_values=True).view(np.uint8)
    _, labels = cv2.connectedComponents(outside, connectivity=4, ltype=cv2.CV_32S)
    return labels[1:-1, 1:-1] != labels[0, 0]


def mask_iou(mask: BoolMap, other: BoolMap) -> float:
    """Compute the intersection over union of two bool masks of one shape; 1 where both are empty."""
    union = np.count_nonzero(mask | other)
    return np.count_nonzero(mask & other) / union if union else 1.0


def count_shared(masks: BoolMap, others: BoolMap) -> npt.NDArray[np.int64]:
    """Count the pixels that each mask [n, h, w] shares with each other one [m, h, w]: int64 [n, m]."""
    if not (len(masks) and len(others)):
        return np.zeros((len(masks), len(others)), np.int64)
    flat, other = (some.reshape(len(some), -1).astype(np.float32) for some in (masks, others))
    shared: npt.NDArray[np.int64] = (flat @ other.T).astype(np.int64)  # float32 is exact up to 2^24 pixels
    return shared


def mask_ious(masks: BoolMap, others: BoolMap) -> npt.NDArray[np.float64]:
    """Compute the IoU of each mask [n, h, w] with each other one [m, h, w]: float64 [n, m], 0 where both are empty."""
    shared = count_shared(masks, others)
    areas, other = (np.count_nonzero(some, axis=(1, 2)) for some in (masks, others))
    ious: npt.NDArray[np.float64] = shared / np.maximum(areas[:, None] + other - shared, 1)
    return ious
