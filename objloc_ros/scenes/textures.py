"""Procedural textures: scalar fields coloured by short palettes.

A field is float32 [n, n] in [0, 1]; a texture is float32 [n, n, 3] RGB in [0, 255].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
"""float32 unless said otherwise; OpenCV's stubs know no narrower type."""

Coordinates = Callable[[np.random.Generator, Array, Array, float], Array]


def fractal(
    rng: np.random.Generator,
    n: int,
    *,
    lowest: int = 2,
    highest: int | None = None,
    persistence: float = 0.55,
    stretch: float = 1.0,
) -> Array:
    """Sum octaves of value noise.

    Args:
        rng: Source of randomness.
        n: Side in pixels.
        lowest: Cells per side of the coarsest octave.
        highest: Cells per side beyond which no octave is added; n // 3 by default.
        persistence: Amplitude ratio from one octave to the next.
        stretch: Ratio of horizontal to vertical frequency.
    """
    field = np.zeros((n, n), np.float32)
    cells, amplitude = lowest, 1.0
    while cells <= (highest or n // 3):
        octave = rng.random((cells, max(2, int(cells * stretch))), dtype=np.float32)
        field += amplitude * cv2.resize(octave, (n, n), interpolation=cv2.INTER_CUBIC)
        cells, amplitude = 2 * cells + 1, amplitude * persistence
    return unit_range(field)


def unit_range(field: Array) -> Array:
    """Shift and scale to [0, 1]."""
    field = field - field.min()
    return field / (field.max() + 1e-6)


def ramp(rng: np.random.Generator, n: int) -> Array:
    """Draw a linear gradient in a random direction."""
    y, x = np.mgrid[0:n, 0:n].astype(np.float32)
    angle = rng.uniform(0, 2 * np.pi)
    return unit_range(x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle)))


def cells(rng: np.random.Generator, n: int) -> Array:
    """Draw Voronoi cells: flat patches or distance to the nearest seed."""
    count = int(rng.integers(12, 200))
    seeds = np.full((n, n), 255, np.uint8)
    seeds[rng.integers(0, n, count), rng.integers(0, n, count)] = 0
    distance, labels = cv2.distanceTransformWithLabels(seeds, cv2.DIST_L2, 3)
    if rng.random() < 0.4:
        return unit_range(distance.astype(np.float32))
    return rng.random(int(labels.max()) + 1, dtype=np.float32)[labels]


def _stripes(rng: np.random.Generator, u: Array, v: Array, period: float) -> Array:
    wave = (0.5 + 0.5 * np.sin(2 * np.pi * u / period)).astype(np.float32)
    return (wave > 0.5).astype(np.float32) if rng.random() < 0.6 else wave


def _checker(rng: np.random.Generator, u: Array, v: Array, period: float) -> Array:
    return ((np.floor(u / period) + np.floor(v / period)) % 2).astype(np.float32)


def _dots(rng: np.random.Generator, u: Array, v: Array, period: float) -> Array:
    radius = period * rng.uniform(0.2, 0.42)
    inside = (u % period - period / 2) ** 2 + (v % period - period / 2) ** 2 < radius**2
    return inside.astype(np.float32)


def _bricks(rng: np.random.Generator, u: Array, v: Array, period: float) -> Array:
    row = np.floor(v / period)
    joint = (v % period < period * 0.15) | ((u + (row % 2) * period) % (2 * period) < period * 0.15)
    return joint.astype(np.float32)


PERIODIC: dict[str, Coordinates] = {"stripes": _stripes, "checker": _checker, "dots": _dots, "bricks": _bricks}


def periodic(rng: np.random.Generator, n: int, kind: str) -> Array:
    """Draw a repeating pattern, rotated and half of the time warped."""
    y, x = np.mgrid[0:n, 0:n].astype(np.float32)
    angle = rng.uniform(0, np.pi)
    u = x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))
    v = y * np.float32(np.cos(angle)) - x * np.float32(np.sin(angle))
    if rng.random() < 0.5:
        bend = n / 16 * rng.random()
        u = u + np.float32(bend) * fractal(rng, n, highest=8)
        v = v + np.float32(bend) * fractal(rng, n, highest=8)
    return PERIODIC[kind](rng, u, v, n * rng.uniform(0.03, 0.15))


def field(rng: np.random.Generator, n: int) -> Array:
    """Draw one random field of any kind."""
    kinds = ["fractal", "streaks", "cells", "ramp", "flat", *PERIODIC]
    kind = str(rng.choice(kinds, p=[0.28, 0.12, 0.14, 0.1, 0.1, 0.1, 0.04, 0.06, 0.06]))
    if kind == "fractal":
        return fractal(rng, n, lowest=int(rng.integers(2, 14)), persistence=rng.uniform(0.4, 0.8))
    if kind == "streaks":
        streaks = fractal(rng, n, lowest=int(rng.integers(2, 6)), persistence=0.7, stretch=rng.uniform(3, 8))
        return streaks if rng.random() < 0.5 else np.ascontiguousarray(streaks.T)
    if kind == "cells":
        return cells(rng, n)
    if kind == "ramp":
        return ramp(rng, n)
    if kind == "flat":
        return np.zeros((n, n), np.float32)
    return periodic(rng, n, kind)


def colour(rng: np.random.Generator) -> Array:
    """Draw a random RGB colour, one in three nearly grey: float32 [3] in [0, 255]."""
    if rng.random() < 0.3:
        return np.clip(rng.uniform(10, 245) + rng.normal(0, 10, 3), 0, 255).astype(np.float32)
    saturation = int(255 * rng.beta(1.6, 2.2))  # nature is less saturated than a uniform draw
    hsv = np.array([[[rng.integers(180), saturation, rng.integers(40, 256)]]], np.uint8)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].astype(np.float32)


def palette(rng: np.random.Generator, k: int, spread: float | None) -> Array:
    """`k` colours [k, 3]: unrelated when `spread` is None, else scattered around one colour by `spread` levels."""
    if spread is None:
        return np.stack([colour(rng) for _ in range(k)])
    scattered = colour(rng) + rng.normal(0, spread, (k, 3)) + rng.normal(0, spread, (k, 1))
    return np.clip(scattered, 0, 255).astype(np.float32)


def paint(field_: Array, colours: Array, *, hard: bool = False) -> Array:
    """Colour a field by a palette, interpolating between its colours or snapping to them."""
    k = len(colours)
    if hard:
        return colours[np.minimum((field_ * k).astype(int), k - 1)]
    levels = np.linspace(0, 1, 256)
    stops = np.linspace(0, 1, k)
    table = np.stack([np.interp(levels, stops, colours[:, c]) for c in range(3)], axis=1).astype(np.float32)
    return table[(np.clip(field_, 0, 1) * 255).astype(np.uint8)]


def texture(rng: np.random.Generator, n: int, photographs: list[Array] | None = None) -> Array:
    """Draw a coloured texture: float32 [n, n, 3] in [0, 255].

    Args:
        rng: Source of randomness.
        n: Side in pixels.
        photographs: Fields cut from photographs of surfaces; one texture in four uses one when given.
    """
    spread = None if rng.random() < 0.3 else rng.uniform(8, 50)
    colours = palette(rng, int(rng.integers(2, 5)), spread)
    if photographs and rng.random() < 0.25:
        pixels = paint(photograph_field(rng, n, photographs), colours)
    else:
        pixels = paint(field(rng, n), colours, hard=rng.random() < 0.3)
    if rng.random() < 0.5:
        pixels = pixels + np.float32(rng.uniform(5, 40)) * (fractal(rng, n, lowest=3) - 0.5)[..., None]
    if rng.random() < 0.5:
        pixels = pixels + rng.normal(0, rng.uniform(1, 10), (n, n, 1)).astype(np.float32)
    return np.clip(pixels, 0, 255)


def photograph_field(rng: np.random.Generator, n: int, photographs: list[Array]) -> Array:
    """Draw a random square cut of a random photograph, turned by a multiple of 90 degrees, resized to [n, n]."""
    source = photographs[int(rng.integers(len(photographs)))]
    side = int(min(source.shape) * rng.uniform(0.3, 1.0))
    top, left = (int(rng.integers(0, extent - side + 1)) for extent in source.shape)
    cut = np.rot90(source[top : top + side, left : left + side], int(rng.integers(4)))
    return cv2.resize(np.ascontiguousarray(cut), (n, n), interpolation=cv2.INTER_AREA)
