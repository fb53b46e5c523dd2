"""What a token detector's training looks at: settings, the order of images, and labelled images in variants.

An item of a batch is an image in a variant. Every draw is keyed by seed, variant and image, so that nothing depends on
the number of workers, and a resumed run sees what an uninterrupted one would have. An image that cannot be read is left
out and named.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from objloc_ros.errors import InputError, ParameterError
from objloc_ros.io.media import read_image
from objloc_ros.methods.token_detector import PIXELS_PER_PATCH
from objloc_ros.ops.geometry import Geometry
from objloc_ros.options import Options, option
from objloc_ros.training.copy_paste import FIRST_RATIO, Draw, draw_paste, paste_objects
from objloc_ros.training.detector_labels import ImageLabels, Labels
from objloc_ros.training.detector_losses import ObjectTargets, assign_patches
from objloc_ros.types import Image, size_of

CACHED_RATE = 2e-3
"""Peak learning rate with cached tokens: short runs of small batches."""

FRESH_RATE = 1e-3
"""Peak learning rate with fresh tokens in batches of `FRESH_BATCH`; it grows with the batch's square root."""

FRESH_BATCH = 64

SIDE_STEP_PX = 32
"""Fresh short sides are drawn in steps of this many pixels."""


@dataclass(frozen=True)
class DetectorTraining(Options):
    """Settings of a run; equal settings, labels and backbones give equal detectors."""

    steps: int = option(400, "Optimiser updates.", low=1)
    batch: int = option(12, "Images per update, of all processes together.", low=1)
    rate: float | None = option(
        None,
        "Peak learning rate; it rises over 5 % of the steps and falls as a cosine.",
        kind=float,
        low=0,
        exclusive=True,
        unset="2e-3 with cached tokens, 1e-3 * sqrt(batch / 64) with fresh ones",
    )
    seed: int = option(0, "Seed of the weights, the order of images and their variants.", low=0)
    tokens: str = option(
        "cached",
        "Compute the backbone's tokens once per image and variant, or anew for each epoch.",
        choices=("cached", "fresh"),
    )
    variants: int = option(2, "Variants of each image whose tokens are cached, every other one mirrored.", low=1)
    pastes: int = option(
        0,
        "Copy-paste: objects of up to this many other images are pasted into each image, so that teachers that find "
        "one object teach several.",
        low=0,
        high=10,
    )
    memory_gb: float = option(4.0, "Most gigabytes of tokens cached in memory; beyond, a folder must be given.", low=0)
    short_side: int | None = option(
        None,
        "Images are scaled down until their shorter side has this many pixels, never up.",
        kind=int,
        low=8,
        high=4096,
        unset="the backbone's own size, or native",
    )
    smallest_side: int | None = option(
        None,
        "Shorter sides are drawn from here to short_side, anew for each update; for fresh tokens.",
        kind=int,
        low=8,
        high=4096,
        unset="short_side",
    )
    average: float = option(0.999, "Decay of the moving average of the weights, which is what is kept.", low=0, high=1)
    drop_far: float = option(
        1.0,
        "Weight of the objectness of patches whose box overlaps no label (DropLoss: what nobody labelled may be an "
        "object); 1 treats all patches alike.",
        low=0,
        high=1,
    )
    bfloat16: bool = option(False, "Run the frozen backbone in bfloat16: faster on GPUs and recent CPUs.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.smallest_side is not None:
            if self.tokens == "cached":
                raise ParameterError("smallest_side is for fresh tokens: cached ones have one size")
            if self.short_side is None or self.smallest_side > self.short_side:
                raise ParameterError(f"smallest_side {self.smallest_side} needs a short_side of at least as much")

    @property
    def peak_rate(self) -> float:
        """The highest learning rate."""
        fresh = FRESH_RATE * math.sqrt(self.batch / FRESH_BATCH)
        return self.rate if self.rate is not None else fresh if self.tokens == "fresh" else CACHED_RATE

    def learning_rate(self, step: int) -> float:
        """Return the learning rate at a step, counted from 0."""
        warmup = max(1, self.steps // 20)
        return self.peak_rate * min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * step / self.steps))

    def for_next_round(self) -> DetectorTraining:
        """Return the settings of a round of self-training, as in CutLER: half the learning rate, and no DropLoss."""
        return replace(self, rate=self.peak_rate / 2, drop_far=1.0)


@dataclass(frozen=True)
class Item:
    """An image to learn from: its number, the variant, and the shorter side to see it at (None: native)."""

    index: int
    variant: int
    short_side: int | None


def choose_items(total: int, step: int, settings: DetectorTraining, short_side: int | None) -> list[Item]:
    """Return the items of a step: epoch after epoch in a new order, the variant changing with the epoch.

    Args:
        total: Number of images, at least 1.
        step: Counted from 0.
        settings: The run.
        short_side: Of the settings, or of the backbone; None for native resolution.
    """
    if settings.smallest_side is not None and short_side is not None:
        sides = range(short_side, settings.smallest_side - 1, -SIDE_STEP_PX)
        short_side = sides[int(np.random.default_rng([settings.seed, 2, step]).integers(len(sides)))]
    items = []
    for place in range(step * settings.batch, (step + 1) * settings.batch):
        epoch, position = divmod(place, total)
        variant = epoch % settings.variants if settings.tokens == "cached" else epoch
        items.append(Item(int(_shuffle(total, settings.seed, epoch)[position]), variant, short_side))
    return items


@lru_cache(maxsize=2)
def _shuffle(total: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng([seed, epoch]).permutation(total)


@dataclass(frozen=True)
class Picture:
    """An image with its objects.

    Args:
        image: RGB uint8 [H, W, 3].
        masks: bool [n, H, W]; of objects without a mask, their boxes'.
        boxes: float64 [n, 4] in pixels.
        box_only: bool [n].
        categories: int64 [n].
    """

    image: Image
    masks: npt.NDArray[np.bool_]
    boxes: npt.NDArray[np.float64]
    box_only: npt.NDArray[np.bool_]
    categories: npt.NDArray[np.int64]

    def flip(self) -> Picture:
        """Return it mirrored left to right."""
        x1, y1, x2, y2 = self.boxes.T
        width = self.image.shape[1]
        return replace(
            self,
            image=np.ascontiguousarray(self.image[:, ::-1]),
            masks=self.masks[:, :, ::-1],
            boxes=np.stack([width - x2, y1, width - x1, y2], axis=1),
        )

    def paste(self, source: Picture, draw: Draw) -> Picture:
        """Return it with objects of another picture pasted in front."""
        image, masks, boxes, kept, pasted = paste_objects(source.image, source.masks, self.image, self.masks, draw)
        box_only = np.concatenate([self.box_only[kept], source.box_only[pasted]])
        whole = np.flatnonzero(self.box_only[kept])
        boxes[whole] = self.boxes[kept[whole]]  # a box says how far its object reaches, be it hidden or not
        return Picture(
            image, masks, boxes, box_only, np.concatenate([self.categories[kept], source.categories[pasted]])
        )


class PictureVariants:
    """Labelled images in variants: mirrored in every other one, with objects of other images where settings say so.

    Args:
        labels: What to learn from.
        settings: The run.
        ratios: Range of the scale of what is pasted.

    Attributes:
        unreadable: The reason for each image that could not be read, by its file.
    """

    def __init__(self, labels: Labels, settings: DetectorTraining, ratios: tuple[float, float] = FIRST_RATIO) -> None:
        self.labels, self.settings, self.ratios = labels, settings, ratios
        self.unreadable: dict[Path, str] = {}

    def make(self, index: int, variant: int) -> Picture | None:
        """Return an image in a variant; None if it cannot be read."""
        picture = self._read(index)
        if picture is None:
            return None
        picture = picture.flip() if (index + variant) % 2 else picture
        rng = np.random.default_rng([self.settings.seed, 4, variant, index])
        for _ in range(int(rng.integers(self.settings.pastes + 1))):
            picture = self._paste_another(picture, rng)
        return picture

    def _paste_another(self, picture: Picture, rng: np.random.Generator) -> Picture:
        """Paste objects of any image, mirrored half of the time; it may show none."""
        source, mirrored = self._read(int(rng.integers(len(self.labels.images)))), rng.random() < 0.5
        if source is None or not len(source.masks):
            return picture
        draw = draw_paste(rng, len(source.masks), size_of(picture.image), self.ratios)
        return picture.paste(source.flip() if mirrored else source, draw)

    def _read(self, index: int) -> Picture | None:
        labels = self.labels.images[index]
        if labels.file in self.unreadable:
            return None
        try:
            return read_picture(labels)
        except InputError as error:
            self.unreadable[labels.file] = str(error)
            return None


def read_picture(labels: ImageLabels) -> Picture:
    """Read a labelled image.

    Raises:
        InputError: If it cannot be read, or no longer has the size of its labels.
    """
    image = read_image(labels.file)
    if image.shape[:2] != labels.size:
        raise InputError(f"{labels.file} has {image.shape[:2]} rows and columns, its labels {labels.size}")
    return Picture(image, labels.masks, labels.boxes, labels.box_only, labels.categories)


def make_targets(picture: Picture, geometry: Geometry) -> ObjectTargets:
    """Bring the objects of a picture to the patch grid; objects that leave no trace on it stay on one patch."""
    (height, width), (rows, columns) = picture.image.shape[:2], geometry.resized
    scale = np.array([columns / width, rows / height] * 2) / geometry.patch
    boxes = (picture.boxes * scale).astype(np.float32)
    cells = (PIXELS_PER_PATCH * geometry.grid[0], PIXELS_PER_PATCH * geometry.grid[1])
    masks = np.zeros((len(boxes), *cells), np.bool_)
    for mask, large in zip(masks, picture.masks, strict=True):
        mask[:] = shrink_mask(large, geometry)
    owner = assign_patches(boxes, masks, picture.box_only)
    return ObjectTargets(owner, boxes, masks, picture.box_only, picture.categories, np.zeros((0, 2), np.int64))


def shrink_mask(mask: npt.NDArray[np.bool_], geometry: Geometry) -> npt.NDArray[np.bool_]:
    """Bring a mask [H, W] to the grid of the detector's masks, bool [2h, 2w].

    It holds the cells that the mask covers by half, or where there is none those that it covers most.
    """
    rows, columns = geometry.resized
    padded = np.zeros(geometry.padded, np.float32)
    padded[:rows, :columns] = cv2.resize(mask.astype(np.float32), (columns, rows), interpolation=cv2.INTER_AREA)
    height, width = (PIXELS_PER_PATCH * side for side in geometry.grid)
    covered = cv2.resize(padded, (width, height), interpolation=cv2.INTER_AREA)
    most = float(covered.max())
    return np.asarray(covered >= min(0.5, most), np.bool_) if most > 0 else np.zeros((height, width), np.bool_)


def identify_labels(labels: Labels) -> str:
    """Return a hash of what is to be learned: the images by name and size, and their objects."""
    digest = hashlib.sha256(repr(labels.classes).encode())
    for image in labels.images:
        digest.update(repr((image.name, image.size, image.rles)).encode())
        digest.update(image.boxes.tobytes() + image.categories.tobytes())
    return digest.hexdigest()
