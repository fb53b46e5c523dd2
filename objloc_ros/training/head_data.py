"""Batches for the training of FOUND's head: images in a reproducible order, augmented, seen by the frozen backbone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from objloc_ros.backbones.vit import ViT
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.methods.found import background_mask
from objloc_ros.training.pseudo_labels import augmented
from objloc_ros.types import Grid, Image

Item = Image | Path
"""A training image: RGB pixels uint8 [H, W, 3], or the picture file to read them from."""


@dataclass(frozen=True)
class HeadTraining:
    """Settings of a run, checked on construction; equal settings and images give equal heads.

    Args:
        steps: Optimiser updates.
        batch: Images per update.
        seed: Seed of the head, the order of images and the augmentations.
        size: Side of the training images in pixels, a multiple of the backbone's patch.
        threshold: Cosine above which a patch is ground in the discovered labels.
        bfloat16: Run the backbone in bfloat16: half the time on recent CPUs, keys accurate to about 1 %.
    """

    steps: int = 501
    batch: int = 50
    seed: int = 0
    size: int = 224
    threshold: float = 0.3
    bfloat16: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "size"):
            if getattr(self, name) < 1:
                raise ParameterError(f"{name} must be at least 1, got {getattr(self, name)}")


@dataclass(frozen=True)
class Batch:
    """Augmented images with what the frozen backbone says about them.

    Args:
        images: RGB uint8 [S, S, 3] each.
        keys: float32 [B, N, C].
        foreground: bool [B, h, w], the complement of the discovered ground.
        grid: Patch rows and columns (h, w).
    """

    images: list[Image]
    keys: Tensor
    foreground: Tensor
    grid: Grid


def prepared_batches(
    backbone: ViT, images: Iterable[Item], settings: HeadTraining, *, start: int, pool: Executor
) -> Iterator[Batch]:
    """Yield the batches of the steps from `start` on; the pool augments one batch ahead."""
    waiting: list[Future[Image]] = []
    for step, items in enumerate(islice(item_batches(images, settings), start, settings.steps), start):
        ahead = [pool.submit(augmented, item, settings.size, (settings.seed, step, i)) for i, item in enumerate(items)]
        if waiting:
            yield _observed(backbone, waiting, settings)
        waiting = ahead
    if waiting:
        yield _observed(backbone, waiting, settings)


def item_batches(images: Iterable[Item], settings: HeadTraining) -> Iterator[list[Item]]:
    """Yield batches without end: freshly shuffled epochs of a sequence, or an iterable again and again.

    As in the original, the last batch of an epoch may be smaller.

    Raises:
        InputError: If an epoch is empty, as when an iterator cannot be started anew.
    """
    epoch = 0
    while True:
        source = _epoch(images, (settings.seed, epoch))
        batch = list(islice(source, settings.batch))
        if not batch:
            raise InputError(f"the training images ran out in epoch {epoch}")
        while batch:
            yield batch
            batch = list(islice(source, settings.batch))
        epoch += 1


def _epoch(images: Iterable[Item], key: tuple[int, int]) -> Iterator[Item]:
    if not (hasattr(images, "__getitem__") and hasattr(images, "__len__")):
        return iter(images)
    sequence = cast(Sequence[Item], images)
    order = np.random.default_rng(key).permutation(len(sequence))
    return (sequence[int(i)] for i in order)


@torch.no_grad()
def _observed(backbone: ViT, augmented_images: Sequence[Future[Image]], settings: HeadTraining) -> Batch:
    """Run the frozen backbone on augmented images: keys, and the complement of the discovered ground."""
    images = [future.result() for future in augmented_images]
    device = next(backbone.parameters()).device
    pixels = torch.from_numpy(np.stack(images)).to(device).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (backbone.mean, backbone.std))
    with torch.autocast(device.type, torch.bfloat16, enabled=settings.bfloat16):
        features = backbone((pixels - mean) / std)
    ground = background_mask(
        features.keys, features.cls_attention, features.grid, n_heads=backbone.n_heads, threshold=settings.threshold
    )
    return Batch(images, features.keys, ~ground, features.grid)
