"""How boxes agree with the truth: CorLoc (Deselaers et al., ECCV 2010; protocol of LOST), and the IoU in space."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from objloc_ros.metrics.base import Metric
from objloc_ros.ops.boxes import Boxes, overlaps


@dataclass
class CorLoc(Metric):
    """In how many images the box hits some object by an IoU of at least one half.

    The test is 2 * intersection >= union, exact for whole numbers, where a quotient in floating point may fall short of
    one half.

    Args:
        without_truth: Whether an image without any object is a miss, as in LOST's evaluation, or does not count.
        hits: Images whose box hits.
        images: Images that count.
    """

    without_truth: Literal["miss", "skip"] = "miss"
    hits: int = 0
    images: int = 0

    def update(self, boxes: Sequence[Sequence[float] | None], truths: Sequence[Boxes]) -> None:
        """Add images.

        Args:
            boxes: The box (x1, y1, x2, y2) of each image; None, where nothing was found, is a miss.
            truths: The true boxes [n, 4] of each image.
        """
        counted = [pair for pair in zip(boxes, truths, strict=True) if len(pair[1]) or self.without_truth == "miss"]
        self.images += len(counted)
        judged = [(box, truth) for box, truth in counted if box is not None and len(truth)]
        if judged:
            lengths = [len(truth) for _, truth in judged]
            repeated = np.repeat(np.array([box for box, _ in judged], np.float64), lengths, axis=0)  # [sum(n), 4]
            hits = _hits(repeated, np.concatenate([truth for _, truth in judged]))
            self.hits += int(np.logical_or.reduceat(hits, np.cumsum([0, *lengths[:-1]])).sum())

    def compute(self) -> float:
        """Return CorLoc in [0, 1]; 0 without images."""
        return self.hits / self.images if self.images else 0.0

    def reset(self) -> None:
        """Forget all images."""
        self.hits = self.images = 0


def _hits(boxes: Boxes, truth: Boxes) -> npt.NDArray[np.bool_]:
    """Whether pairs of boxes, of broadcastable shapes [..., 4], overlap by one half at least."""
    inter, union = overlaps(boxes, truth)
    return (2 * inter >= union) & (union > 0)


@dataclass(frozen=True)
class Boxes3D:
    """Boxes in space, turned freely.

    Args:
        centers: float64 [n, 3] in metres.
        sizes: float64 [n, 3], lengths along the boxes' own axes in metres.
        rotations: float64 [n, 3, 3]; the columns are the boxes' axes.
    """

    centers: npt.NDArray[np.float64]
    sizes: npt.NDArray[np.float64]
    rotations: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.centers)


def box_iou_3d(boxes: Boxes3D, others: Boxes3D) -> npt.NDArray[np.float64]:
    """Compute the intersection over union of volumes: float64 [n, m], exact up to rounding; 0 for two without volume.

    The faces of what two boxes share are faces of the one, clipped by the other; by the divergence theorem their areas
    and distances from a point give the volume.
    """
    shared = np.array([[_shared_volume(boxes, i, others, j) for j in range(len(others))] for i in range(len(boxes))])
    shared = shared.reshape(len(boxes), len(others))
    union = boxes.sizes.prod(1)[:, None] + others.sizes.prod(1) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _shared_volume(boxes: Boxes3D, i: int, others: Boxes3D, j: int) -> float:
    """Volume of the intersection of two boxes; the first one's centre and axes are the coordinates."""
    shift = (others.centers[j] - boxes.centers[i]) @ boxes.rotations[i]
    turn = boxes.rotations[i].T @ others.rotations[j]
    half, other_half = boxes.sizes[i] / 2, others.sizes[j] / 2
    if np.linalg.norm(shift) > np.linalg.norm(half) + np.linalg.norm(other_half):
        return 0.0
    unit = np.concatenate([np.eye(3), -np.eye(3)])
    normals, offsets = unit, np.tile(half, 2)
    other_normals = unit @ turn.T
    other_offsets = np.tile(other_half, 2) + other_normals @ shift
    volume = 0.0
    for corners, normal in zip(_faces(half), normals, strict=True):
        volume += _cone(_clip(corners, normal, other_normals, other_offsets, shares_faces=True), normal)
    for corners, normal in zip(_faces(other_half) @ turn.T + shift, other_normals, strict=True):
        volume += _cone(_clip(corners, normal, normals, offsets, shares_faces=False), normal)
    return volume


def _faces(half: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The faces of a box around the origin, +x, +y, +z, -x, -y, -z: float64 [6, 4, 3], corners in order."""
    square = np.array([(1, 1), (-1, 1), (-1, -1), (1, -1)], np.float64)
    faces = np.empty((6, 4, 3))
    for axis in range(3):
        for side in (0, 1):
            face = faces[axis + 3 * side]
            face[:, axis] = 1 - 2 * side
            face[:, [(axis + 1) % 3, (axis + 2) % 3]] = square
    return faces * half


def _clip(
    corners: npt.NDArray[np.float64],
    normal: npt.NDArray[np.float64],
    normals: npt.NDArray[np.float64],
    offsets: npt.NDArray[np.float64],
    *,
    shares_faces: bool,
) -> npt.NDArray[np.float64]:
    """Clip a polygon [n, 3] with a normal by half-spaces normals @ x <= offsets (Sutherland and Hodgman, 1974).

    A face that lies in one of the other's counts for one of the two: `shares_faces` says whether for this.
    """
    for plane, offset in zip(normals, offsets, strict=True):
        if not len(corners):
            break
        beyond = corners @ plane - offset
        if np.abs(beyond).max() <= 1e-9:
            if normal @ plane < 0 or not shares_faces:
                return corners[:0]
            continue
        kept: list[npt.NDArray[np.float64]] = []
        for k in range(len(corners)):
            here, there = beyond[k - 1], beyond[k]
            if (here <= 0) != (there <= 0):
                kept.append(corners[k - 1] + (corners[k] - corners[k - 1]) * (here / (here - there)))
            if there <= 0:
                kept.append(corners[k])
        corners = np.array(kept).reshape(-1, 3)
    return corners


def _cone(corners: npt.NDArray[np.float64], normal: npt.NDArray[np.float64]) -> float:
    """Volume of the pyramid over a polygon [n, 3] with the origin as its tip; negative if it lies behind."""
    if len(corners) < 3:
        return 0.0
    spokes = corners[1:] - corners[0]
    area = np.linalg.norm(np.cross(spokes[:-1], spokes[1:]).sum(0)) / 2
    return float(area * (normal @ corners[0]) / 3)
