"""The part of FOUND's training that runs in worker processes: augmented images, and masks refined along their edges.

Nothing here needs torch, so a worker starts fast and stays small.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import torch
from PIL import Image as Pillow
from torch import Tensor

from objloc_ros.backbones.vit import ViT
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.methods.found_network import background_mask
from objloc_ros.ops.bilateral import BilateralGrid, accepts, binary
from objloc_ros.ops.regions import BoolMap
from objloc_ros.options import Options, option
from objloc_ros.types import Grid, Image, check_image

SCALES = (0.1, 3.0)
BLUR_PROBABILITY = 0.5
BLUR_KERNEL = 23
BLUR_SIGMAS = (0.1, 2.0)
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp"}


def list_image_files(folder: Path) -> list[Path]:
    """List the pictures under a folder, DUTS-TR's for one, in an order that does not depend on the file system.

    Raises:
        ParameterError: If the folder holds none.
    """
    files = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise ParameterError(f"folder {folder} holds no pictures ({', '.join(sorted(SUFFIXES))})")
    return files


def augment(item: Image | Path, size: int, key: Sequence[int]) -> Image:
    """Read one training image and augment it as the paper does: random detail by rescaling, and blur.

    The shorter side becomes `size`, then the image is rescaled by a factor in [0.1, 3] and squeezed to size x size
    whatever its aspect; with probability 0.5 it is blurred.

    Args:
        item: RGB uint8 [H, W, 3], or a picture file.
        size: Side of the result in pixels.
        key: Seeds the draws; equal keys give equal results in every process.

    Returns:
        RGB uint8 [size, size, 3].
    """
    rng = np.random.default_rng(key)
    picture = Pillow.fromarray(_read(item))
    shorter = min(picture.size)
    scale = rng.uniform(*SCALES)
    for factor in (size / shorter, scale):
        sides = [max(1, int(side * factor)) for side in picture.size]
        picture = picture.resize((sides[0], sides[1]), Pillow.Resampling.BILINEAR)
    pixels = np.asarray(picture.resize((size, size), Pillow.Resampling.BILINEAR))
    if rng.random() < BLUR_PROBABILITY:
        sigma = rng.uniform(*BLUR_SIGMAS)
        pixels = cv2.GaussianBlur(pixels, (BLUR_KERNEL, BLUR_KERNEL), sigma, borderType=cv2.BORDER_REFLECT_101)
    return np.ascontiguousarray(pixels, dtype=np.uint8)


def refine_patches(image: Image, masks: Sequence[BoolMap]) -> list[tuple[BoolMap, bool]]:
    """Refine patch masks of one image with the bilateral solver.

    Args:
        image: RGB uint8 [S, S, 3].
        masks: bool [h, w] each, S a multiple of h = w.

    Returns:
        Per mask: the refined one, bool [h, w], and True; or the mask itself and False, where the refined one overlaps
        it by an IoU of 0.5 or less.
    """
    grid = BilateralGrid(image)
    return [_refine(grid, mask) for mask in masks]


def sample_centres(mask: BoolMap, patch: int) -> BoolMap:
    """Sample a mask [h * patch, w * patch] per patch: True where any of the (up to four) centre pixels is.

    This is bilinear interpolation without antialiasing followed by a test for non-zero, as in the original.
    """
    low, high = (patch - 1) // 2, patch // 2
    rows = mask[low::patch] | mask[high::patch]
    sampled: BoolMap = rows[:, low::patch] | rows[:, high::patch]
    return sampled


def start_worker() -> None:
    """Keep a worker to one thread: there are as many workers as there are cores to use."""
    cv2.setNumThreads(1)


def _refine(grid: BilateralGrid, mask: BoolMap) -> tuple[BoolMap, bool]:
    height, width = grid.shape
    target = cv2.resize(mask.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    candidate = binary(grid.solve(target), keep="all")
    if not accepts(target > 0.5, candidate):
        return mask, False
    return sample_centres(candidate, height // len(mask)), True


def _read(item: Image | Path) -> Image:
    if not isinstance(item, Path):
        check_image(item)
        return item
    pixels = cv2.imread(str(item), cv2.IMREAD_COLOR)
    if pixels is None:
        raise InputError(f"{item} is not a readable picture")
    return np.ascontiguousarray(pixels[..., ::-1], dtype=np.uint8)


Item = Image | Path
"""A training image: RGB pixels uint8 [H, W, 3], or the picture file to read them from."""


@dataclass(frozen=True)
class HeadTraining(Options):
    """Settings of a run; equal settings and images give equal heads."""

    steps: int = option(501, "Optimiser updates.", low=1)
    batch: int = option(50, "Images per update.", low=1)
    seed: int = option(0, "Seed of the head, the order of images and the augmentations.")
    size: int = option(224, "Side of the training images in pixels, a multiple of the backbone's patch.", low=1)
    threshold: float = option(0.3, "Cosine above which a patch is background in the discovered labels.")
    bfloat16: bool = option(
        False, "Run the frozen backbone in bfloat16: half the time on recent CPUs, keys accurate to about 1 %."
    )


@dataclass(frozen=True)
class Batch:
    """Augmented images with what the frozen backbone says about them.

    Args:
        images: RGB uint8 [S, S, 3] each.
        keys: float32 [B, N, C].
        foreground: bool [B, h, w], the complement of the discovered background.
        grid: Patch rows and columns (h, w).
    """

    images: list[Image]
    keys: Tensor
    foreground: Tensor
    grid: Grid


def iterate_batches(
    backbone: ViT, images: Iterable[Item], settings: HeadTraining, *, start: int, pool: Executor
) -> Iterator[Batch]:
    """Yield the batches of the steps from `start` on; the pool augments one batch ahead."""
    waiting: list[Future[Image]] = []
    for step, items in enumerate(islice(iterate_items(images, settings), start, settings.steps), start):
        ahead = [pool.submit(augment, item, settings.size, (settings.seed, step, i)) for i, item in enumerate(items)]
        if waiting:
            yield _observe(backbone, waiting, settings)
        waiting = ahead
    if waiting:
        yield _observe(backbone, waiting, settings)


def iterate_items(images: Iterable[Item], settings: HeadTraining) -> Iterator[list[Item]]:
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
def _observe(backbone: ViT, augmented_images: Sequence[Future[Image]], settings: HeadTraining) -> Batch:
    """Run the frozen backbone on augmented images: keys, and the complement of the discovered background."""
    images = [future.result() for future in augmented_images]
    device = next(backbone.parameters()).device
    pixels = torch.from_numpy(np.stack(images)).to(device).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (backbone.mean, backbone.std))
    with torch.autocast(device.type, torch.bfloat16, enabled=settings.bfloat16):
        features = backbone((pixels - mean) / std)
    background = background_mask(
        features.keys, features.cls_attention, features.grid, n_heads=backbone.n_heads, threshold=settings.threshold
    )
    return Batch(images, features.keys, ~background, features.grid)
