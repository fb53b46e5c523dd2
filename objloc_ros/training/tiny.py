"""Training of the embedded backbone on composed scenes, from the weights of an ImageNet classifier.

The trunk starts as EfficientNet-Lite0, whose classifier had ImageNet's labels; its early stages stay as they are.
Everything else is learned without labels, by contrast: two views of a scene share its cut-outs, moved, often over
another background. Keys of one cut-out attract and repel the background (`grouping_loss`); the CLS token learns to look
at cut-outs (`attention_loss`). What is kept is an exponential moving average of the weights.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import Block
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from objloc_ros.backbones.clip import ClipImage
from objloc_ros.backbones.efficientnet import EfficientNetLite0, fold_batch_norms
from objloc_ros.backbones.stem import PyramidStem
from objloc_ros.backbones.vit import ViT, build_vit
from objloc_ros.backbones.weights import conform, read_state
from objloc_ros.scenes.compose import Bank
from objloc_ros.scenes.material import Material
from objloc_ros.training.state import Progress, TrainingState
from objloc_ros.training.views import UNCLEAR, Schedule, ViewPair, ViewPairs
from objloc_ros.types import Features

SHARPNESS = 8.0
"""Cosines are turned into logits by SHARPNESS * (cosine - MARGIN)."""

MARGIN = 0.1
"""Between LOST's threshold on similarities (0) and those of TokenCut (0.2) and FOUND (0.3)."""

OTHER_OBJECT = 0.3
"""Weight of telling two objects apart, relative to telling an object from the background."""


def grouping_loss(keys: Tensor, labels: Tensor, swapped: Tensor) -> Tensor:
    """Compute the loss by which tokens of one cut-out attract, as do those of one background, and the two repel.

    Each token averages over its partners and objects weigh as much as backgrounds, so that small objects count.

    Args:
        keys: float32 [B, V * N, C], the tokens of V views of a scene one after another.
        labels: int64 [B, V * N]: 0 background, i the i-th cut-out, 255 unclear.
        swapped: bool [B], whether the views have different backgrounds.
    """
    cosine = F.normalize(keys, dim=-1)
    logits = SHARPNESS * (cosine @ cosine.transpose(1, 2) - MARGIN)
    is_object, is_ground = (labels > 0) & (labels < UNCLEAR), labels == 0
    same = labels[:, :, None] == labels[:, None]
    half = labels.shape[1] // 2
    view = torch.arange(labels.shape[1], device=labels.device) >= half
    apart = (view[:, None] != view[None]) & swapped[:, None, None]
    both_objects = is_object[:, :, None] & is_object[:, None]
    both_grounds = is_ground[:, :, None] & is_ground[:, None]
    attract = (both_objects & same) | (both_grounds & ~apart)
    repel = (is_object[:, :, None] & is_ground[:, None]).float()
    repel = repel + repel.transpose(1, 2) + OTHER_OBJECT * (both_objects & ~same)
    per_token = _row_mean(F.softplus(-logits), attract.float()) + _row_mean(F.softplus(logits), repel)
    return _mean(per_token, is_object) + _mean(per_token, is_ground)


def attention_loss(cls_attention: Tensor, labels: Tensor) -> Tensor:
    """Return the negative log of the CLS attention that falls on cut-outs, averaged over heads and views that show one.

    Args:
        cls_attention: float32 [B, heads, N].
        labels: int64 [B, N].
    """
    is_object = (labels > 0) & (labels < UNCLEAR)
    mass = (cls_attention * is_object[:, None]).sum(-1)
    return _mean(-torch.log(mass + 1e-3).mean(1), is_object.any(1))


def _row_mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum(-1) / weights.sum(-1).clamp(min=1)


def _mean(values: Tensor, where: Tensor) -> Tensor:
    return (values * where).sum() / where.sum().clamp(min=1)


@dataclass(frozen=True)
class TinyTraining:
    """Settings of a run; two runs with equal settings see equal data.

    Args:
        schedule: Steps, sizes and learning-rate shape.
        seed: Seed of weights, bank and views.
        peak_rate: Peak learning rate of AdamW.
        trunk_rate: Learning rate of the trunk, as a part of that.
        frozen: Stages of the trunk, and the stem before them, that keep the classifier's weights.
        attention: Weight of the attention loss.
        average: Decay of the moving average of the weights.
        bank: Backgrounds and sprites to draw, from which scenes are composed.
        procedural_steps: First steps, on these alone; then the material joins, with which learning is slow to begin.
    """

    schedule: Schedule
    seed: int = 0
    peak_rate: float = 1e-3
    trunk_rate: float = 0.1
    frozen: int = 3
    attention: float = 0.3
    average: float = 0.998
    bank: tuple[int, int] = (700, 2500)
    procedural_steps: int = 300


def train_tiny(
    settings: TinyTraining,
    checkpoint: Path,
    *,
    trunk: Path | None = None,
    material: Material | None = None,
    photographs: list[Any] | None = None,
    workers: int = 1,
    save_every: int = 200,
    on_progress: Progress | None = None,
) -> ViT:
    """Train until `settings.schedule.steps`, resuming from `checkpoint` when it exists.

    Args:
        settings: The run.
        checkpoint: Where the state is written every `save_every` steps and at the end.
        trunk: EfficientNet-Lite0's published weights; None begins with random ones, all of which are trained.
        material: Photographed and rendered cut-outs and grounds, beside the procedural ones.
        photographs: Photographed surfaces for the textures, float32 fields in [0, 1].
        workers: Loader processes that compose scenes.
        save_every: Steps between two checkpoints.
        on_progress: Called after each step with its number and losses.

    Returns:
        The averaged model in eval mode.

    Raises:
        ParameterError: If the checkpoint has gone further than the schedule.
        WeightsError: If the trunk's weights cannot be read or are of another network.
    """
    torch.manual_seed(settings.seed)
    model = use_plain_attention(build_vit("tiny").train())
    if trunk is not None:
        start_from_classifier(model, trunk, frozen=settings.frozen)
    schedule = settings.schedule
    state = TrainingState(
        model,
        average=settings.average,
        rate=lambda step: settings.peak_rate * schedule.rate(step),
        weight_decay=0.04,
        rates=lambda name: settings.trunk_rate if trunk is not None and ".trunk." in name else 1.0,
    )
    state.resume(checkpoint, schedule.steps)
    backgrounds, sprites = settings.bank
    bank = Bank(settings.seed + 1, backgrounds=backgrounds, sprites=sprites, photographs=photographs, material=material)
    pairs = ViewPairs(
        bank, seed=settings.seed, start=state.step, schedule=schedule, procedural_steps=settings.procedural_steps
    )
    loader = DataLoader(pairs, batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None)

    def update(pair: ViewPair) -> dict[str, float]:
        torch.manual_seed(settings.seed * 1_000_003 + state.step)  # what is dropped does not depend on resuming
        grouping, attention = compute_losses(model, pair)
        state.descend(grouping + settings.attention * attention)
        return {"grouping": grouping.item(), "attention": attention.item()}

    state.run(update, loader, schedule.steps, checkpoint, save_every=save_every, on_progress=on_progress)
    return cast(ViT, state.averaged.eval())


def compute_losses(model: ViT, pair: ViewPair) -> tuple[Tensor, Tensor]:
    """Return the grouping loss of the keys and the attention loss of the CLS token on a batch of pairs."""
    images, labels = pair.images.flatten(0, 1), pair.labels.long()
    features: Features = model(normalise(images, model))  # in bfloat16, depthwise convolutions are slow backwards
    scenes = pair.labels.shape[1]
    both = torch.cat([features.keys[:scenes], features.keys[scenes:]], dim=1)  # scenes 2N C
    grouping = grouping_loss(both, torch.cat([labels[0], labels[1]], dim=1), pair.swapped)
    return grouping, attention_loss(features.cls_attention, labels.flatten(0, 1))


def start_from_classifier(model: ViT, path: Path, *, frozen: int) -> EfficientNetLite0:
    """Return the trunk with the weights of EfficientNet-Lite0; its stem and first `frozen` stages will not be trained.

    The classifier saw pixels as (x - 127) / 128; its first convolution is changed to see them as the backbone does.

    Raises:
        WeightsError: If the file cannot be read or is of another network.
    """
    trunk = cast(PyramidStem, model.vit.patch_embed).trunk
    folded = fold_batch_norms(read_state(path), path)
    mean, std = (torch.tensor(values) * 255 for values in (model.mean, model.std))
    kernel = folded["stem.weight"]
    folded["stem.bias"] = folded["stem.bias"] + (kernel * ((mean - 127) / 128)[:, None, None]).sum((1, 2, 3))
    folded["stem.weight"] = kernel * (std / 128)[:, None, None]
    trunk.load_state_dict(
        conform(
            {name: folded[name] for name in trunk.state_dict()}, trunk.state_dict(), f"{path} is not EfficientNet-Lite0"
        )
    )
    for module in (trunk.stem, *trunk.stages[:frozen]):
        module.requires_grad_(False)
    return trunk


def save_backbone(path: Path, model: ViT) -> None:
    """Write the transformer as float16 safetensors in the timm layout; counters stay integers."""
    state = model.vit.state_dict()
    save_file({k: v.half().contiguous() if v.is_floating_point() else v for k, v in state.items()}, path)


def normalise(images: Tensor, model: ViT | ClipImage) -> Tensor:
    """uint8 [B, H, W, 3] to normalised float32 [B, 3, H, W]."""
    mean, std = (torch.tensor(values) * 255 for values in (model.mean, model.std))
    return ((images.float() - mean) / std).permute(0, 3, 1, 2).contiguous()


def use_plain_attention(model: ViT) -> ViT:
    """Spell attention out: over some hundred tokens PyTorch's fused backward is slower on a CPU."""
    for block in cast(Iterable[Block], model.vit.blocks):
        vars(block.attn)["fused_attn"] = False  # declared final, but read at every call
    return model
