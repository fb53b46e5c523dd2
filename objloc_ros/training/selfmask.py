"""Training of SelfMask: Shin et al., CVPR workshops 2022, on masks that other methods have found.

Every query is pulled to the image's one mask, and says how good it is by its rank among the others. Two differences
from the original: there, the ranking loss punishes the right order, which its inference asks for; and its learning rate
starts over with every epoch. TrainingState clips gradients and decays matrices only, where the original does neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from objloc_ros.backbones.onnx_runtime import ExportedViT
from objloc_ros.backbones.vit import ViT
from objloc_ros.backbones.weights import fingerprint
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.methods.selfmask import Masks, SelfMask
from objloc_ros.training.detector_data import identify_labels
from objloc_ros.training.detector_labels import Labels
from objloc_ros.training.selfmask_data import Example, SelfMaskTraining, iterate_batches
from objloc_ros.training.state import Progress, TrainingState

WEIGHT_DECAY = 0.01

SAVE_EVERY = 50
"""Steps between two checkpoints."""

Log = Sequence[Mapping[str, float]]


@dataclass(frozen=True)
class SelfMaskLoss:
    """The losses of a batch.

    Args:
        dice: float32 [], summed over images, layers and queries.
        ranking: float32 [], summed over images and layers.
        images: Number of images, those with empty masks among them.
    """

    dice: Tensor
    ranking: Tensor
    images: int

    @property
    def total(self) -> Tensor:
        """What is minimised: the mean over images of both together."""
        return (self.dice + self.ranking) / self.images


def dice_losses(masks: Tensor, targets: Tensor) -> Tensor:
    """Compute 1 - (2 p g + 1) / (p + g + 1) of every mask, with sums over pixels: float32 [B, L, Q].

    Args:
        masks: float32 [B, L, Q, h, w] in [0, 1]; they are resized to the targets.
        targets: float32 [B, H, W], zeros and ones.
    """
    resized = F.interpolate(masks.flatten(1, 2), size=targets.shape[1:], mode="bilinear", align_corners=False)
    flat, truth = resized.flatten(2), targets.flatten(1)[:, None]  # B LQ HW, B 1 HW
    shared = (flat * truth).sum(2)
    dice: Tensor = 1 - (2 * shared + 1) / (flat.sum(2) + truth.sum(2) + 1)
    return dice.unflatten(1, masks.shape[1:3])


def ranking_loss(dice: Tensor, objectness: Tensor, *, literal: bool = False) -> Tensor:
    """Compute how far objectness contradicts the order of the masks: float32 [B, L].

    The sum over all pairs of a worse and a better mask of max(0, worse - better) in objectness.

    Args:
        dice: Loss of every mask, [B, L, Q]; only its order counts.
        objectness: float32 [B, L, Q] in [0, 1].
        literal: As the original computes it: with worse and better exchanged.
    """
    order = dice.detach().argsort(dim=2, descending=True, stable=True)  # the worst first
    ordered = objectness.gather(2, order)
    excess = (ordered[..., :, None] - ordered[..., None, :]).triu(1)  # B L Q Q: worse - better
    return F.relu(-excess if literal else excess).sum((2, 3))


def selfmask_loss(predicted: Masks, targets: Tensor, *, literal: bool = False) -> SelfMaskLoss:
    """Compute the losses of a batch; images with empty targets contribute nothing but their number.

    Args:
        predicted: Of the network.
        targets: float32 [B, H, W], zeros and ones.
        literal: See `ranking_loss`.
    """
    taught = targets.flatten(1).any(1)
    dice = dice_losses(predicted.masks[taught], targets[taught])
    ranking = ranking_loss(dice, predicted.objectness[taught, ..., 0], literal=literal)
    return SelfMaskLoss(dice.sum(), ranking.sum(), len(targets))


def make_selfmask(backbone: ViT, settings: SelfMaskTraining) -> SelfMask:
    """Return a network with a backbone's weights in its encoder and random ones elsewhere, ready to be trained.

    Raises:
        ParameterError: The backbone is an exported one.
    """
    if isinstance(backbone, ExportedViT):
        raise ParameterError("SelfMask's encoder needs a backbone's weights, not an exported one")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = SelfMask(backbone.spec, queries=settings.queries, layers=settings.layers)
    model.encoder.load_state_dict(backbone.vit.state_dict())
    model.encoder.requires_grad_(not settings.freeze)
    return model.train().to(next(backbone.parameters()).device)


def train_selfmask(
    backbone: ViT,
    labels: Labels,
    settings: SelfMaskTraining,
    *,
    checkpoint: Path | None = None,
    workers: int = 2,
    save_every: int = SAVE_EVERY,
    on_progress: Progress | None = None,
) -> tuple[SelfMask, Log]:
    """Train a network on the masks of labelled images: the union of an image's objects is its salient region.

    Args:
        backbone: Whose weights the encoder begins with, and keeps where settings freeze it.
        labels: What to learn from.
        settings: The run.
        checkpoint: File to resume from when it exists, written every `save_every` steps and at the end.
        workers: Threads that read and augment; the result does not depend on it.
        save_every: Steps between two checkpoints.
        on_progress: Called after each step with its number, from 1, and its losses.

    Returns:
        The network in eval mode, and the losses of every step.

    Raises:
        InputError: There is no image with an object, or one cannot be read.
        ParameterError: A setting is senseless or the checkpoint belongs to another run.
    """
    if not labels.count:
        raise InputError(f"{labels.document} has no object to learn from")
    if settings.size % backbone.patch:
        raise ParameterError(f"size must be a multiple of the patch size {backbone.patch}, got {settings.size}")
    state = TrainingState(
        make_selfmask(backbone, settings),
        average=0.0,  # the last weights are kept, as in the original
        rate=settings.learning_rate,
        weight_decay=WEIGHT_DECAY,
        settings=asdict(settings) | {"backbone": fingerprint(backbone), "labels": identify_labels(labels)},
    )
    if checkpoint is not None:
        state.resume(checkpoint, settings.steps)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        state.run(
            lambda batch: _update(state, batch),
            iterate_batches(labels, settings, start=state.step, pool=pool),
            settings.steps,
            checkpoint,
            save_every=save_every,
            on_progress=on_progress,
            keep_log=True,
        )
    return cast(SelfMask, state.averaged.eval()), state.log


def _update(state: TrainingState, batch: Sequence[Example]) -> dict[str, float]:
    """Take one step, or none where no image of the batch shows an object; return the losses per image, and IoU."""
    model = cast(SelfMask, state.model)
    device = model.query_embed.device
    targets = torch.from_numpy(np.stack([mask for _, mask in batch])).to(device).float()
    if not targets.any():
        state.step += 1
        return {"loss": 0.0, "dice": 0.0, "ranking": 0.0, "iou": 0.0}
    predicted = model(_normalise(batch, model))
    loss = selfmask_loss(predicted, targets)
    state.descend(loss.total)
    values = {"loss": loss.total, "dice": loss.dice / loss.images, "ranking": loss.ranking / loss.images}
    return {**{name: value.item() for name, value in values.items()}, "iou": _measure_iou(predicted, targets)}


@torch.no_grad()
def _measure_iou(predicted: Masks, targets: Tensor) -> float:
    """Return the mean IoU of the chosen masks with the targets that are not empty."""
    best = predicted.objectness[:, -1, :, 0].argmax(1)
    chosen = predicted.masks[torch.arange(len(best), device=best.device), -1, best]
    masks = F.interpolate(chosen[:, None], size=targets.shape[1:], mode="bilinear", align_corners=False)[:, 0] > 0.5
    truth = targets > 0
    shared, union = (masks & truth).sum((1, 2)), (masks | truth).sum((1, 2)).clamp_min(1)
    return float((shared / union)[truth.any(2).any(1)].mean())


def _normalise(batch: Sequence[Example], model: SelfMask) -> Tensor:
    """Return the images as the network takes them, float32 [B, 3, S, S]."""
    device = model.query_embed.device
    pixels = torch.from_numpy(np.stack([image for image, _ in batch])).to(device).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values, device=device)[:, None, None] for values in (model.mean, model.std))
    normalised: Tensor = (pixels - mean) / std
    return normalised
