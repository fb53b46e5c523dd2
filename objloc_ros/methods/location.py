"""Where objects are in metres: regions of an image, and the depth that a camera measured there.

A region is larger than its object as a rule: masks are drawn in patches, boxes hold what stands behind and the floor
before. And depth images lie at edges: pixels without a depth, pixels half way between object and background,
reflections nearer or farther than anything. So the object is not "the pixels of the region", nor those around the
median of their depth. First the ground is taken away: planes seen around the region that go on within it, before which
the rest lies. Then the object is the one surface that holds the most of the region's middle: pixels beside each other
whose depths differ little, however far it reaches away from the camera.

A box holds what the camera sees of an object. Its back is not seen, and no guess is made: the box of a carton seen from
the front is thin, and its centre lies before the carton's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from objloc_ros.errors import InputError
from objloc_ros.ops.point_clouds import CameraModel, Depth, Points, at_depth, check_sizes, pixel_rays, transform
from objloc_ros.ops.regions import BoolMap, extent
from objloc_ros.options import Options, option

BRIDGED_PX = 6
"""Pixels without a depth that a surface continues over: the reach of its nearest pixels with one."""

NEIGHBOURHOOD, NEIGHBOURHOOD_PX = 0.25, 12
"""How far the ground is looked at beyond a region's extent: part of its sides, and the least number of pixels."""

LONGEST_SIDE = 160
"""Most pixels of a region and its surroundings along a side; of a larger one every second row and column, and so on."""

AROUND_POINTS, HYPOTHESES, PLANES = 300, 64, 3
"""Points of the neighbourhood, planes tried on them, and most planes found in them."""

GROUND_TOLERANCE = 0.015
"""Relative difference of depth below which a point lies on a plane."""

LEAST_SUPPORT, LEAST_BEFORE, MOST_GROUND = 0.1, 0.9, 0.95
"""Part of the neighbourhood that makes a plane; of the region's other points that lie before a ground; and of a region
that may be ground: a poster is nothing but a part of its wall."""

TRIMMED = 0.004
"""Part of the points that a box leaves out at either end of each axis."""

BOX_POINTS = 2000
"""Points that a box is fitted to; of more, every so-manieth."""

ANGLE_POINTS, ANGLE_STEP_DEG = 500, 5
"""Points that an angle is found by; angles tried, before whole degrees around the best one."""

NEAREST_M = 0.01
"""Distances from a box's side below this count as this: closeness judges a fit, not the noise."""


@dataclass(frozen=True)
class LocationOptions(Options):
    """What counts as an object's depth, and the box around it."""

    min_range: float = option(0.1, "Depth below which measurements are left out, in metres.", low=0, high=100)
    max_range: float = option(10.0, "Depth above which measurements are left out, in metres.", low=0, high=1000)
    min_points: int = option(30, "Fewest points of an object that is located.", low=3, high=100_000)
    depth_step: float = option(
        0.03,
        "Relative change of depth from one pixel to the next above which they belong to different surfaces.",
        low=0.001,
        high=1,
    )
    box: Literal["oriented", "axis_aligned"] = option(
        "oriented",
        "`oriented`: boxes turn about the vertical; `axis_aligned`: along the axes of the frame.",
        choices=("oriented", "axis_aligned"),
    )


@dataclass(frozen=True)
class Locations:
    """Objects in space, in the order of their regions.

    Args:
        indices: K numbers of the regions whose objects were located.
        centers: float64 [K, 3], of the boxes around the visible surfaces, in metres.
        sizes: float64 [K, 3], lengths along the boxes' own axes in metres.
        rotations: float64 [K, 3, 3]; columns are the axes of a box in the frame of the centres. The third axis of an
            oriented box points up.
        points: K arrays float32 [N, 3] of the objects' points, one per pixel; of large regions every second, third, ...
            row and column (`LONGEST_SIDE`).
        unlocated: The other regions, each with the reason in words.
    """

    indices: tuple[int, ...]
    centers: npt.NDArray[np.float64]
    sizes: npt.NDArray[np.float64]
    rotations: npt.NDArray[np.float64]
    points: tuple[Points, ...]
    unlocated: tuple[tuple[int, str], ...]

    def __len__(self) -> int:
        return len(self.indices)


def locate(
    depth_m: Depth,
    regions: Sequence[BoolMap],
    camera: CameraModel,
    options: LocationOptions,
    *,
    rotation: npt.NDArray[np.float64] | None = None,
    translation: npt.NDArray[np.float64] | None = None,
    up: npt.NDArray[np.float64] | None = None,
) -> Locations:
    """Locate the object of each region.

    Args:
        depth_m: Metres along the optical axis, float32 [H, W]; 0, NaN and the like where it is unknown.
        regions: Masks of objects, or filled boxes around them, bool [H, W] each.
        camera: Intrinsics of the depth image, of its size.
        options: Ranges and kind of box.
        rotation: Turns points from the optical frame to the wanted one, [3, 3]; with `translation`.
        translation: Shifts the turned points, [3], in metres.
        up: The vertical, [3], of any length, in the frame of the result. By default -y in the optical frame, which
            holds for a camera that looks ahead, and +z in another.

    Returns:
        Points and boxes in the wanted frame. A region with fewer than `min_points` of its object is unlocated.

    Raises:
        InputError: Sizes differ, or `up` has no length.
    """
    check_sizes(depth_m, camera)
    for number, region in enumerate(regions):
        if region.shape != depth_m.shape:
            shapes = f"{region.shape}, the depth image {depth_m.shape}"
            raise InputError(f"a region must have the shape of the depth image; region {number} has {shapes}")
    moved = rotation is not None and translation is not None
    vertical = np.array((0.0, 0.0, 1.0) if moved else (0.0, -1.0, 0.0)) if up is None else np.asarray(up, np.float64)
    if not np.linalg.norm(vertical) > 0:
        raise InputError(f"up must have a length above 0, got {vertical}")
    axes = _upright(vertical / np.linalg.norm(vertical))
    rays = pixel_rays(camera)
    taken = np.logical_or.reduce(regions) if regions else np.zeros(depth_m.shape, np.bool_)
    indices, boxes, clouds, unlocated = [], [], [], []
    for number, region in enumerate(regions):
        box = extent(region)
        if box is None:
            unlocated.append((number, "the region is empty"))
            continue
        part = _widen(box, depth_m.shape)
        depth, inside, own_rays = np.ascontiguousarray(depth_m[part]), region[part], rays[part]
        known = measured(depth, own_rays, options)
        ground = find_ground(depth, own_rays, inside & known, known & ~taken[part])
        own = find_surface(depth, inside & ~ground, known, options.depth_step)
        count = np.count_nonzero(own)
        if count < options.min_points:
            pixels, deep = np.count_nonzero(inside), np.count_nonzero(inside & known)
            reason = f"{count} points of the object, of {deep} with a depth in {pixels} pixels"
            unlocated.append((number, f"{reason}; at least {options.min_points} are wanted"))
            continue
        points = at_depth(own_rays[own], depth[own])
        if rotation is not None and translation is not None:
            points = transform(points, rotation, translation)
        indices.append(number)
        clouds.append(points)
        boxes.append(fit_box(points, axes, options.box))
    centers, sizes = (np.array([box[i] for box in boxes], np.float64).reshape(-1, 3) for i in (0, 1))
    turns = np.array([box[2] for box in boxes], np.float64).reshape(-1, 3, 3)
    return Locations(tuple(indices), centers, sizes, turns, tuple(clouds), tuple(unlocated))


def measured(depth_m: Depth, rays: npt.NDArray[np.float32], options: LocationOptions) -> BoolMap:
    """Return which pixels [h, w] have a ray, and a depth within the range."""
    return (depth_m >= options.min_range) & (depth_m <= options.max_range) & (depth_m > 0) & np.isfinite(rays[..., 0])


def _widen(box: tuple[int, int, int, int], shape: tuple[int, ...]) -> tuple[slice, slice]:
    """Rows and columns of a box (x1, y1, x2, y2) and of what lies around it."""
    x1, y1, x2, y2 = box
    across, along = (max(NEIGHBOURHOOD_PX, int(NEIGHBOURHOOD * side)) for side in (x2 - x1, y2 - y1))
    top, bottom, left, right = (
        max(y1 - along, 0),
        min(y2 + along, shape[0]),
        max(x1 - across, 0),
        min(x2 + across, shape[1]),
    )
    step = -(-max(bottom - top, right - left) // LONGEST_SIDE)
    return slice(top, bottom, step), slice(left, right, step)


def find_ground(depth_m: Depth, rays: npt.NDArray[np.float32], usable: BoolMap, around: BoolMap) -> BoolMap:
    """Find the pixels of a region that belong to what lies around it: floor, table, wall.

    A plane is a x + b y + c z = 1, whose left side tells by how much of its depth a point lies beyond; noise grows with
    depth, too. Planes are sought around the region by random sampling (RANSAC; Fischler and Bolles, 1981), one after
    the other. One is a ground if what else the region holds lies before it, as objects do on a floor and before a wall.
    The rest of an object lies behind the planes of its own faces, which surround a region that is too small.

    Args:
        depth_m: float32 [h, w], the region's extent and its neighbourhood.
        rays: float32 [h, w, 2], see `pixel_rays`.
        usable: Pixels of the region with a depth.
        around: Pixels with a depth that are of no region.

    Returns:
        bool [h, w], a part of `usable`.
    """
    ground = np.zeros_like(usable)
    outside, own = np.flatnonzero(around), np.flatnonzero(usable)
    outside = outside[:: -(-len(outside) // AROUND_POINTS) or 1]
    samples, own_points = (at_depth(rays.reshape(-1, 2)[at], depth_m.ravel()[at]) for at in (outside, own))
    for _ in range(PLANES):
        if len(samples) < max(LEAST_SUPPORT * len(outside), 12):
            break
        plane = _fit_plane(samples)
        on_plane = np.abs(samples @ plane - 1) < GROUND_TOLERANCE
        if np.count_nonzero(on_plane) < LEAST_SUPPORT * len(outside):
            break
        samples = samples[~on_plane]
        before = 1 - own_points @ plane  # above 0: nearer than the plane
        off = np.abs(before) >= GROUND_TOLERANCE
        if np.count_nonzero(before >= GROUND_TOLERANCE) >= LEAST_BEFORE * np.count_nonzero(off):
            ground.ravel()[own[~off]] = True
    return ground if np.count_nonzero(ground) < MOST_GROUND * len(own) else np.zeros_like(usable)


def _fit_plane(points: Points) -> npt.NDArray[np.float32]:
    """Fit the plane that most points [N, 3] lie on: its coefficients (a, b, c), with which points @ plane is 1."""
    triples = points[np.random.default_rng(0).integers(len(points), size=(HYPOTHESES, 3))].astype(np.float64)
    triples = triples[np.abs(np.linalg.det(triples)) > 1e-7]
    if not len(triples):
        return np.zeros(3, np.float32)
    candidates = np.linalg.solve(triples, np.ones((len(triples), 3, 1)))[..., 0]
    on_plane = np.abs(candidates.astype(np.float32) @ points.T - 1) < GROUND_TOLERANCE  # [candidates, N]
    best = points[on_plane[on_plane.sum(1).argmax()]].astype(np.float64)
    return np.linalg.lstsq(best, np.ones(len(best)), rcond=None)[0].astype(np.float32)


def find_surface(depth_m: Depth, inside: BoolMap, known: BoolMap, depth_step: float) -> BoolMap:
    """Find the pixels of the surface that holds the most of a region's middle.

    Pixels beside each other are of one surface if their depths differ by less than a part of the nearer one's. Pixels
    without a depth take the nearest known one for this, so that holes do not divide a surface.

    Args:
        depth_m: float32 [h, w], the region's extent.
        inside: The region, without the ground that it shows.
        known: Which depths count.
        depth_step: The part.

    Returns:
        bool [h, w], a part of `inside & known`.
    """
    usable = inside & known
    if not usable.any():
        return usable
    if (usable == inside).all():
        filled, reached = depth_m, inside
    else:
        filled, reached = _bridge(depth_m, usable)
    labels = _label_surfaces(filled, inside & reached, depth_step)
    labels[~usable] = 0
    votes = np.bincount(labels.ravel(), _middle_weights(inside.shape).ravel())
    votes[0] = 0
    return labels == votes.argmax()


def _bridge(depth: Depth, known: BoolMap) -> tuple[Depth, BoolMap]:
    """Give each pixel the depth of the nearest known one, and tell which are within reach of one."""
    distance, nearest = cv2.distanceTransformWithLabels(
        (~known).view(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    by_label = np.zeros(int(nearest.max()) + 1, np.float32)
    by_label[nearest[known]] = depth[known]
    return by_label[nearest], distance <= BRIDGED_PX


def _label_surfaces(depth: Depth, inside: BoolMap, depth_step: float) -> npt.NDArray[np.int32]:
    """Label the connected surfaces: int32 [h, w], 0 outside.

    Pixels and the links between them make a map of twice the size, whose components are the surfaces.
    """
    height, width = depth.shape
    links = np.zeros((2 * height - 1, 2 * width - 1), np.uint8)
    links[::2, ::2] = inside
    for axis, at in ((0, np.s_[1::2, ::2]), (1, np.s_[::2, 1::2])):
        first, second = (np.s_[:-1], np.s_[1:]) if axis == 0 else (np.s_[:, :-1], np.s_[:, 1:])
        near = np.minimum(depth[first], depth[second])
        links[at] = (np.abs(depth[first] - depth[second]) <= depth_step * near) & inside[first] & inside[second]
    labels = cv2.connectedComponents(links, connectivity=4, ltype=cv2.CV_32S)[1]
    return labels[::2, ::2].astype(np.int32)


def _middle_weights(shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Weight pixels by how near they are to the middle: 1 there, 0 at the border, [h, w]."""
    rows, columns = (1 - np.abs((np.arange(side) + 0.5) * 2 / side - 1) for side in shape)
    return np.outer(rows, columns)


def _upright(up: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return axes [3, 3] whose third column is a unit vector that points up."""
    across = np.eye(3)[np.abs(up).argmin()]
    first = across - up * (up @ across)
    first /= np.linalg.norm(first)
    return np.stack([first, np.cross(up, first), up], axis=1)


def fit_box(
    points: Points, axes: npt.NDArray[np.float64], kind: Literal["oriented", "axis_aligned"] = "oriented"
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Fit a box to points.

    Args:
        points: float32 [N, 3], N above 0.
        axes: float64 [3, 3], the third column up.
        kind: An oriented box turns about the vertical.

    Returns:
        Centre [3], sizes [3] and rotation [3, 3], float64; `TRIMMED` of the points lie beyond either side of each axis.
    """
    sample = points[:: -(-len(points) // BOX_POINTS)].astype(np.float64)
    turn = np.eye(3)
    if kind == "oriented":
        turn = axes @ _yaw(_facing_angle(sample @ axes[:, :2]))
    low, high = _ends((sample @ turn).T)
    return turn @ ((low + high) / 2), high - low, turn


def _ends(values: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Least and greatest of values [..., N] without the trimmed ones: [...] each."""
    count = values.shape[-1]
    beyond = int(TRIMMED * count)
    parted = np.partition(values, (beyond, count - 1 - beyond), axis=-1)
    return parted[..., beyond], parted[..., count - 1 - beyond]


def _facing_angle(flat: npt.NDArray[np.float64]) -> float:
    """Return the angle in radians at which a rectangle's sides run along points [N, 2] seen from above.

    What is seen of a carton from above are two of its sides, an L, whose smallest rectangle may lie across. So the
    angle is that at which the points lie closest to the sides: Zhang et al., "Efficient L-Shape Fitting for Vehicle
    Detection Using Laser Scanners", IV 2017, its closeness criterion, with trimmed ends.
    """
    angles = np.deg2rad(np.arange(0, 90, ANGLE_STEP_DEG))
    some = flat[:: -(-len(flat) // ANGLE_POINTS)].astype(np.float32)
    best = angles[_closeness(some, angles).argmax()]
    finer = best + np.deg2rad(np.arange(1 - ANGLE_STEP_DEG, ANGLE_STEP_DEG))
    return float(finer[_closeness(some, finer).argmax()])


def _closeness(flat: npt.NDArray[np.float32], angles: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Mean inverse distance of points [N, 2] from the nearer sides of their rectangle at each angle: [A]."""
    cosines, sines = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    directions = np.stack([np.stack([cosines, sines], axis=1), np.stack([-sines, cosines], axis=1)])
    across = directions @ flat.T  # [2, A, N]
    low, high = (ends[..., None] for ends in _ends(across))
    distances = np.minimum(np.abs(across - low), np.abs(across - high)).min(axis=0)
    return np.asarray((1 / np.maximum(distances, NEAREST_M)).mean(axis=1))


def _yaw(angle: float) -> npt.NDArray[np.float64]:
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
