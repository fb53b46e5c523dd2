"""Objects that words describe: a colour, a pattern and a shape each, on the project's ordinary backgrounds."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from itertools import product

import cv2
import numpy as np
import numpy.typing as npt

from objloc_ros.errors import ParameterError
from objloc_ros.scenes.backgrounds import background
from objloc_ros.scenes.compose import Bank, Scene, random_scene
from objloc_ros.scenes.sprites import Points, draw_mask
from objloc_ros.scenes.textures import Array, fractal

HUES: dict[str, tuple[int, int] | None] = {
    "red": (0, 4),
    "orange": (16, 4),
    "yellow": (29, 3),
    "green": (60, 12),
    "blue": (112, 8),
    "purple": (141, 6),
    "pink": (164, 5),
    "white": None,
    "black": None,
}
"""Colour words: OpenCV's hue (0-179) and how far it may be off; None for those without one."""

COLOURS = tuple(HUES)
PATTERNS = ("plain", "striped", "dotted", "checkered")
SHAPES = ("circle", "square", "triangle", "star", "cross", "ring")


KEPT_OUT = frozenset(
    {
        ("red", "star"),
        ("blue", "triangle"),
        ("green", "ring"),
        ("yellow", "cross"),
        ("purple", "square"),
        ("white", "circle"),
    }
)
"""Pairs of colour and shape that no training sees, in pictures or in captions."""


@dataclass(frozen=True)
class Attributes:
    """What can be said of an object."""

    colour: str
    pattern: str
    shape: str


class AttributeBank(Bank):
    """A bank whose sprites have known attributes; sprite i is described by `attributes[i]`.

    Args:
        seed: Seed of the bank.
        backgrounds: Number of backgrounds, drawn as for other scenes.
        copies: Sprites of every combination of attributes.
        side: Side of a background in pixels; sprites have 0.4 of it.
        photographs: Photographed surfaces to mix into the backgrounds, float32 in [0, 1].
    """

    def __init__(
        self,
        seed: int,
        *,
        backgrounds: int = 400,
        copies: int = 6,
        side: int = 320,
        photographs: list[Array] | None = None,
    ) -> None:
        rng = np.random.default_rng(seed)
        self.backgrounds = [background(rng, side, photographs) for _ in range(backgrounds)]
        combinations = [Attributes(*words) for words in product(COLOURS, PATTERNS, SHAPES)]
        self.attributes = [attributes for attributes in combinations for _ in range(copies)]
        self.sprites = [attribute_sprite(rng, int(side * 0.4), attributes) for attributes in self.attributes]

    def blurred(self, sigma: float) -> AttributeBank:
        """Return the same sprites before blurred backgrounds; `sigma` in pixels of the bank."""
        other = copy.copy(self)
        other.backgrounds = [
            cv2.GaussianBlur(background, (0, 0), sigma).astype(np.uint8) for background in self.backgrounds
        ]
        return other


def attribute_scene(
    rng: np.random.Generator,
    bank: AttributeBank,
    *,
    aspect: float = 1.0,
    counts: tuple[float, ...] = (0.4, 0.35, 0.25),
    sizes: tuple[float, float] = (0.25, 0.8),
    kept_out: frozenset[tuple[str, str]] = frozenset(),
) -> Scene:
    """Return a scene whose objects keep their colours and stand almost upright.

    Args:
        rng: Source of randomness.
        bank: Pictures to draw from.
        aspect: Canvas width over height.
        counts: Probability of one, two, ... objects.
        sizes: Range of object sizes, see `compose.random_scene`.
        kept_out: Pairs of colour and shape that must not occur.

    Raises:
        ParameterError: If the bank has no other.
    """
    if all((attributes.colour, attributes.shape) in kept_out for attributes in bank.attributes):
        raise ParameterError(f"kept_out leaves no picture of {len(bank.attributes)} in the bank")
    scene = random_scene(rng, bank, aspect=aspect, counts=counts, sizes=sizes)
    objects = []
    for placed in scene.objects:
        index = placed.index
        while (bank.attributes[index].colour, bank.attributes[index].shape) in kept_out:
            index = int(rng.integers(len(bank.sprites)))
        angle, stretch = float(rng.uniform(-0.4, 0.4)), float(rng.uniform(0.93, 1.08))
        objects.append(replace(placed, index=index, angle=angle, aspect=stretch, colours=_sample_lighting(rng)))
    return replace(scene, objects=tuple(objects))


def attribute_sprite(rng: np.random.Generator, n: int, attributes: Attributes) -> npt.NDArray[np.uint8]:
    """Draw one object: uint8 RGBA [n, n, 4]."""
    base = sample_colour(rng, attributes.colour)
    field = draw_pattern(rng, n, attributes.pattern)[..., None]
    pixels = base * (1 - field) + _sample_contrast(rng, base) * field
    pixels = pixels + np.float32(rng.uniform(0, 20)) * (fractal(rng, n, lowest=3, highest=12) - 0.5)[..., None]
    alpha = draw_shape(rng, n, attributes.shape)
    return np.dstack([np.clip(pixels, 0, 255), alpha * 255]).astype(np.uint8)


def sample_colour(rng: np.random.Generator, name: str) -> Array:
    """Return an RGB colour that people call by this name: float32 [3] in [0, 255]."""
    hue = HUES[name]
    if hue is None:
        return np.full(3, rng.uniform(225, 255) if name == "white" else rng.uniform(0, 28), np.float32)
    saturation = rng.integers(110, 150) if name == "pink" else rng.integers(185, 256)
    value = rng.integers(215, 256) if name in ("yellow", "orange", "pink") else rng.integers(130, 240)
    turned = (hue[0] + int(rng.integers(-hue[1], hue[1] + 1))) % 180
    hsv = np.array([[[turned, saturation, value]]], np.uint8)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].astype(np.float32)


def draw_pattern(rng: np.random.Generator, n: int, name: str) -> Array:
    """Return where an object shows its second colour: float32 [n, n], 0 or 1."""
    y, x = np.mgrid[0:n, 0:n].astype(np.float32)
    period, angle = n * rng.uniform(0.14, 0.24), rng.uniform(0, np.pi)
    u = x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))
    v = y * np.float32(np.cos(angle)) - x * np.float32(np.sin(angle))
    if name == "striped":
        return (u / period % 1 < 0.38).astype(np.float32)
    if name == "dotted":
        radii = (u % period - period / 2) ** 2 + (v % period - period / 2) ** 2
        return (radii < (0.27 * period) ** 2).astype(np.float32)
    if name == "checkered":
        return ((np.floor(u / period) + np.floor(v / period)) % 2).astype(np.float32)
    return np.zeros((n, n), np.float32)


def draw_shape(rng: np.random.Generator, n: int, name: str) -> Array:
    """Return the antialiased coverage of a shape: float32 [n, n] in [0, 1]."""
    if name == "cross":
        bar = np.array([[-1, -0.34], [1, -0.34], [1, 0.34], [-1, 0.34]]) * rng.uniform(0.92, 1.0)
        return np.maximum(draw_mask(bar, n), draw_mask(bar[:, ::-1], n))
    if name == "ring":
        return draw_mask(_regular_corners(90), n) - draw_mask(_regular_corners(90) * rng.uniform(0.42, 0.58), n)
    if name == "star":
        radii = np.where(np.arange(10) % 2, rng.uniform(0.4, 0.5), 1.0)[:, None]
        return draw_mask(_regular_corners(10) * radii, n)
    if name == "square":
        return draw_mask(np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * 0.86, n)
    return (
        draw_mask(_regular_corners(3) + np.array([0, 0.15]), n)
        if name == "triangle"
        else draw_mask(_regular_corners(90), n)
    )


def _regular_corners(corners: int) -> Points:
    """Return corners of a regular polygon on the unit circle, the first one on top."""
    angle = np.arange(corners) * 2 * np.pi / corners - np.pi / 2
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _sample_contrast(rng: np.random.Generator, base: Array) -> Array:
    """Return a second colour: black or white, or a darker or paler shade of the first; grey beside black and white.

    A black and white chessboard would be as black as it is white.
    """
    if base.min() > 200 or base.max() < 50:
        return np.full(3, rng.uniform(75, 115) if base.min() > 200 else rng.uniform(125, 165), np.float32)
    if rng.random() < 0.5:
        return np.full(3, 20 if base.mean() > 100 else 235, np.float32)
    return np.clip(base * 0.35 if base.mean() > 90 else base * 0.4 + 150, 0, 255)


def _sample_lighting(rng: np.random.Generator) -> Array:
    """Return a slight change of brightness and tint, as a colour map [3, 4] for `compose.render`."""
    gains = rng.uniform(0.88, 1.1) * rng.uniform(0.96, 1.04, 3)
    return np.hstack([np.diag(gains), np.zeros((3, 1))]).astype(np.float32)
