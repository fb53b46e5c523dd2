"""Procedural backgrounds: grounds, horizons, clutter, facades and roads, uint8 RGB [n, n, 3].

Clutter matters most: rows of windows, pebbles and trunks are many alike things that form a background, not objects.
"""

from __future__ import annotations

import cv2
import numpy as np

from objloc_ros.scenes.textures import Array, fractal, paint, palette, ramp, texture
from objloc_ros.types import Image

Photographs = list[Array] | None


def background(rng: np.random.Generator, n: int, photographs: Photographs = None) -> Image:
    """A background of a random kind, half of the time shaded, at times out of focus."""
    kinds = (plain, horizon, litter, sky, facade, trunks)
    kind = kinds[int(rng.choice(len(kinds), p=[0.3, 0.27, 0.17, 0.1, 0.08, 0.08]))]
    pixels = kind(rng, n, photographs)
    if rng.random() < 0.6:
        pixels = pixels * (1 + np.float32(rng.uniform(-0.5, 0.5)) * (ramp(rng, n) - 0.5))[..., None]
    if rng.random() < 0.4:
        pixels = cv2.GaussianBlur(pixels.astype(np.float32), (0, 0), n / 192 * rng.uniform(0.6, 4))
    return np.clip(pixels, 0, 255).astype(np.uint8)


def plain(rng: np.random.Generator, n: int, photographs: Photographs) -> Array:
    """One surface seen from above."""
    return texture(rng, n, photographs)


def horizon(rng: np.random.Generator, n: int, photographs: Photographs) -> Array:
    """Two surfaces that meet along a wavy line, the lower one half of the time in perspective."""
    x = np.arange(n)
    far, near = texture(rng, n, photographs), texture(rng, n, photographs)
    line = n * rng.uniform(0.2, 0.75) + rng.uniform(-0.3, 0.3) * (x - n / 2)
    line = line + rng.uniform(0, 0.13) * n * np.sin(x / n * rng.uniform(2, 12) + rng.uniform(0, 6))
    if rng.random() < 0.5:
        near = foreshorten(near, top=float(np.clip(line.mean() / n, 0.1, 0.8)))
    softness = n / 192 * rng.uniform(0.5, 8)
    below = np.clip((np.arange(n)[:, None] - line[None]) / softness + 0.5, 0, 1).astype(np.float32)[..., None]
    return far * (1 - below) + near * below


def foreshorten(surface: Array, *, top: float) -> Array:
    """A surface laid flat: its rows shrink towards the horizon at `top` (fraction of the height)."""
    n = surface.shape[0]
    corners = np.array([[0.35, 0], [0.65, 0], [1, 1], [0, 1]], np.float32) * n
    target = np.array([[0, top], [1, top], [1, 1], [0, 1]], np.float32) * n
    matrix = cv2.getPerspectiveTransform(corners, target)
    return cv2.warpPerspective(surface, matrix, (n, n), borderMode=cv2.BORDER_REFLECT_101)


def litter(rng: np.random.Generator, n: int, photographs: Photographs) -> Array:
    """Dead leaves: pebbles, rocks, leaves or crates of related colours all over the picture."""
    pixels = np.zeros((n, n, 3), np.float32) + palette(rng, 1, None)[0]
    colours = palette(rng, 6, None if rng.random() < 0.3 else 40)
    radius = n * rng.uniform(0.012, 0.06)
    for _ in range(int(min(2500, rng.uniform(1.0, 2.5) * (n / radius) ** 2 / 2))):
        shade = np.clip(colours[rng.integers(6)] + rng.normal(0, 12, 3), 0, 255)
        centre = (int(rng.integers(0, n)), int(rng.integers(0, n)))
        r = int(radius * rng.uniform(0.3, 1.6)) + 1
        axes = (r, max(1, int(r * rng.uniform(0.4, 1))))
        cv2.ellipse(pixels, centre, axes, float(rng.uniform(0, 180)), 0, 360, [float(c) for c in shade], -1)
    if rng.random() < 0.5:
        pixels = pixels * (0.6 + 0.8 * fractal(rng, n, lowest=8))[..., None]
    return pixels


def sky(rng: np.random.Generator, n: int, photographs: Photographs) -> Array:
    """Smooth variation without edges."""
    return paint(fractal(rng, n, highest=5), palette(rng, 3, None if rng.random() < 0.3 else 30))


def facade(rng: np.random.Generator, n: int, photographs: Photographs) -> Array:
    """A wall with rows of windows above a ground."""
    pixels = texture(rng, n, photographs)
    window, frame = palette(rng, 2, None)
    pitch_x, pitch_y = (n * rng.uniform(0.08, 0.22) for _ in range(2))
    fill_x, fill_y = rng.uniform(0.35, 0.7, 2)
    bottom = n * rng.uniform(0.55, 1.0)
    for top in np.arange(pitch_y * rng.random(), bottom - pitch_y, pitch_y):
        for left in np.arange(-pitch_x * rng.random(), n, pitch_x):
            first = (int(left), int(top))
            last = (int(left + pitch_x * fill_x), int(top + pitch_y * fill_y))
            shade = np.clip(window + rng.normal(0, 15, 3), 0, 255)
            cv2.rectangle(pixels, first, last, [float(c) for c in shade], -1)
            cv2.rectangle(pixels, first, last, [float(c) for c in frame], max(1, n // 160))
    pixels[int(bottom) :] = texture(rng, n, photographs)[int(bottom) :]
    return pixels


def trunks(rng: np.random.Generator, n: int, photographs: Photographs) -> Array:
    """Many thin upright or crossing strokes: a forest edge, reeds, a fence, scaffolding."""
    pixels = texture(rng, n, photographs)
    colours = palette(rng, 4, 25)
    tilt = 0.06 if rng.random() < 0.6 else 0.6
    thickness = n * rng.uniform(0.004, 0.03)
    for _ in range(int(rng.integers(25, 110))):
        x, lean = rng.uniform(-0.1, 1.1) * n, rng.normal(0, tilt) * n
        top, bottom = rng.uniform(-0.3, 0.5) * n, rng.uniform(0.5, 1.3) * n
        shade = [float(c) for c in np.clip(colours[rng.integers(4)] + rng.normal(0, 10, 3), 0, 255)]
        width = max(1, int(thickness * rng.uniform(0.5, 1.5)))
        cv2.line(pixels, (int(x), int(top)), (int(x + lean), int(bottom)), shade, width, cv2.LINE_AA)
    return pixels
