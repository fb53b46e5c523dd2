"""A short drive: a road under a moving camera, with things standing beside it and on it.

The truth is exact: every pixel carries the identity of the object it shows, stable over the frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from objloc_ros.scenes.sprites import sprite
from objloc_ros.scenes.textures import Array, fractal, paint, texture
from objloc_ros.types import Image, Size

HORIZON = 0.42
"""Height of the horizon as a fraction of the image."""

FAR, NEAR = 9.0, 0.9
"""Distances, in camera heights, at which an object appears and leaves."""

SPEED = 0.055
"""Camera heights travelled per frame."""

HAZE = np.array([175, 185, 190], np.float32)


@dataclass(frozen=True)
class Standing:
    """An upright cut-out by the road.

    Args:
        identity: 1, 2, ... in the order along the road.
        picture: RGBA uint8, cropped to what it shows.
        lateral: Offset from the road's middle, in camera heights.
        ahead: Distance along the road from the start, in camera heights.
        height: Its height, in camera heights.
    """

    identity: int
    picture: Image
    lateral: float
    ahead: float
    height: float


def drive_video(*, seed: int = 0, size: Size = (480, 640), frames: int = 150) -> Iterator[tuple[Image, Image]]:
    """Frames of a procedural drive.

    Args:
        seed: Seed of the road, the sky and the objects.
        size: Height and width in pixels.
        frames: Number of frames.

    Yields:
        RGB uint8 [H, W, 3] and identities uint8 [H, W]: 0 for the background, k for the k-th object of the drive.
    """
    rng = np.random.default_rng(seed)
    road, sky = _road(rng), _sky(rng, size)
    objects = _along_the_road(rng, count=int(frames * SPEED / 1.2) + 8)
    for t in range(frames):
        travelled, sway = t * SPEED, 0.015 * np.sin(t / 17) * size[1]
        image = _ground(road, sky, size, travelled, sway)
        identities = np.zeros(size, np.uint8)
        for standing in reversed(objects):
            if NEAR < standing.ahead - travelled < FAR:
                _stand(image, identities, standing, standing.ahead - travelled, sway)
        yield np.clip(image + rng.normal(0, 3, (*size, 1)).astype(np.float32), 0, 255).astype(np.uint8), identities


def _along_the_road(rng: np.random.Generator, count: int) -> list[Standing]:
    ahead = 2.0 + np.cumsum(rng.uniform(0.9, 1.6, count))
    standing = []
    for i in range(count):
        picture = _cropped(sprite(rng, 192, mix=(0.2, 0.4, 0.4)))
        lateral = (1 if i % 2 else -1) * rng.uniform(0.35, 1.5)
        standing.append(Standing(i + 1, picture, float(lateral), float(ahead[i]), float(rng.uniform(0.5, 1.0))))
    return standing


def _cropped(picture: Image) -> Image:
    """The largest connected part of a cut-out, without its margins."""
    _, parts, stats, _ = cv2.connectedComponentsWithStats((picture[..., 3] > 127).astype(np.uint8), connectivity=4)
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    left, top, wide, tall = stats[largest, :4]
    one = picture.copy()
    one[..., 3][parts != largest] = 0
    return one[top : top + tall, left : left + wide]


def _road(rng: np.random.Generator) -> Image:
    """The ground plane from above: grass, a road and its dashed centre line; repeats along its rows."""
    n = 512
    grass = paint(fractal(rng, n, lowest=9), np.array([[58, 84, 38], [92, 118, 56], [120, 130, 70]], np.float32))
    asphalt = paint(fractal(rng, n, lowest=30), np.array([[88, 88, 92], [112, 112, 114]], np.float32))
    across = np.abs(np.arange(n) - n / 2)
    surface = np.where(across[None, :, None] < n * 0.16, asphalt, grass)
    surface[(np.arange(n) % 128 < 56)[:, None] & (across < n * 0.006)[None]] = 215
    return np.concatenate([surface, surface[::-1]]).astype(np.uint8)


def _sky(rng: np.random.Generator, size: Size) -> Array:
    """Clouds over a line of hills, wider than the image so that it can sway."""
    n = 512
    clouds = paint(fractal(rng, n), np.array([[150, 185, 225], [205, 220, 238]], np.float32))
    ridge = n * (0.86 - 0.12 * fractal(rng, n, highest=9)[0])
    hills = texture(rng, n) * 0.15 + np.array([70, 95, 82], np.float32)
    below = (np.arange(n)[:, None] > ridge[None])[..., None]
    return cv2.resize(np.where(below, hills, clouds).astype(np.float32), (int(size[1] * 1.1), int(size[0] * HORIZON)))


def _ground(road: Image, sky: Array, size: Size, travelled: float, sway: float) -> Array:
    """Sky above the horizon, the road in perspective below it: float32 [H, W, 3]."""
    height, width = size
    top, n = sky.shape[0], road.shape[1]
    depth = (height - top) / (np.arange(height - top, dtype=np.float32) + 1)
    lateral = (np.arange(width, dtype=np.float32) - width / 2 - sway) / (height - top)
    x = (lateral[None] * depth[:, None] * 0.32 + 0.5) * n
    beside = np.abs(x - n / 2) > n / 2 - 1  # bilinear sampling reads one column further
    x[beside] = n * 0.04 + np.abs(x[beside] % (n * 0.5) - n * 0.25)  # grass all the way to the side
    y = np.broadcast_to(((depth + travelled) * 0.25 * n)[:, None], x.shape) % (road.shape[0] - 1)
    plane = cv2.remap(road, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR)
    haze = np.clip((depth - 2) / 12, 0, 0.8)[:, None, None]
    image = np.empty((height, width, 3), np.float32)
    left = int(np.clip((sky.shape[1] - width) / 2 - sway, 0, sky.shape[1] - width))
    image[:top] = sky[:, left : left + width]
    image[top:] = plane * (1 - haze) + HAZE * haze
    return image


def _stand(image: Array, identities: Image, standing: Standing, distance: float, sway: float) -> None:
    """Draw one cut-out, its foot on the ground plane, into the image and the identities."""
    rows, columns = identities.shape
    per_height = rows * (1 - HORIZON) / distance
    scale = standing.height * per_height / max(standing.picture.shape[:2])
    picture = cv2.resize(standing.picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    tall, wide = picture.shape[:2]
    foot = round(rows * HORIZON + per_height)
    left = round(columns / 2 + sway + standing.lateral * per_height - wide / 2)
    shadow_axes = (max(1, wide // 2), max(1, tall // 12))
    shadow = np.ones((rows, columns), np.float32)
    cv2.ellipse(shadow, (left + wide // 2, foot), shadow_axes, 0, 0, 360, 0.6, -1, cv2.LINE_AA)
    image *= shadow[..., None]
    y1, y2, x1, x2 = max(foot - tall, 0), min(foot, rows), max(left, 0), min(left + wide, columns)
    if y1 >= y2 or x1 >= x2:
        return
    part = picture[y1 - foot + tall : y2 - foot + tall, x1 - left : x2 - left].astype(np.float32)
    alpha = part[..., 3:] / 255
    image[y1:y2, x1:x2] += alpha * (part[..., :3] - image[y1:y2, x1:x2])
    identities[y1:y2, x1:x2][alpha[..., 0] > 0.5] = standing.identity
