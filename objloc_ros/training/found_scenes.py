"""FOUND's head from composed scenes: which patches an object covers is known, because the program has pasted it.

The paper's recipe (`objloc_ros.training.found_head`) learns from discovered backgrounds and from the head's own
decisions, which mark the parts of an object that stand out most. Here the head, the same 1x1 convolution, learns whole
objects: every patch that a cut-out covers, its holes filled, in views of three sizes, with objects up to larger than
the picture. Each patch counts for itself, and so does the overlap of mask and objects in each view. The complement of
the discovered background stays as a third label: without it the head marks less of the objects in photographs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from objloc_ros.backbones.vit import ViT
from objloc_ros.errors import ParameterError
from objloc_ros.methods.found_network import background_mask, head_logits
from objloc_ros.ops.regions import BoolMap, fill_holes
from objloc_ros.options import Options, option
from objloc_ros.scenes.compose import Bank
from objloc_ros.training.views import SceneImages
from objloc_ros.types import Grid, Image

SHORT_SIDES = (128, 192, 256)
"""Shorter sides of the views in pixels, about two thirds, all and four thirds of what the embedded model runs at."""

ASPECT = 4 / 3

OBJECT_SIZES = (0.3, 1.5)
"""Range of object sizes as a fraction of the picture's height: the largest ones fill the view."""

ENCODED_AT_ONCE = 8
"""Views per pass of the backbone."""

PEAK_RATE = 5e-2

MIN_DEVIATION = 1e-6
"""Least standard deviation by which a channel of the keys is divided."""


@dataclass(frozen=True)
class SceneHeadTraining(Options):
    """Settings of a run; equal settings, banks and backbones give equal heads."""

    scenes: int = option(900, "Composed scenes, a third of each size.", low=len(SHORT_SIDES))
    steps: int = option(600, "Optimiser updates.", low=1)
    batch: int = option(32, "Scenes per update.", low=1)
    seed: int = option(0, "Seed of the scenes and their order.", low=0)
    bfloat16: bool = option(
        False, "Run the frozen backbone in bfloat16: half the time on recent CPUs, keys accurate to about 1 %."
    )


@dataclass(frozen=True)
class LabelledKeys:
    """Views of one size, as the frozen backbone sees them.

    Args:
        keys: float16 [V, N, C].
        covered: bool [V, N], whether objects cover more than half of a patch.
        discovered: bool [V, N], the complement of the discovered background.
        grid: Patch rows and columns (h, w), N = h * w.
    """

    keys: Tensor
    covered: Tensor
    discovered: Tensor
    grid: Grid


def encode_scenes(
    backbone: ViT, bank: Bank, settings: SceneHeadTraining, on_encoded: Callable[[int], None] = lambda done: None
) -> list[LabelledKeys]:
    """Compose scenes and run the frozen backbone once over each.

    Args:
        backbone: On any device; its parameters are not touched.
        bank: Pictures to compose from.
        settings: The run.
        on_encoded: Called after each pass with the number of scenes done.

    Returns:
        One entry per size of `SHORT_SIDES`, on the CPU.

    Raises:
        ParameterError: If the patch size does not divide the sides of the views.
    """
    encoded, done = [], 0
    for i, side in enumerate(SHORT_SIDES):
        if side % backbone.patch:
            raise ParameterError(f"the patch size must divide views of {side} pixels, got {backbone.patch}")
        width = round(side * ASPECT / backbone.patch) * backbone.patch
        scenes = SceneImages(bank, seed=settings.seed, count=settings.scenes, size=(side, width), sizes=OBJECT_SIZES)
        keys, covered, discovered = [], [], []
        for indices in _split(range(i, settings.scenes, len(SHORT_SIDES)), ENCODED_AT_ONCE):
            rendered = [scenes.render(index) for index in indices]
            batch_keys, foreground = _encode(backbone, [image for image, _ in rendered], settings.bfloat16)
            keys.append(batch_keys)
            discovered.append(foreground)
            covered += [find_covered(identities, backbone.patch) for _, identities in rendered]
            done += len(rendered)
            on_encoded(done)
        grid = (side // backbone.patch, width // backbone.patch)
        encoded.append(LabelledKeys(torch.cat(keys), torch.from_numpy(np.stack(covered)), torch.cat(discovered), grid))
    return encoded


def find_covered(identities: Image, patch: int) -> BoolMap:
    """Find the patches of which objects cover more than half, their holes filled: bool [N], row-major.

    Args:
        identities: uint8 [H, W], the object that each pixel shows, 0 for the background.
        patch: Patch side in pixels, which divides both sides.
    """
    pixels = np.zeros(identities.shape, bool)
    for number in range(1, int(identities.max()) + 1):
        pixels |= fill_holes(identities == number)
    rows, columns = identities.shape[0] // patch, identities.shape[1] // patch
    covered: BoolMap = pixels.reshape(rows, patch, columns, patch).mean((1, 3)) > 0.5
    return covered.ravel()


def overlap_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute one minus the soft IoU of mask and objects, averaged over views.

    Args:
        logits: float32 [B, N].
        labels: float32 [B, N] in [0, 1].
    """
    mask = logits.sigmoid()
    shared = (mask * labels).sum(1)
    return (1 - (shared + 1) / (mask.sum(1) + labels.sum(1) - shared + 1)).mean()


def fit_head(
    views: Sequence[LabelledKeys],
    settings: SceneHeadTraining,
    on_progress: Callable[[int, dict[str, float]], None] = lambda step, losses: None,
) -> tuple[Tensor, Tensor]:
    """Fit the convolution on keys: cross-entropy of patches, overlap of masks, discovered foreground.

    The learning rate falls as a cosine.

    Args:
        views: At least one view of each size.
        settings: The run.
        on_progress: Called after each update with its number, from 1, and its losses.

    Returns:
        weight float32 [1, C, 1, 1] and bias float32 [1].
    """
    mean, deviation = _standardise(views)
    weight = torch.zeros(len(mean), requires_grad=True)
    bias = torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.AdamW([weight, bias], lr=PEAK_RATE, weight_decay=0)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.steps)
    for step, batch in enumerate(_draw_batches(views, settings), start=1):
        logits = head_logits((batch.keys.float() - mean) / deviation, weight, bias, batch.grid).flatten(1)  # B N
        labels = batch.covered.float()
        losses = {
            "patches": bce(logits, labels),
            "overlap": overlap_loss(logits, labels),
            "discovered": bce(logits, batch.discovered.float()),
        }
        optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
        schedule.step()
        on_progress(step, {name: loss.item() for name, loss in losses.items()})
    weight, bias = weight.detach() / deviation, bias.detach()
    return weight.view(1, -1, 1, 1), bias - weight @ mean


def _draw_batches(views: Sequence[LabelledKeys], settings: SceneHeadTraining) -> Iterator[LabelledKeys]:
    """Draw the views of each update, of one size after another."""
    rng = np.random.default_rng([settings.seed, settings.scenes])
    for step in range(settings.steps):
        size = views[step % len(views)]
        index = torch.from_numpy(rng.integers(len(size.keys), size=settings.batch))
        yield LabelledKeys(size.keys[index], size.covered[index], size.discovered[index], size.grid)


def _standardise(views: Sequence[LabelledKeys]) -> tuple[Tensor, Tensor]:
    """Compute mean and standard deviation of each channel over all patches: float32 [C] each."""
    count = sum(size.covered.numel() for size in views)
    sums = sum((view.double().sum(0) for size in views for view in size.keys), torch.zeros(()))
    squares = sum((view.double().square().sum(0) for size in views for view in size.keys), torch.zeros(()))
    mean = sums / count
    variance = (squares / count - mean.square()).clamp_min(0)
    return mean.float(), variance.sqrt().float().clamp_min(MIN_DEVIATION)


def _split(indices: range, size: int) -> Iterator[range]:
    for first in range(0, len(indices), size):
        yield indices[first : first + size]


@torch.no_grad()
def _encode(backbone: ViT, images: Sequence[Image], bfloat16: bool) -> tuple[Tensor, Tensor]:
    """Run the frozen backbone on images of one size: keys float16 [B, N, C] and foreground bool [B, N], on the CPU."""
    device = next(backbone.parameters()).device
    pixels = torch.from_numpy(np.stack(images)).to(device).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (backbone.mean, backbone.std))
    with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
        features = backbone((pixels - mean) / std)
    background = background_mask(features.keys, features.cls_attention, features.grid, n_heads=backbone.n_heads)
    return features.keys.half().cpu(), ~background.flatten(1).cpu()
