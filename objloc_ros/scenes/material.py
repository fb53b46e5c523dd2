"""Photographic and rendered cut-outs and grounds from a folder, beside the procedural pictures of a bank.

The folder is what `python -m objloc_ros.training.material` makes: `cutouts/SOURCE/NAME.png`, RGBA, and
`grounds/SOURCE/NAME.jpg`. Several views of one thing are called `NAME@VIEW.png`.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from objloc_ros.errors import InputError
from objloc_ros.scenes.sprites import shade, sprite
from objloc_ros.scenes.textures import Array
from objloc_ros.types import Image

CUTOUT_SIDE = 0.5
"""Side of a cut-out as a fraction of that of a ground; procedural ones have 0.4, and less detail."""

MARGIN = 0.03
"""Part of a cut-out's side that stays empty along each edge, so that blurring does not cut it off."""

GROUND_CROPS = 6
"""Crops of each ground."""

CROP_SIDES = (0.45, 1.0)
"""Range of a crop's side as a fraction of the ground's shorter side."""


DRAWN_SOURCES = ("fluent-emoji-3d", "sweethome3d-furniture")
"""Folders of cut-outs that are drawn or rendered; all others hold photographs."""

OUTLINES = 800
"""Procedural outlines that are filled with photographed ground, as further photographed cut-outs."""


@dataclass(frozen=True)
class Material:
    """Pictures of real things and real grounds.

    Args:
        cutouts: uint8 [n, n, 4] RGBA each.
        grounds: uint8 [n, n, 3] RGB each.
        photographed: bool, one per cut-out: a photograph, or else drawn or rendered.
        cutout_weights: float64, how often to draw each cut-out, relative to the others of its kind.
        ground_weights: float64, probability of each ground to be drawn, summing to 1.
    """

    cutouts: list[Image]
    grounds: list[Image]
    photographed: npt.NDArray[np.bool_]
    cutout_weights: Array
    ground_weights: Array

    def has_cutouts(self, *, photographed: bool) -> bool:
        """Return whether there are cut-outs of a kind."""
        return bool((self.photographed == photographed).any())

    def draw_cutout(self, rng: np.random.Generator, *, photographed: bool) -> int:
        """Draw the index of a cut-out of a kind by the weights."""
        weights = self.cutout_weights * (self.photographed == photographed)
        return int(rng.choice(len(self.cutouts), p=weights / weights.sum()))

    def draw_ground(self, rng: np.random.Generator) -> int:
        """Draw the index of a ground by the weights."""
        return int(rng.choice(len(self.grounds), p=self.ground_weights))


def load_material(folder: Path | str, *, side: int = 320, seed: int = 0, outlines: int = OUTLINES) -> Material:
    """Read the cut-outs of a folder and crop its grounds; what cannot be decoded is left out.

    Args:
        folder: Folder with `cutouts/` and `grounds/`.
        side: Side of a ground in pixels; cut-outs have `CUTOUT_SIDE` of it.
        seed: Seed of crops and outlines; each ground's depend on it and on the ground's place in the order of names.
        outlines: Procedural outlines to fill with grounds; together they are drawn as often as all photographs are.

    Returns:
        Cut-outs in the order of their names, then the outlines, and `GROUND_CROPS` crops of each ground, weighted by
        `balance_sources`.

    Raises:
        InputError: If the folder holds no cut-out or no ground.
    """
    folder = Path(folder)
    cutouts, things = _read_cutouts(folder, round(side * CUTOUT_SIDE))
    grounds: list[Image] = []
    places: list[tuple[str, str]] = []
    for number, path in enumerate(sorted(folder.glob("grounds/*/*.jpg"))):
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if picture is not None:
            rgb = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB).astype(np.uint8)
            rng = np.random.default_rng([seed, number])
            grounds += [crop_ground(rng, rgb, side) for _ in range(GROUND_CROPS)]
            places += [(path.parent.name, path.stem)] * GROUND_CROPS
    if not cutouts or not grounds:
        missing = "cut-out in cutouts/*/*.png" if not cutouts else "ground in grounds/*/*.jpg"
        raise InputError(f"{folder} holds no {missing}: make it with python -m objloc_ros.training.material {folder}")
    weights, ground_weights = balance_sources(things), balance_sources(places)
    photographed = np.array([source not in DRAWN_SOURCES for source, _ in things])
    if outlines:
        side = len(cutouts[0])
        filled = [
            fill_outline(np.random.default_rng([seed, i, 1]), grounds, ground_weights, side) for i in range(outlines)
        ]
        share = weights[photographed].sum() or 1.0
        cutouts, weights = cutouts + filled, np.concatenate([weights, np.full(outlines, share / outlines)])
        photographed = np.concatenate([photographed, np.full(outlines, True)])
    return Material(cutouts, grounds, photographed, weights, ground_weights)


def _read_cutouts(folder: Path, side: int) -> tuple[list[Image], list[tuple[str, str]]]:
    """Return the cut-outs of a folder as squares, and of each its source and the name of the thing that it shows."""
    cutouts: list[Image] = []
    things: list[tuple[str, str]] = []
    for path in sorted(folder.glob("cutouts/*/*.png")):
        picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if picture is not None and picture.ndim == 3 and picture.shape[2] == 4 and picture[..., 3].any():
            rgba = cv2.cvtColor(picture, cv2.COLOR_BGRA2RGBA).astype(np.uint8)
            cutouts.append(fit_cutout(rgba, side))
            things.append((path.parent.name, path.stem.partition("@")[0]))
    return cutouts, things


def fill_outline(rng: np.random.Generator, grounds: list[Image], weights: Array, side: int) -> Image:
    """Return a procedural outline that shows a photographed ground, at times recoloured, blended or shaded.

    Photographs of things are few; what lies in such an outline looks as photographed as the ground that it is put on.

    Args:
        rng: Source of randomness.
        grounds: uint8 [n, n, 3] RGB each.
        weights: float64, probability of each of them.
        side: Side of the result in pixels.
    """
    drawn = sprite(rng, side)
    ground = grounds[int(rng.choice(len(grounds), p=weights))]
    extent = int(rng.integers(side // 2, min(len(ground), 2 * side) + 1))
    top, left = (int(start) for start in rng.integers(0, len(ground) - extent + 1, 2))
    crop = ground[top : top + extent, left : left + extent]
    colours: Array = cv2.resize(crop, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32)
    if rng.random() < 0.3:
        colours = 0.6 * colours + 0.4 * drawn[..., :3]
    if rng.random() < 0.6:
        colours = shade(rng, colours, drawn[..., 3].astype(np.float32) / 255)
    return np.dstack([np.clip(colours, 0, 255), drawn[..., 3]]).astype(np.uint8)


def balance_sources(things: list[tuple[str, str]]) -> Array:
    """Return how often to draw each picture, given the source and the name of the thing that it shows.

    The things of a source are drawn equally often however many pictures there are of each. A source is drawn as often
    as the square root of the number of its things says, so that a large one does not drown the others.

    Returns:
        float64, one probability per picture, summing to 1.
    """
    pictures = Counter(things)
    sources = Counter(source for source, _ in pictures)
    weights = np.array([1 / pictures[thing] / np.sqrt(sources[thing[0]]) for thing in things])
    return weights / weights.sum()


def fit_cutout(picture: Image, side: int) -> Image:
    """Return a cut-out in the middle of a transparent square, its aspect kept: uint8 [side, side, 4].

    Transparent pixels take on the colour of the nearest opaque one, so that no halo appears when the square is warped
    or blurred.

    Args:
        picture: RGBA uint8 [H, W, 4].
        side: Side of the square in pixels.
    """
    height, width = picture.shape[:2]
    scale = side * (1 - 2 * MARGIN) / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    alpha = picture[..., 3:].astype(np.float32) / 255
    weighted = np.concatenate([picture[..., :3] * alpha, alpha], axis=2)
    weighted = cv2.resize(weighted, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    square = np.zeros((side, side, 4), np.float32)
    top, left = (side - size[1]) // 2, (side - size[0]) // 2
    square[top : top + size[1], left : left + size[0]] = weighted
    opaque = square[..., 3] > 0.5 * square[..., 3].max()
    _, nearest = cv2.distanceTransformWithLabels(
        np.where(opaque, 0, 255).astype(np.uint8), cv2.DIST_L2, 3, labelType=cv2.DIST_LABEL_PIXEL
    )
    table = np.zeros((int(nearest.max()) + 1, 3), np.float32)
    table[nearest[opaque]] = square[opaque, :3] / square[opaque, 3:]
    colours = table[nearest]
    return np.concatenate([np.clip(colours, 0, 255), 255 * square[..., 3:]], axis=2).round().astype(np.uint8)


def crop_ground(rng: np.random.Generator, picture: Image, side: int) -> Image:
    """Return a random square of a ground, resized: uint8 [side, side, 3].

    Args:
        rng: Source of randomness.
        picture: RGB uint8 [H, W, 3].
        side: Side of the result in pixels.
    """
    extent = max(1, round(min(picture.shape[:2]) * rng.uniform(*CROP_SIDES)))
    top, left = (int(rng.integers(0, length - extent + 1)) for length in picture.shape[:2])
    crop = picture[top : top + extent, left : left + extent]
    method = cv2.INTER_AREA if extent > side else cv2.INTER_LINEAR
    return cv2.resize(crop, (side, side), interpolation=method).astype(np.uint8)
