"""What depth cameras get wrong, done to a perfect depth image: each fault alone, at random places."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np
import numpy.typing as npt

from objloc_ros.ops.point_clouds import Depth

Fault = Callable[[np.random.Generator, Depth], Depth]
"""Returns a changed copy of a depth image in metres, float32 [H, W]."""

SHADOW_PX = 10
"""Width of the background that one eye alone sees: what 5 cm between the eyes make of 1 m before 1.7 m."""

EDGE_STEP = 0.05
"""Relative change of depth from one pixel to the next that makes an edge."""


def quantise(rng: np.random.Generator, depth: Depth) -> Depth:
    """Round to millimetres, as 16UC1 has them."""
    del rng
    return (np.round(depth * 1000) / 1000).astype(np.float32)


def cut_holes(rng: np.random.Generator, depth: Depth) -> Depth:
    """Set to 0: background left of objects, which a stereo pair sees with one eye alone, edges, and blobs on 8 %."""
    to_the_right = np.zeros((1, 2 * SHADOW_PX + 1), np.uint8)
    to_the_right[:, SHADOW_PX:] = 1
    hidden = depth > (1 + EDGE_STEP) * cv2.erode(depth, to_the_right)
    edges = cv2.dilate(_edges(depth).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return np.where(hidden | edges | _blobs(rng, depth.shape, part=0.08, grain=10), np.float32(0), depth)


def scatter_nan(rng: np.random.Generator, depth: Depth) -> Depth:
    """Set to NaN: a third of the pixels, and infinity: a fiftieth."""
    chance = rng.random(depth.shape)
    return np.where(chance < 0.02, np.float32(np.inf), np.where(chance < 0.35, np.float32(np.nan), depth))


def fly_pixels(rng: np.random.Generator, depth: Depth) -> Depth:
    """Put the pixels within two of an edge anywhere between both sides, as time-of-flight cameras do."""
    square = np.ones((5, 5), np.uint8)
    near, far = cv2.erode(depth, square), cv2.dilate(depth, square)
    share = rng.random(depth.shape).astype(np.float32)
    flying = cv2.dilate(_edges(depth).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return np.where(flying, near + share * (far - near), depth)


def reflect(rng: np.random.Generator, depth: Depth) -> Depth:
    """Put blobs on a twelfth of the image at 0.3 to 3 times their depth: mirrors, lamps, glossy paint."""
    outliers = _blobs(rng, depth.shape, part=0.08, grain=8).astype(np.uint8)
    count, labels = cv2.connectedComponents(outliers, connectivity=4)
    factors = np.exp(rng.uniform(np.log(0.3), np.log(3), count)).astype(np.float32)
    factors[0] = 1
    return depth * factors[labels]


def add_stereo_noise(rng: np.random.Generator, depth: Depth) -> Depth:
    """Add noise that grows with the square of the depth, 8 mm at 2 m, alike over some pixels."""
    noise = cv2.GaussianBlur(rng.standard_normal(depth.shape).astype(np.float32), (0, 0), 1.5)
    return depth + np.float32(0.002) * depth**2 * (noise / noise.std())


FAULTS: Mapping[str, tuple[Fault, ...]] = {
    "clean": (),
    "millimetres": (quantise,),
    "holes": (cut_holes,),
    "NaN": (scatter_nan,),
    "flying pixels": (fly_pixels,),
    "reflections": (reflect,),
    "stereo noise": (add_stereo_noise,),
    "all of these": (add_stereo_noise, fly_pixels, reflect, quantise, cut_holes, scatter_nan),
}
"""Faults by name, in the order in which a camera makes them."""


def spoil(rng: np.random.Generator, depth: Depth, name: str) -> Depth:
    """Return a depth image with one entry of `FAULTS`."""
    for fault in FAULTS[name]:
        depth = fault(rng, depth)
    return depth


def _edges(depth: Depth) -> npt.NDArray[np.bool_]:
    """Pixels whose right or lower neighbour is of another surface."""
    edges = np.zeros(depth.shape, np.bool_)
    edges[:, :-1] = np.abs(np.diff(depth, axis=1)) > EDGE_STEP * np.minimum(depth[:, :-1], depth[:, 1:])
    edges[:-1] |= np.abs(np.diff(depth, axis=0)) > EDGE_STEP * np.minimum(depth[:-1], depth[1:])
    return edges


def _blobs(rng: np.random.Generator, shape: tuple[int, ...], *, part: float, grain: float) -> npt.NDArray[np.bool_]:
    """Smooth random blobs of about `grain` pixels that cover a part of an image."""
    field = cv2.GaussianBlur(rng.standard_normal(shape).astype(np.float32), (0, 0), grain / 2)
    return np.asarray(field > np.quantile(np.asarray(field, np.float32), 1 - part))
