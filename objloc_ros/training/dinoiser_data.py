"""What CLIP-DINOiser's training sees: settings, pictures in a reproducible order, and their augmentation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from objloc_ros.errors import InputError, ParameterError
from objloc_ros.io.media import read_image
from objloc_ros.options import Options, option
from objloc_ros.scenes.attributes import KEPT_OUT, AttributeBank, attribute_scene
from objloc_ros.scenes.compose import Bank, Camera, render
from objloc_ros.scenes.textures import Array
from objloc_ros.training.found_data import Item
from objloc_ros.training.views import SceneImages
from objloc_ros.types import Image, Size, check_image, size_of

CAMERA = Camera(strength=0.6, grey=0.0)
"""That of the scenes on which the embedded CLIP is trained."""


@dataclass(frozen=True)
class DinoiserTraining(Options):
    """Settings of a run, by default the paper's; equal settings, teachers and pictures give equal heads."""

    steps: int = option(
        6300, "Optimiser updates; the rates fall to a tenth after the same part of them as in the paper.", low=1
    )
    batch: int = option(16, "Pictures per update.", low=1)
    seed: int = option(0, "Seed of the head, the order of pictures and the augmentations.")
    size: int = option(448, "Side of the training crops in pixels, a multiple of the teachers' patches.", low=1)
    gamma: float = option(0.2, "Cosine of DINO's values from which two patches belong together.", low=0, high=1)
    projection_rate: float = option(
        5e-5, "Learning rate of the convolution behind the correlations.", low=0, exclusive=True
    )
    background_rate: float = option(
        1e-2, "Learning rate of the convolution that tells objects from the background.", low=0, exclusive=True
    )
    brightness: float = option(
        0.5, "The crop's brightness changes by a factor in [1 - brightness, 1 + brightness].", low=0, high=1
    )
    bfloat16: bool = option(False, "Run the frozen networks in bfloat16: faster on GPUs and recent CPUs.")

    def decay(self, step: int) -> float:
        """Return the factor of both rates at a step, counted from 0: 1, and 0.1 from 5000 of 6300 steps on."""
        return 1.0 if step < self.steps * 5000 // 6300 else 0.1


TINY = DinoiserTraining(steps=1500, size=192, projection_rate=1e-3)
"""The run behind the embedded head: a quarter of the steps, smaller crops and a rate that makes up for it."""


class Pictures(Protocol):
    """Pictures by index, such as a list of files or `SceneImages`."""

    def __len__(self) -> int:
        """Return the number of pictures."""

    def __getitem__(self, index: int, /) -> Item:
        """A picture; an index gives the same one every time, from any thread."""


class MixedScenes:
    """Procedural scenes, half of them of any objects and half of those that words describe: RGB uint8 [H, W, 3].

    Args:
        bank: Pictures to compose the former from.
        attributes: Pictures to compose the latter from, without the pairs kept out of all training.
        seed: Seed of the scenes.
        count: Number of scenes.
        size: Height and width in pixels.
    """

    def __init__(
        self, bank: Bank, attributes: AttributeBank, *, seed: int, count: int, size: Size = (240, 320)
    ) -> None:
        self._any = SceneImages(bank, seed=seed, count=count, size=size)
        self._attributes, self._seed, self._size = attributes, seed, size

    def __len__(self) -> int:
        return len(self._any)

    def __getitem__(self, index: int, /) -> Image:
        """The scene of an index; the same one every time."""
        if index % 2 == 0 or index >= len(self):
            return self._any[index]
        rng = np.random.default_rng([self._seed, index])
        aspect = self._size[1] / self._size[0]
        scene = attribute_scene(rng, self._attributes, aspect=aspect, kept_out=KEPT_OUT)
        return np.ascontiguousarray(render(rng, self._attributes, scene, self._size, camera=CAMERA)[0])


def draw_subset(files: Sequence[Path], count: int, seed: int) -> list[Path]:
    """Draw a subset as the paper does, with replacement, so that a file may occur twice.

    Raises:
        ParameterError: If the count is not positive.
    """
    if count < 1:
        raise ParameterError(f"subset must be at least 1, got {count}")
    return [files[int(i)] for i in np.random.default_rng(seed).integers(len(files), size=count)]


def sample_indices(total: int, step: int, settings: DinoiserTraining) -> list[int]:
    """Return the indices of a step's pictures: epochs are shuffled anew, and the last batch of an epoch may be smaller.

    Raises:
        InputError: If there are no pictures.
    """
    if total < 1:
        raise InputError("training needs at least one picture, got none")
    epoch, position = divmod(step, -(-total // settings.batch))
    order = np.random.default_rng((settings.seed, epoch)).permutation(total)
    return order[position * settings.batch : (position + 1) * settings.batch].tolist()


def pixel_batches(images: Pictures, settings: DinoiserTraining, *, start: int, pool: Executor) -> Iterator[Tensor]:
    """Yield the crops of the steps from `start` on, float32 [b, 3, S, S] in [0, 1]; the pool works one batch ahead."""
    waiting: list[Future[Array]] = []
    for step in range(start, settings.steps):
        chosen = sample_indices(len(images), step, settings)
        ahead = [pool.submit(_crop, images, i, settings, (settings.seed, step, n)) for n, i in enumerate(chosen)]
        if waiting:
            yield _stack(waiting)
        waiting = ahead
    if waiting:
        yield _stack(waiting)


def augment(item: Item, *, size: int, brightness: float, key: Sequence[int]) -> Array:
    """Crop, mirror and relight a training picture.

    The shorter side becomes `size` (bilinear, without antialiasing, as in the original), then a square is cut out
    anywhere, mirrored half of the time, and its brightness changed.

    Args:
        item: RGB uint8 [H, W, 3], or a picture file.
        size: Side S of the result in pixels.
        brightness: Largest relative change of brightness, in [0, 1].
        key: Seeds the draws; equal keys give equal results.

    Returns:
        float32 [3, S, S] in [0, 1].

    Raises:
        InputError: If the picture cannot be used.
    """
    rng = np.random.default_rng(key)
    image = read_image(item) if isinstance(item, Path) else item
    check_image(image)
    shorter = min(size_of(image))
    height, width = (side * size // shorter for side in size_of(image))
    resized = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    y, x = rng.integers(height - size + 1), rng.integers(width - size + 1)
    square = resized[y : y + size, x : x + size]
    if rng.random() < 0.5:
        square = square[:, ::-1]
    gain = rng.uniform(1 - brightness, 1 + brightness) / 255
    return np.ascontiguousarray(np.minimum(square.transpose(2, 0, 1) * np.float32(gain), 1.0))


def _crop(images: Pictures, index: int, settings: DinoiserTraining, key: Sequence[int]) -> Array:
    return augment(images[index], size=settings.size, brightness=settings.brightness, key=key)


def _stack(crops: Sequence[Future[Array]]) -> Tensor:
    return torch.from_numpy(np.stack([crop.result() for crop in crops]))
