"""What SelfMask's training looks at: settings, the order of images, and images augmented together with their masks.

Every draw is keyed by the seed, the step and the place in the batch, so that nothing depends on the number of workers,
and a resumed run sees what an uninterrupted one would have.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torchvision.transforms.v2 import functional as colours

from objloc_ros.errors import InputError
from objloc_ros.io.media import read_image
from objloc_ros.methods.selfmask import LAYERS, QUERIES
from objloc_ros.ops.regions import BoolMap
from objloc_ros.options import Options, option
from objloc_ros.training.detector_labels import ImageLabels, Labels
from objloc_ros.training.found_data import BLUR_KERNEL, BLUR_PROBABILITY, BLUR_SIGMAS
from objloc_ros.types import Image, size_of

SCALES = (0.1, 1.0)
"""Range of the factor by which both sides of an image are reduced."""

JITTER_PROBABILITY = 0.8
JITTER = (0.8, 0.8, 0.8, 0.2)
"""Greatest change of brightness, contrast, saturation (as factors) and hue (as a part of the colour circle)."""

GREY_PROBABILITY = 0.2

Example = tuple[Image, BoolMap]
"""RGB uint8 [S, S, 3] and the pixels of the salient object, bool [S, S], which may be none."""


@dataclass(frozen=True)
class SelfMaskTraining(Options):
    """Settings of a run; equal settings, labels and encoders give equal networks."""

    steps: int = option(15_830, "Optimiser updates; 15 830 are 12 epochs of DUTS-TR.", low=1)
    batch: int = option(8, "Images per update.", low=1)
    rate: float = option(
        6e-6, "Learning rate at first; it falls to 0 as (1 - step / steps)^0.9.", low=0, exclusive=True
    )
    seed: int = option(0, "Seed of the weights, the order of images and their augmentations.", low=0)
    size: int = option(224, "Side of the training images in pixels.", low=8, high=4096)
    queries: int = option(QUERIES, "Masks that the network proposes.", low=1, high=1000)
    layers: int = option(LAYERS, "Layers of its decoder.", low=1, high=100)
    freeze: bool = option(False, "Keep the encoder as it is; the paper trains it, too.")

    def learning_rate(self, step: int) -> float:
        """Return the learning rate at a step, counted from 0."""
        return decay_rate(self.rate, step, self.steps)


TINY = SelfMaskTraining(steps=300, rate=1e-3, size=192, queries=5, layers=2, freeze=True)
"""Settings for the embedded backbone: minutes on a processor."""


def decay_rate(base: float, step: int, steps: int) -> float:
    """Return base * (1 - step / steps)^0.9, the original's decay.

    The original counts the steps of each epoch anew, so that its rate hardly falls; here they are counted over all.
    """
    return float(base * (1 - step / steps) ** 0.9)


def iterate_batches(
    labels: Labels, settings: SelfMaskTraining, *, start: int, pool: Executor
) -> Iterator[list[Example]]:
    """Yield the batches from a step on, freshly shuffled for each epoch; the pool prepares one batch ahead.

    Raises:
        InputError: An image cannot be read or is not of the size of its labels.
    """
    ahead = _submit(labels.images, settings, start, pool)
    for step in itertools.count(start + 1):
        batch = [future.result() for future in ahead]
        ahead = _submit(labels.images, settings, step, pool)
        yield batch


def _submit(
    images: Sequence[ImageLabels], settings: SelfMaskTraining, step: int, pool: Executor
) -> list[Future[Example]]:
    if step >= settings.steps:
        return []
    places = range(step * settings.batch, (step + 1) * settings.batch)
    return [
        pool.submit(
            _prepare, images[_find_item(place, len(images), settings.seed)], settings.size, (settings.seed, 1, place)
        )
        for place in places
    ]


def _find_item(place: int, total: int, seed: int) -> int:
    """Return which image stands at a place of the endless sequence of epochs."""
    epoch, within = divmod(place, total)
    return int(_shuffle(total, seed, epoch)[within])


@lru_cache(maxsize=4)
def _shuffle(total: int, seed: int, epoch: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng([seed, 0, epoch]).permutation(total)


def _prepare(labels: ImageLabels, size: int, key: Sequence[int]) -> Example:
    image = read_image(labels.file)
    if size_of(image) != labels.size:
        height, width = labels.size
        raise InputError(
            f"{labels.file} has {image.shape[1]}x{image.shape[0]} pixels, its labels are for {width}x{height}"
        )
    union: BoolMap = np.any(labels.masks, axis=0)
    return augment(image, union, size, key)


def augment(image: Image, mask: BoolMap, size: int, key: Sequence[int]) -> Example:
    """Augment an image and its mask as the paper does: squeezed to a square, reduced, mirrored, other colours, blurred.

    The reduced image lies anywhere on a canvas of its mean colour; in the original it is always in the upper left.

    Args:
        image: RGB uint8 [H, W, 3].
        mask: bool [H, W].
        size: Side S of the result in pixels.
        key: Seeds the draws; equal keys give equal results in every process.
    """
    rng = np.random.default_rng(key)
    side = max(1, int(size * rng.uniform(*SCALES)))
    top, left = rng.integers(0, size - side + 1, 2)
    place = slice(top, top + side), slice(left, left + side)
    reduced = _reduce(image, size, side, cv2.INTER_AREA)
    canvas: Image = np.empty((size, size, 3), np.uint8)
    canvas[:] = reduced.mean((0, 1)).astype(np.uint8)
    canvas[place] = reduced
    where: BoolMap = np.zeros((size, size), np.bool_)
    where[place] = _reduce(mask.astype(np.uint8), size, side, cv2.INTER_NEAREST) > 0
    if rng.random() < 0.5:
        canvas, where = np.fliplr(canvas), np.fliplr(where)
    canvas = change_colours(canvas, rng)
    if rng.random() < BLUR_PROBABILITY:
        sigma = rng.uniform(*BLUR_SIGMAS)
        blurred = cv2.GaussianBlur(canvas, (BLUR_KERNEL, BLUR_KERNEL), sigma, borderType=cv2.BORDER_REFLECT_101)
        canvas = np.asarray(blurred, np.uint8)
    return canvas, np.ascontiguousarray(where)


def _reduce(picture: npt.NDArray[np.uint8], size: int, side: int, interpolation: int) -> npt.NDArray[np.uint8]:
    """Squeeze a picture to a square of `size` first, as the original does, then to one of `side`."""
    square = cv2.resize(picture, (size, size), interpolation=interpolation)
    return np.asarray(cv2.resize(square, (side, side), interpolation=interpolation), np.uint8)


def change_colours(image: Image, rng: np.random.Generator) -> Image:
    """Change brightness, contrast, saturation and hue in random order, or nothing; and take all colour away, or not."""
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)  # 3 H W
    if rng.random() < JITTER_PROBABILITY:
        brightness, contrast, saturation = (float(rng.uniform(1 - most, 1 + most)) for most in JITTER[:3])
        hue = float(rng.uniform(-JITTER[3], JITTER[3]))
        changes = (
            (colours.adjust_brightness, brightness),
            (colours.adjust_contrast, contrast),
            (colours.adjust_saturation, saturation),
            (colours.adjust_hue, hue),
        )
        for i in rng.permutation(len(changes)):
            change, amount = changes[i]
            pixels = change(pixels, amount)
    if rng.random() < GREY_PROBABILITY:
        pixels = colours.rgb_to_grayscale(pixels, num_output_channels=3)
    changed: Image = pixels.permute(1, 2, 0).numpy()
    return changed
