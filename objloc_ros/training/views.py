"""Pairs of views of procedural scenes, and what their compositing says about each token.

Every batch depends only on the seed and the step, so a resumed training sees what an uninterrupted one would have.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from objloc_ros.scenes.compose import Bank, Scene, Window, moved, random_ground, random_scene, render
from objloc_ros.types import Image

T = TypeVar("T", covariant=True)

UNCLEAR = 255
"""Label of a token that straddles an object's edge."""


@dataclass(frozen=True)
class ViewPair:
    """Two views of each of B scenes: objects moved, background often exchanged.

    Args:
        images: uint8 [2, B, H, W, 3] RGB.
        labels: uint8 [2, B, N] per token: 0 ground, i the i-th cut-out, 255 unclear.
        swapped: bool [B], whether the second view has another background.
    """

    images: Tensor
    labels: Tensor
    swapped: Tensor


def token_labels(identities: Image, patch: int) -> npt.NDArray[np.uint8]:
    """Which layer each token shows.

    A token is ground when over 90 % of its pixels are, the i-th object when over 60 % are, else unclear.

    Args:
        identities: uint8 [H, W], 0 for the ground.
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
    """A square part of the canvas, two times in three around an object."""
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
        """The batch of one step."""

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
    """

    def __init__(
        self, bank: Bank, *, seed: int, start: int, schedule: Schedule, patch: int = 8, swap: float = 0.6
    ) -> None:
        super().__init__(start)
        self.bank, self.seed, self.schedule = bank, seed, schedule
        self.patch, self.swap = patch, swap

    def batch(self, step: int) -> ViewPair:
        """The batch of one step."""
        rng = np.random.default_rng([self.seed, step])
        side, scenes = self.schedule.batch_shape(step)
        pairs = [self._pair(rng, side) for _ in range(scenes)]
        images = np.stack([[pair[0][view] for pair in pairs] for view in (0, 1)])
        labels = np.stack([[pair[1][view] for pair in pairs] for view in (0, 1)])
        swapped = np.array([pair[2] for pair in pairs])
        return ViewPair(torch.from_numpy(images), torch.from_numpy(labels), torch.from_numpy(swapped))

    def _pair(self, rng: np.random.Generator, side: int) -> tuple[list[Image], list[npt.NDArray[np.uint8]], bool]:
        first = random_scene(rng, self.bank)
        second = moved(rng, first)
        swapped = bool(rng.random() < self.swap)
        if swapped:
            second = replace(second, ground=random_ground(rng, self.bank))
        images, labels = [], []
        for scene in (first, second):
            window = random_window(rng, scene, (0.4, 1.0))
            image, identities = render(rng, self.bank, scene, (side, side), window=window, mirrored=rng.random() < 0.5)
            images.append(image)
            labels.append(token_labels(identities, self.patch))
        return images, labels, swapped


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
    cooldown: float = 0.2
    side: int = 96
    scenes: int = 32
    final_side: int = 160
    final_scenes: int = 16
    warmup: int = 100

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
        """Learning rate at a step, relative to its peak."""
        if step < self.cooldown_start:
            return min(1.0, (step + 1) / self.warmup)
        return (self.steps - step) / (self.steps - self.cooldown_start)
