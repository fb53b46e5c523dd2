"""Pairs of views of procedural scenes, and what their compositing says about each token.

Every batch depends only on the seed and the step, so a resumed training sees what an uninterrupted one would have.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar, overload

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from objloc_ros.scenes.compose import Bank, Scene, Window, move_objects, random_background, random_scene, render
from objloc_ros.scenes.textures import Array
from objloc_ros.types import Image, Size

T = TypeVar("T", covariant=True)

SIZES = (0.3, 1.2)
"""Objects up to larger than the picture: photographs show them from close by, and a head learns how much to expect."""

VIEW_SIZES = (0.2, 1.1)
"""The same of the pairs of views, which also show parts of scenes."""

LOW_RESOLUTION, JPEG = 0.3, 0.5
"""Parts of the views that are degraded so."""

UNCLEAR = 255
"""Label of a token that straddles an object's edge."""


@dataclass(frozen=True)
class ViewPair:
    """Two views of each of B scenes: objects moved, background often exchanged.

    Args:
        images: uint8 [2, B, H, W, 3] RGB.
        labels: uint8 [2, B, N] per token: 0 background, i the i-th cut-out, 255 unclear.
        swapped: bool [B], whether the second view has another background.
    """

    images: Tensor
    labels: Tensor
    swapped: Tensor


def label_tokens(identities: Image, patch: int) -> npt.NDArray[np.uint8]:
    """Return which layer each token shows.

    A token is background when over 90 % of its pixels are, the i-th object when over 60 % are, else unclear.

    Args:
        identities: uint8 [H, W], 0 for the background.
        patch: Token side in pixels.
    """
    rows, columns = identities.shape[0] // patch, identities.shape[1] // patch
    tokens = identities.reshape(rows, patch, columns, patch).swapaxes(1, 2).reshape(rows * columns, patch * patch)
    labels = np.full(len(tokens), UNCLEAR, np.uint8)
    labels[(tokens == 0).mean(1) > 0.9] = 0
    for i in range(1, int(identities.max()) + 1):
        labels[(tokens == i).mean(1) > 0.6] = i
    return labels


def random_window(rng: np.random.Generator, scene: Scene, heights: tuple[float, float]) -> Window:
    """Return a square part of the canvas, two times in three around an object."""
    height = rng.uniform(*heights)
    x, y = rng.uniform(0, 1 - height, 2)
    if scene.objects and rng.random() < 0.67:
        target = scene.objects[int(rng.integers(len(scene.objects)))]
        around = np.array([target.x, target.y]) + rng.normal(0, 0.15, 2) - height / 2
        x, y = np.clip(around, 0, 1 - height)
    return Window(float(x), float(y), float(height))


class Stream(IterableDataset[T], abc.ABC):
    """An endless stream of batches, each of which depends only on its step.

    Args:
        start: First step.
    """

    def __init__(self, start: int) -> None:
        self.start = start

    @abc.abstractmethod
    def batch(self, step: int) -> T:
        """Return the batch of one step."""

    def __iter__(self) -> Iterator[T]:
        """Batches in order; with several loader workers, each makes every n-th step."""
        worker = torch.utils.data.get_worker_info()
        first, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        step = self.start + first
        while True:
            yield self.batch(step)
            step += stride


class ViewPairs(Stream[ViewPair]):
    """An endless stream of `ViewPair` batches from step `start` on.

    Args:
        bank: Pictures to compose.
        seed: Seed of the stream.
        start: First step.
        schedule: Maps a step to (image side in pixels, scenes per batch).
        patch: Token side in pixels.
        swap: Probability that the second view has another background.
        procedural_steps: First steps, whose scenes have nothing of the bank's material.
    """

    def __init__(
        self,
        bank: Bank,
        *,
        seed: int,
        start: int,
        schedule: Schedule,
        patch: int = 8,
        swap: float = 0.6,
        procedural_steps: int = 0,
    ) -> None:
        super().__init__(start)
        self.bank, self.seed, self.schedule = bank, seed, schedule
        self.patch, self.swap = patch, swap
        self.plain_bank, self.procedural_steps = bank.without_material(), procedural_steps

    def batch(self, step: int) -> ViewPair:
        """Return the batch of one step."""
        rng = np.random.default_rng([self.seed, step])
        side, scenes = self.schedule.batch_shape(step)
        bank = self.plain_bank if step < self.procedural_steps else self.bank
        pairs = [self._pair(rng, bank, side) for _ in range(scenes)]
        images = np.stack([[pair[0][view] for pair in pairs] for view in (0, 1)])
        labels = np.stack([[pair[1][view] for pair in pairs] for view in (0, 1)])
        swapped = np.array([pair[2] for pair in pairs])
        return ViewPair(torch.from_numpy(images), torch.from_numpy(labels), torch.from_numpy(swapped))

    def _pair(
        self, rng: np.random.Generator, bank: Bank, side: int
    ) -> tuple[list[Image], list[npt.NDArray[np.uint8]], bool]:
        first = random_scene(rng, bank, sizes=VIEW_SIZES)
        second = move_objects(rng, first)
        swapped = bool(rng.random() < self.swap)
        if swapped:
            second = replace(second, background=random_background(rng, bank, photographed=first.photographed))
        images, labels = [], []
        for scene in (first, second):
            window = random_window(rng, scene, (0.4, 1.0))
            image, identities = render(rng, bank, scene, (side, side), window=window, mirrored=rng.random() < 0.5)
            images.append(degrade(rng, np.ascontiguousarray(image)))
            labels.append(label_tokens(identities, self.patch))
        return images, labels, swapped


def degrade(rng: np.random.Generator, image: Image) -> Image:
    """Return a picture as a poor camera would: at times of lower resolution, at times after JPEG.

    Both spread over the seams of pasted things, so that these are no sign of an object.

    Args:
        rng: Source of randomness.
        image: RGB uint8 [H, W, 3].
    """
    height, width = image.shape[:2]
    if rng.random() < LOW_RESOLUTION:
        scale = rng.uniform(0.5, 0.9)
        small = cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
        image = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR).astype(np.uint8)
    if rng.random() < JPEG:
        _, data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 95))])
        decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
        image = np.ascontiguousarray(decoded[..., ::-1])
    return image


@dataclass(frozen=True)
class Schedule:
    """Constant learning rate, then a linear cool-down on larger images.

    The first part does not depend on `steps`: a run can be resumed with more steps before its cool-down began.

    Args:
        steps: Optimiser steps in all.
        cooldown: Fraction of them at the end.
        side: Image side in pixels of the first part; the cool-down uses `final_side`.
        scenes: Scenes (pairs of views) per step of the first part.
    """

    steps: int
    cooldown: float = 0.25
    side: int = 128
    scenes: int = 12
    final_side: int = 192
    final_scenes: int = 6
    warmup: int = 50

    @property
    def cooldown_start(self) -> int:
        """First step of the cool-down."""
        return round(self.steps * (1 - self.cooldown))

    def batch_shape(self, step: int) -> tuple[int, int]:
        """Image side and scenes per batch at a step."""
        if step < self.cooldown_start:
            return self.side, self.scenes
        return self.final_side, self.final_scenes

    def rate(self, step: int) -> float:
        """Return the learning rate at a step, relative to its peak."""
        if step < self.cooldown_start:
            return min(1.0, (step + 1) / self.warmup)
        return (self.steps - step) / (self.steps - self.cooldown_start)


class SceneImages(Sequence[Image]):
    """`count` scenes, each composed anew from its index whenever it is asked for: RGB uint8 [H, W, 3].

    Args:
        bank: Pictures to compose from.
        seed: Seed of the scenes.
        count: Number of scenes.
        size: Height and width in pixels.
        sizes: Range of object sizes as a fraction of the height.
    """

    def __init__(
        self,
        bank: Bank,
        *,
        seed: int,
        count: int,
        size: Size = (240, 320),
        sizes: tuple[float, float] = SIZES,
    ) -> None:
        self._bank, self._seed, self._count, self._size, self._sizes = bank, seed, count, size, sizes

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Image: ...

    @overload
    def __getitem__(self, index: slice) -> list[Image]: ...

    def __getitem__(self, index: int | slice) -> Image | list[Image]:
        """The scene of an index; the same one every time."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        return self.render(index)[0]

    def render(self, index: int) -> tuple[Image, Image]:
        """Render the scene of an index.

        Returns:
            The picture, RGB uint8 [H, W, 3], and the object that each pixel shows, uint8 [H, W], 0 for the background.

        Raises:
            IndexError: If there is no such scene.
        """
        if not -self._count <= index < self._count:
            raise IndexError(f"scene {index} of {self._count}")
        rng = np.random.default_rng([self._seed, index % self._count])
        scene = random_scene(rng, self._bank, aspect=self._size[1] / self._size[0], sizes=self._sizes)
        image, identities = render(rng, self._bank, scene, self._size, mirrored=rng.random() < 0.5)
        return np.ascontiguousarray(image), identities


def load_surface_photographs() -> list[Array]:
    """Brick, grass and gravel as scikit-image ships them: float32 [512, 512] in [0, 1], grey.

    Raises:
        ModuleNotFoundError: If scikit-image is not installed.
    """
    from skimage import data

    return [surface().astype(np.float32) / 255 for surface in (data.brick, data.grass, data.gravel)]
