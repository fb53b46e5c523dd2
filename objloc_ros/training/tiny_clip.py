"""Training of the embedded CLIP pair on procedural scenes with attribute captions.

As in CLIP, a picture's embedding is compared with those of captions; as the captions of all kinds fit in a batch, each
picture chooses among all of them, once per group (colours, patterns, shapes, pairs of colour and shape). The same is
asked of every token of whole scenes on MaskCLIP's value path. The kinds come from the compositor, which knows what it
pasted where.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader

from objloc_ros.backbones.clip import ClipImage, build_clip_image, build_text_transformer
from objloc_ros.backbones.clip_text import embed_tokens
from objloc_ros.backbones.tokens import SPECIAL, Tokenizer
from objloc_ros.methods.maskclip import value_features
from objloc_ros.scenes.attributes import AttributeBank
from objloc_ros.training.captions import GROUPS, known_tokens
from objloc_ros.training.clip_views import IGNORED, ClipBatch, ClipBatches
from objloc_ros.training.state import Progress, TrainingState

NAME = "tiny_clip"
MAX_SCALE = 100.0


@dataclass(frozen=True)
class ClipTraining:
    """Settings of a run; two runs with equal settings see equal data.

    Args:
        steps: Optimiser steps.
        seed: Seed of weights, bank and batches.
        peak_rate: Peak learning rate of AdamW, reached after `warmup` steps; it falls along a cosine.
        warmup: Steps of linear warm-up.
        crops: Crops per step.
        scenes: Scenes per step.
        dense: Weight of the loss on the tokens of scenes.
        average: Decay of the moving average of the weights.
        bank: Backgrounds, and sprites of each combination of attributes.
    """

    steps: int = 4500
    seed: int = 0
    peak_rate: float = 1e-3
    warmup: int = 150
    crops: int = 80
    scenes: int = 8
    dense: float = 0.5
    average: float = 0.998
    bank: tuple[int, int] = (400, 6)

    def rate(self, step: int) -> float:
        """Learning rate at a step."""
        return self.peak_rate * min(1.0, (step + 1) / self.warmup) * 0.5 * (1 + math.cos(math.pi * step / self.steps))


class TinyClip(nn.Module):
    """Both towers and the scale of their similarities, under open_clip's names."""

    def __init__(self) -> None:
        super().__init__()
        self.image = build_clip_image(NAME)
        self.known = known_tokens()
        self.text = build_text_transformer(NAME, len(self.known) + SPECIAL)
        self.tokenizer = Tokenizer(self.image.spec.context, self.known)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(14.0)))

    def captions(self, texts: Sequence[Sequence[str]]) -> list[Tensor]:
        """Unit vectors of the captions of each group: float32 [kinds + 1, D], encoded together."""
        ids = self.tokenizer([text for group in texts for text in group])
        embedded = F.normalize(embed_tokens(self.text, ids), dim=-1)
        return list(embedded.split([len(group) for group in texts]))

    def scale(self) -> Tensor:
        """Factor of the similarities."""
        return self.logit_scale.exp().clamp(max=MAX_SCALE)

    def state(self) -> dict[str, Tensor]:
        """Weights in open_clip's layout, and the known tokens."""
        towers = {f"visual.{k}": v for k, v in self.image.visual.state_dict().items()} | self.text.state_dict()
        return {**towers, "logit_scale": self.logit_scale.detach(), "known_tokens": self.known}


def train_tiny_clip(
    settings: ClipTraining,
    checkpoint: Path,
    *,
    photographs: list[Any] | None = None,
    workers: int = 1,
    save_every: int = 200,
    on_progress: Progress | None = None,
) -> TinyClip:
    """Train until `settings.steps`, resuming from `checkpoint` when it exists.

    Args:
        settings: The run.
        checkpoint: Where the state is written every `save_every` steps and at the end.
        photographs: Photographed surfaces for the backgrounds, float32 fields in [0, 1].
        workers: Loader processes that compose scenes.
        save_every: Steps between two checkpoints.
        on_progress: Called after each step with its number and losses.

    Returns:
        The averaged model in eval mode.

    Raises:
        ParameterError: If the checkpoint has gone further than the settings.
    """
    torch.manual_seed(settings.seed)
    model = TinyClip().train()
    state = TrainingState(model, average=settings.average, rate=settings.rate)
    state.resume(checkpoint, settings.steps)
    backgrounds, copies = settings.bank
    bank = AttributeBank(settings.seed + 11, backgrounds=backgrounds, copies=copies, photographs=photographs)
    stream = ClipBatches(
        bank, seed=settings.seed, start=state.step, crops=settings.crops, scenes=settings.scenes, patch=model.image.patch
    )
    loader = DataLoader(stream, batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None)

    def update(batch: ClipBatch) -> dict[str, float]:
        crops, tokens = losses(model, batch)
        state.descend(crops + settings.dense * tokens)
        return {"crops": crops.item(), "tokens": tokens.item(), "scale": model.scale().item()}

    state.run(update, loader, settings.steps, checkpoint, save_every=save_every, on_progress=on_progress)
    averaged = state.averaged.eval()
    assert isinstance(averaged, TinyClip)
    return averaged


def losses(model: TinyClip, batch: ClipBatch) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the captions given the crops, and given the tokens of the scenes; each a weighted group sum."""
    texts = model.captions(batch.captions)
    # Attention spelled out: over some hundred tokens PyTorch's fused backward is slower on a CPU.
    with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
        crops = model.image(normalise(batch.crops, model.image))
        tokens = value_features(model.image, model.image.tokens(normalise(batch.scenes, model.image)))
    crops, tokens = (F.normalize(each, dim=-1) * model.scale() for each in (crops, tokens))
    each = zip(GROUPS, texts, batch.truth, batch.tokens, strict=True)
    of_crops, of_tokens = [], []
    for group, text, truth, kinds in each:
        of_crops.append(group.weight * F.cross_entropy(crops @ text.T, truth))
        of_tokens.append(group.weight * _token_loss(tokens @ text.T, kinds))
    return torch.stack(of_crops).sum(), torch.stack(of_tokens).sum()


def save_clip(path: Path, model: TinyClip) -> None:
    """Write both towers as float16 safetensors in open_clip's layout; integers stay what they are."""
    state = model.state()
    save_file({k: v.half().contiguous() if v.is_floating_point() else v for k, v in state.items()}, path)


def normalise(images: Tensor, tower: ClipImage) -> Tensor:
    """uint8 [B, H, W, 3] to normalised float32 [B, 3, H, W]."""
    mean, std = (torch.tensor(values) * 255 for values in (tower.mean, tower.std))
    return ((images.float() - mean) / std).permute(0, 3, 1, 2).contiguous()


def _token_loss(logits: Tensor, kinds: Tensor) -> Tensor:
    """Mean over the tokens of objects plus mean over those of the ground, halved: most tokens are ground."""
    ground = logits.shape[-1] - 1
    each = F.cross_entropy(logits.flatten(0, 1), kinds.flatten(), reduction="none", ignore_index=IGNORED)
    of_objects, of_ground = (kinds.flatten() < ground) & (kinds.flatten() != IGNORED), kinds.flatten() == ground
    parts = [each[which].mean() if which.any() else each.sum() * 0 for which in (of_objects, of_ground)]
    return (parts[0] + parts[1]) / 2
