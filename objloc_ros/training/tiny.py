"""Training of the embedded ViT on procedural scenes, without any human label.

The recipe is contrastive: two views of a scene share its cut-outs, moved, often over another background. Keys of one
cut-out attract and repel the ground (`losses.grouping_loss`); the CLS token learns to look at cut-outs
(`losses.attention_loss`). What is kept is an exponential moving average of the weights.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.utils.data import DataLoader

from objloc_ros.backbones.vit import ViT, build_vit, cls_row
from objloc_ros.errors import ParameterError
from objloc_ros.scenes.compose import Bank
from objloc_ros.training.losses import attention_loss, grouping_loss
from objloc_ros.training.views import Schedule, ViewPair, ViewPairs

Progress = Callable[[int, dict[str, float]], None]


@dataclass(frozen=True)
class TinyTraining:
    """Settings of a run; two runs with equal settings see equal data.

    Args:
        schedule: Steps, sizes and learning-rate shape.
        seed: Seed of weights, bank and views.
        peak_rate: Peak learning rate of AdamW.
        attention: Weight of the attention loss.
        average: Decay of the moving average of the weights.
        bank: Backgrounds and sprites to compose from.
    """

    schedule: Schedule
    seed: int = 0
    peak_rate: float = 1e-3
    attention: float = 0.3
    average: float = 0.998
    bank: tuple[int, int] = (500, 1500)


def train_tiny(
    settings: TinyTraining,
    checkpoint: Path,
    *,
    photographs: list[Any] | None = None,
    workers: int = 1,
    save_every: int = 200,
    on_progress: Progress | None = None,
) -> ViT:
    """Train until `settings.schedule.steps`, resuming from `checkpoint` when it exists.

    Args:
        settings: The run.
        checkpoint: Where the state is written every `save_every` steps and at the end.
        photographs: Photographed surfaces for the textures, float32 fields in [0, 1].
        workers: Loader processes that compose scenes.
        save_every: Steps between two checkpoints.
        on_progress: Called after each step with its number and losses.

    Returns:
        The averaged model in eval mode.

    Raises:
        ParameterError: If the checkpoint has gone further than the schedule.
    """
    state = TrainingState(settings)
    if checkpoint.exists():
        state.load(checkpoint)
    steps = settings.schedule.steps
    if state.step > steps:
        raise ParameterError(f"checkpoint {checkpoint} is at step {state.step}, beyond the wanted {steps}")
    backgrounds, sprites = settings.bank
    bank = Bank(settings.seed + 1, backgrounds=backgrounds, sprites=sprites, photographs=photographs)
    pairs = ViewPairs(bank, seed=settings.seed, start=state.step, schedule=settings.schedule)
    batches = iter(DataLoader(pairs, batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None))
    while state.step < steps:
        losses = state.update(next(batches))
        if on_progress:
            on_progress(state.step, losses)
        if state.step % save_every == 0 or state.step == steps:
            state.save(checkpoint)
    return state.averaged.eval()


class TrainingState:
    """Model, moving average and optimiser between two steps."""

    def __init__(self, settings: TinyTraining) -> None:
        self.settings = settings
        torch.manual_seed(settings.seed)
        self.model = use_plain_attention(build_vit("tiny").train())
        self.averaged = copy.deepcopy(self.model).requires_grad_(False)
        self.optimiser = torch.optim.AdamW(_decay_groups(self.model), lr=settings.peak_rate, betas=(0.9, 0.98))
        self.step = 0

    def update(self, pair: ViewPair) -> dict[str, float]:
        """One optimiser step; the losses it saw."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.peak_rate * self.settings.schedule.rate(self.step)
        images, labels = pair.images.flatten(0, 1), pair.labels.long()
        with torch.autocast("cpu", torch.bfloat16):
            qkv = self.model.last_qkv(normalise(images, self.model))
        queries, keys, _ = qkv.unbind(2)
        scenes = pair.labels.shape[1]
        patches = keys[:, 1:].flatten(2)
        both = torch.cat([patches[:scenes], patches[scenes:]], dim=1)
        grouping = grouping_loss(both, torch.cat([labels[0], labels[1]], dim=1), pair.swapped)
        attention = attention_loss(cls_row(queries, keys), labels.flatten(0, 1))
        self.optimiser.zero_grad()
        (grouping + self.settings.attention * attention).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 3.0)
        self.optimiser.step()
        self.step += 1
        self._average()
        return {"grouping": grouping.item(), "attention": attention.item()}

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.settings.average, self.step / (self.step + 10))
        for mean, new in zip(self.averaged.state_dict().values(), self.model.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(new, 1 - decay)
            else:
                mean.copy_(new)

    def save(self, path: Path) -> None:
        """Write the state under a temporary name, then rename it."""
        state = {name: getattr(self, name).state_dict() for name in ("model", "averaged", "optimiser")}
        partial = path.with_suffix(path.suffix + ".partial")
        torch.save({"step": self.step, **state}, partial)
        partial.replace(path)

    def load(self, path: Path) -> None:
        """Continue from a saved state."""
        state = torch.load(path, weights_only=True)
        self.step = state["step"]
        for name in ("model", "averaged", "optimiser"):
            getattr(self, name).load_state_dict(state[name])


def save_backbone(path: Path, model: ViT) -> None:
    """Write the transformer as float16 safetensors in the timm layout; counters stay integers."""
    state = model.vit.state_dict()
    save_file({k: v.half().contiguous() if v.is_floating_point() else v for k, v in state.items()}, path)


def normalise(images: Tensor, model: ViT) -> Tensor:
    """uint8 [B, H, W, 3] to normalised float32 [B, 3, H, W]."""
    mean, std = (torch.tensor(values) * 255 for values in (model.mean, model.std))
    return ((images.float() - mean) / std).permute(0, 3, 1, 2).contiguous()


def use_plain_attention(model: ViT) -> ViT:
    """Spell attention out: over some hundred tokens PyTorch's fused backward is slower on a CPU."""
    for block in cast(Iterable[Block], model.vit.blocks):
        vars(block.attn)["fused_attn"] = False  # declared final, but read at every call
    return model


def _decay_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Weight decay for matrices only."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 0.04},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
