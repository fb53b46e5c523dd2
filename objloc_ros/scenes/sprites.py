"""Procedural cut-outs: shaded, textured objects of several parts, uint8 RGBA [n, n, 4]."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from objloc_ros.scenes.textures import Array, colour, ramp, texture

Points = npt.NDArray[np.float64]
Outline = Callable[[np.random.Generator], Points]


def _circle(radii: Points | float, count: int = 90) -> Points:
    angle = np.linspace(0, 2 * np.pi, count, endpoint=False)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1) * np.asarray(radii).reshape(-1, 1)


def ellipse(rng: np.random.Generator) -> Points:
    """Draw a disc or an ellipse."""
    return _circle(1.0) * [1, rng.uniform(0.45, 1)]


def box(rng: np.random.Generator) -> Points:
    """Draw a rectangle, a square or a trapezium."""
    height, taper = rng.uniform(0.35, 0.95), rng.uniform(0.5, 1) if rng.random() < 0.4 else 1.0
    return np.array([[-taper, -height], [taper, -height], [1, height], [-1, height]]) * 0.9


def polygon(rng: np.random.Generator) -> Points:
    """Draw a triangle to a heptagon with irregular corners."""
    k = int(rng.integers(3, 8))
    angle = (np.arange(k) + rng.uniform(-0.3, 0.3, k)) * 2 * np.pi / k
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def star(rng: np.random.Generator) -> Points:
    """Draw a star of four to seven points."""
    k = int(rng.integers(4, 8))
    return _circle(np.where(np.arange(2 * k) % 2, rng.uniform(0.35, 0.6), 1.0), 2 * k)


def blob(rng: np.random.Generator) -> Points:
    """Draw a smooth random contour."""
    angle = np.linspace(0, 2 * np.pi, 90, endpoint=False)
    radius: Array = np.ones(90)
    for k in range(2, 7):
        radius += rng.normal(0, 0.5 / k) * np.cos(k * angle + rng.uniform(0, 2 * np.pi))
    radius = np.clip(radius, 0.3, None)
    return _circle(radius / radius.max())


def capsule(rng: np.random.Generator) -> Points:
    """Draw a bar with round ends."""
    half = rng.uniform(0.18, 0.4)
    ends = _circle(half)
    return ends + np.where(ends[:, :1] > 0, [[1 - half, 0]], [[half - 1, 0]])


OUTLINES: tuple[Outline, ...] = (ellipse, box, polygon, star, blob, blob, blob, capsule)


def draw_mask(points: Points, n: int) -> Array:
    """Draw the antialiased coverage float32 [n, n] in [0, 1] of a closed outline given in [-1, 1]^2."""
    mask = np.zeros((n, n), np.uint8)
    fixed = np.round((points * 0.46 + 0.5) * n * 16).astype(np.int32)
    cv2.fillPoly(mask, [fixed], 255, cv2.LINE_AA, 4)
    return mask.astype(np.float32) / 255


def place(points: Points, *, centre: tuple[float, float], scale: float, angle: float) -> Points:
    """Rotate, scale and move an outline."""
    c, s = np.cos(angle), np.sin(angle)
    return points @ np.array([[c, s], [-s, c]]) * scale + np.asarray(centre)


def random_outline(rng: np.random.Generator) -> Points:
    """Draw an outline of a random kind."""
    return OUTLINES[int(rng.integers(len(OUTLINES)))](rng)


def creature(rng: np.random.Generator) -> list[Points]:
    """Draw a body with a head and limbs."""
    body = place(ellipse(rng), centre=(0, 0), scale=rng.uniform(0.45, 0.6), angle=0)
    head = place(
        blob(rng), centre=(rng.uniform(0.35, 0.6), rng.uniform(-0.6, -0.3)), scale=rng.uniform(0.2, 0.35), angle=0
    )
    parts = [body, head]
    for x in np.linspace(-0.4, 0.4, int(rng.integers(2, 5))):
        lean = np.pi / 2 + rng.normal(0, 0.2)
        parts.append(place(capsule(rng), centre=(x, 0.45), scale=rng.uniform(0.3, 0.45), angle=lean))
    return parts


def vehicle(rng: np.random.Generator) -> list[Points]:
    """Draw a hull with a cabin on wheels."""
    hull = place(box(rng), centre=(0, 0.1), scale=rng.uniform(0.75, 0.95), angle=0) * [1, 0.5]
    cabin = place(box(rng), centre=(rng.uniform(-0.3, 0.3), -0.35), scale=rng.uniform(0.35, 0.6), angle=0)
    wheels = [place(_circle(1.0), centre=(x, 0.5), scale=rng.uniform(0.15, 0.25), angle=0) for x in (-0.5, 0.5)]
    return [hull, cabin, *wheels]


def plain(rng: np.random.Generator) -> list[Points]:
    """Draw one outline with up to three parts that may stick out."""
    parts = [random_outline(rng)]
    for _ in range(int(rng.choice([0, 0, 1, 2, 3]))):
        offset = (float(rng.uniform(-0.5, 0.5)), float(rng.uniform(-0.5, 0.5)))
        scale, angle = rng.uniform(0.2, 0.6), rng.uniform(0, 2 * np.pi)
        parts.append(place(random_outline(rng), centre=offset, scale=scale, angle=angle))
    return parts


def sprite(
    rng: np.random.Generator,
    n: int,
    photographs: list[Array] | None = None,
    *,
    mix: tuple[float, float, float] = (0.6, 0.22, 0.18),
) -> npt.NDArray[np.uint8]:
    """Draw one object: its parts painted in turn, shaded as if rounded, at times with an outline or a hole.

    Args:
        rng: Source of randomness.
        n: Side in pixels.
        photographs: Photographed surfaces for its textures.
        mix: Probabilities of plain shapes, creatures and vehicles.
    """
    build = (plain, creature, vehicle)[int(rng.choice(3, p=mix))]
    alpha: Array = np.zeros((n, n), np.float32)
    pixels: Array = np.zeros((n, n, 3), np.float32)
    base = texture(rng, n, photographs)
    own_texture = rng.uniform(0.2, 0.9)
    for i, part in enumerate(build(rng)):
        cover = draw_mask(part, n)
        if i and build is plain and rng.random() < 0.5:
            cover = cover * alpha
        surface = texture(rng, n, photographs) if i and rng.random() < own_texture else base
        pixels = pixels * (1 - cover[..., None]) + surface * cover[..., None]
        alpha = np.maximum(alpha, cover)
    if build is plain and rng.random() < 0.06:
        alpha = alpha * (1 - draw_mask(place(ellipse(rng), centre=(0, 0), scale=0.45, angle=0), n))
    if rng.random() < 0.6:
        pixels = shade(rng, pixels, alpha)
    if rng.random() < 0.2:
        rim = np.clip(alpha - cv2.erode(alpha, np.ones((5, 5))), 0, 1)[..., None]
        pixels = pixels * (1 - rim) + rim * colour(rng)
    return np.dstack([np.clip(pixels, 0, 255), alpha * 255]).astype(np.uint8)


def shade(rng: np.random.Generator, pixels: Array, alpha: Array) -> Array:
    """Darken towards the contour and along one light direction."""
    n = alpha.shape[0]
    depth = np.clip(cv2.GaussianBlur(alpha, (0, 0), n * rng.uniform(0.06, 0.14)) * 1.3, 0, 1)
    light = 0.5 + 0.5 * depth + np.float32(rng.uniform(-0.5, 0.5)) * (ramp(rng, n) - 0.5)
    return pixels * light[..., None]
