"""Scenes: cut-outs pasted on a background, described first and rendered as often as wanted.

A scene lives on a canvas of height 1 and width `aspect`. Rendering warps each layer once, straight to the view, so one
scene gives many views, each with the exact identity of every pixel.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import cv2
import numpy as np

from objloc_ros.scenes.backgrounds import background
from objloc_ros.scenes.material import Material
from objloc_ros.scenes.sprites import sprite
from objloc_ros.scenes.textures import Array
from objloc_ros.types import Image, Size

PHOTOGRAPHED_SHARE = 0.15
"""Part of the scenes of a bank with material that are of photographs alone.

Ground and objects are of one kind: otherwise what looks photographed would be ground, and what looks drawn an object.
"""

DRAWN_SHARE = 0.25
"""Part of the objects of all other scenes that are of the material, drawn or rendered."""

REAL_COLOURS = 0.3
"""Strength of recolouring what is real: it has the colours of the world already."""


class Bank:
    """Backgrounds and sprites drawn once; scenes refer to them by index.

    Args:
        seed: Seed of the bank; the same seed gives the same pictures.
        backgrounds: Number of backgrounds.
        sprites: Number of sprites.
        side: Side of a background in pixels; sprites have 0.4 of it.
        photographs: Photographed surfaces to mix into the textures, float32 in [0, 1].
        material: Real grounds and cut-outs, appended to the drawn ones; see `PHOTOGRAPHED_SHARE`.
    """

    material: Material | None = None

    def __init__(
        self,
        seed: int,
        *,
        backgrounds: int = 400,
        sprites: int = 1200,
        side: int = 320,
        photographs: list[Array] | None = None,
        material: Material | None = None,
    ) -> None:
        rng = np.random.default_rng(seed)
        self.backgrounds = [background(rng, side, photographs) for _ in range(backgrounds)]
        self.sprites = [sprite(rng, int(side * 0.4), photographs) for _ in range(sprites)]
        if material:
            self.material = material
            self.backgrounds += material.grounds
            self.sprites += material.cutouts

    def without_material(self) -> Bank:
        """Return the same bank as it was drawn."""
        plain = copy.copy(self)
        plain.material = None
        if self.material:
            plain.backgrounds = self.backgrounds[: -len(self.material.grounds)]
            plain.sprites = self.sprites[: -len(self.material.cutouts)]
        return plain

    def choose_photographs(self, rng: np.random.Generator) -> bool:
        """Decide whether a scene is of photographs; without material nothing is drawn from `rng`."""
        return self.material is not None and bool(rng.random() < PHOTOGRAPHED_SHARE)

    def draw_background(self, rng: np.random.Generator, *, photographed: bool) -> int:
        """Draw the index of a background, procedural or photographed."""
        procedural = len(self.backgrounds) - (len(self.material.grounds) if self.material else 0)
        if photographed and self.material:
            return procedural + self.material.draw_ground(rng)
        return int(rng.integers(procedural))

    def choose_real(self, rng: np.random.Generator, *, photographed: bool) -> bool:
        """Decide whether a scene's next object is of the material; without material nothing is drawn from `rng`."""
        if self.material is None or not self.material.has_cutouts(photographed=photographed):
            return False
        return photographed or bool(rng.random() < DRAWN_SHARE)

    def draw_sprite(self, rng: np.random.Generator, *, real: bool, photographed: bool = False) -> int:
        """Draw the index of a sprite: a procedural one, or a cut-out, photographed or else drawn or rendered."""
        procedural = len(self.sprites) - (len(self.material.cutouts) if self.material else 0)
        if real and self.material:
            return procedural + self.material.draw_cutout(rng, photographed=photographed)
        return int(rng.integers(procedural))


@dataclass(frozen=True)
class Background:
    """A background and how it is turned, zoomed, shifted and recoloured."""

    index: int
    angle: float
    zoom: float
    shift: tuple[float, float]
    colours: Array


@dataclass(frozen=True)
class Pasted:
    """A sprite on the canvas: centre and size in canvas units, angle in radians, aspect and recolouring."""

    index: int
    x: float
    y: float
    size: float
    angle: float
    aspect: float
    mirrored: bool
    colours: Array


@dataclass(frozen=True)
class Scene:
    """A background and what lies on it, back to front; canvas height 1, width `aspect`."""

    background: Background
    objects: tuple[Pasted, ...]
    aspect: float = 1.0
    photographed: bool = False


@dataclass(frozen=True)
class Window:
    """The part of the canvas that a view shows: top left corner and height, in canvas units."""

    x: float = 0.0
    y: float = 0.0
    height: float = 1.0


@dataclass(frozen=True)
class Camera:
    """How strongly a view is degraded: exposure and blur up to `strength`, grey with probability `grey`."""

    strength: float = 1.0
    grey: float = 0.1


def random_colour_map(rng: np.random.Generator, strength: float = 1.0, *, permute: bool = True) -> Array:
    """Return a random affine colour map [3, 4], often with permuted channels if that is allowed."""
    order = rng.permutation(3) if permute and rng.random() < 0.5 * strength else np.arange(3)
    matrix = np.eye(3)[order] * rng.uniform(0.75, 1.25) + rng.normal(0, 0.12 * strength, (3, 3))
    return np.hstack([matrix, rng.normal(0, 18 * strength, (3, 1))]).astype(np.float32)


def random_background(rng: np.random.Generator, bank: Bank, *, photographed: bool = False) -> Background:
    """Return a background seen almost upright, a photographed one in nearly its own colours."""
    shift = (float(rng.uniform(-0.5, 0.5)), float(rng.uniform(-0.5, 0.5)))
    index = bank.draw_background(rng, photographed=photographed)
    angle, zoom = float(rng.uniform(-0.3, 0.3)), float(rng.uniform(1.1, 1.9))
    return Background(index, angle / 2 if photographed else angle, zoom, shift, _recolour(rng, real=photographed))


def random_scene(
    rng: np.random.Generator,
    bank: Bank,
    *,
    aspect: float = 1.0,
    counts: tuple[float, ...] = (0.4, 0.3, 0.2, 0.1),
    sizes: tuple[float, float] = (0.18, 0.8),
    overlap: float = 0.2,
) -> Scene:
    """Return a background with one to `len(counts)` objects.

    Args:
        rng: Source of randomness.
        bank: Pictures to draw from.
        aspect: Canvas width over height.
        counts: Probability of one, two, ... objects.
        sizes: Range of object sizes as a fraction of the canvas height; shared out when there are several.
        overlap: Part of their common size by which two objects may overlap along an axis.
    """
    photographed = bank.choose_photographs(rng)
    wanted = 1 + int(rng.choice(len(counts), p=counts))
    placed: list[Pasted] = []
    for _ in range(wanted * 8):
        size = rng.uniform(*sizes) / (1.0, 1.15, 1.4, 1.6)[min(wanted, 4) - 1]
        margin = 0.08 + 0.35 * size
        if aspect <= 2 * margin or margin >= 0.5:
            margin = min(aspect, 1.0) / 2 - 1e-3
        x, y = rng.uniform(margin, aspect - margin), rng.uniform(margin, 1 - margin)
        reach = (1 - overlap) / 2
        if all(max(abs(x - o.x), abs(y - o.y)) > (size + o.size) * reach for o in placed):
            placed.append(random_pasted(rng, bank, x=x, y=y, size=size, photographed=photographed))
        if len(placed) == wanted:
            break
    return Scene(random_background(rng, bank, photographed=photographed), tuple(placed), aspect, photographed)


def random_pasted(
    rng: np.random.Generator, bank: Bank, *, x: float, y: float, size: float, photographed: bool = False
) -> Pasted:
    """Return a sprite, upright or half of the time turned freely; a real one is turned and changed less."""
    real = bank.choose_real(rng, photographed=photographed)
    angle = rng.uniform(0, 2 * np.pi) if rng.random() < (0.15 if real else 0.5) else rng.normal(0, 0.15)
    index, mirrored = bank.draw_sprite(rng, real=real, photographed=photographed), bool(rng.random() < 0.5)
    aspect = float(rng.uniform(0.87, 1.15) if real else rng.uniform(0.75, 1.33))
    return Pasted(index, x, y, size, float(angle), aspect, mirrored, _recolour(rng, real=real))


def _recolour(rng: np.random.Generator, *, real: bool) -> Array:
    return random_colour_map(rng, REAL_COLOURS, permute=False) if real else random_colour_map(rng)


def move_objects(rng: np.random.Generator, scene: Scene, step: float = 0.08) -> Scene:
    """Return the same objects a moment later: each shifted by about `step`, turned and scaled a little."""
    objects = [
        replace(
            o,
            x=float(np.clip(o.x + rng.normal(0, step), 0.1, scene.aspect - 0.1)),
            y=float(np.clip(o.y + rng.normal(0, step), 0.1, 0.9)),
            angle=o.angle + float(rng.normal(0, 0.4)),
            size=o.size * float(rng.uniform(0.85, 1.18)),
        )
        for o in scene.objects
    ]
    return replace(scene, objects=tuple(objects))


def render(
    rng: np.random.Generator,
    bank: Bank,
    scene: Scene,
    size: Size,
    *,
    window: Window | None = None,
    mirrored: bool = False,
    camera: Camera | None = None,
) -> tuple[Image, Image]:
    """Render one view of a scene.

    Returns:
        RGB uint8 [H, W, 3] and identities uint8 [H, W]: 0 for the background, i + 1 for `scene.objects[i]`.
    """
    window, camera = window or Window(), camera or Camera()
    pixels = _render_background(bank, scene, size, window)
    identities = np.zeros(size, np.uint8)
    softness = 0.0 if rng.random() < 0.5 else rng.uniform(0.4, 1.0)
    for i, pasted in enumerate(scene.objects):
        layer = _render_pasted(bank, pasted, size, window)
        if softness:
            layer = cv2.GaussianBlur(layer, (0, 0), softness)
        alpha = layer[..., 3:] / 255
        if i % 2 == 0:
            pixels *= 1 - 0.35 * _shadow(alpha[..., 0], size[0] / window.height)[..., None]
        pixels += alpha * (cv2.transform(np.ascontiguousarray(layer[..., :3]), pasted.colours) - pixels)
        identities[alpha[..., 0] > 0.5] = i + 1
    image = _expose(rng, pixels, camera)
    return (image[:, ::-1], identities[:, ::-1]) if mirrored else (image, identities)


def _render_background(bank: Bank, scene: Scene, size: Size, window: Window) -> Array:
    background = scene.background
    picture: Array = bank.backgrounds[background.index]
    n = picture.shape[0]
    zoom = size[0] / window.height
    scale = zoom * max(scene.aspect, 1.0) * background.zoom / n
    matrix: Array = cv2.getRotationMatrix2D((n / 2, n / 2), float(np.degrees(background.angle)), scale)
    slack = (background.zoom - 1) * max(scene.aspect, 1.0)
    centre = np.array([scene.aspect / 2 - window.x, 0.5 - window.y]) + np.array(background.shift) * slack
    matrix[:, 2] += centre * zoom - n / 2
    flags = cv2.INTER_LINEAR if scale > 0.6 else cv2.INTER_AREA
    if scale < 0.7:
        picture = cv2.GaussianBlur(picture, (0, 0), 0.35 / scale)
    warped = cv2.warpAffine(picture, matrix, size[::-1], flags=flags, borderMode=cv2.BORDER_REFLECT_101)
    return cv2.transform(warped.astype(np.float32), background.colours)


def _render_pasted(bank: Bank, pasted: Pasted, size: Size, window: Window) -> Array:
    picture: Array = bank.sprites[pasted.index]
    n = picture.shape[0]
    zoom = size[0] / window.height
    scale = pasted.size * zoom / n
    c, s = np.cos(pasted.angle), np.sin(pasted.angle)
    stretch = np.diag([scale * pasted.aspect * (-1 if pasted.mirrored else 1), scale / pasted.aspect])
    linear = np.array([[c, -s], [s, c]]) @ stretch
    centre = np.array([pasted.x - window.x, pasted.y - window.y]) * zoom
    matrix = np.hstack([linear, (centre - linear @ np.array([n / 2, n / 2]))[:, None]])
    if scale < 0.5:
        picture = cv2.GaussianBlur(picture, (0, 0), 0.35 / scale)
    return cv2.warpAffine(picture, matrix, size[::-1], flags=cv2.INTER_LINEAR).astype(np.float32)


def _shadow(alpha: Array, zoom: float) -> Array:
    shift = np.array([[1, 0, 0.02 * zoom], [0, 1, 0.03 * zoom]], np.float32)
    return cv2.GaussianBlur(cv2.warpAffine(alpha, shift, alpha.shape[::-1]), (0, 0), 0.02 * zoom)


def _expose(rng: np.random.Generator, pixels: Array, camera: Camera) -> Image:
    k = camera.strength
    pixels = pixels * np.float32(rng.uniform(1 - 0.3 * k, 1 + 0.3 * k)) + np.float32(rng.uniform(-25, 25) * k)
    if rng.random() < 0.3:
        pixels = cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.4, 1.2))
    if rng.random() < camera.grey:
        pixels[:] = pixels.mean(axis=2, keepdims=True)
    noise = rng.standard_normal((*pixels.shape[:2], 1), dtype=np.float32) * np.float32(rng.uniform(0, 7) * k)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)
