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
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.data import DataLoader

from objloc_ros.backbones.clip import build_clip_image, build_text_transformer
from objloc_ros.backbones.clip_text import SPECIAL_TOKENS, Tokenizer, embed_tokens
from objloc_ros.methods.maskclip import value_features
from objloc_ros.scenes.attributes import AttributeBank
from objloc_ros.training.captions import COLOURS_RULED_OUT, GROUPS, known_tokens
from objloc_ros.training.clip_views import IGNORED, ClipBatch, ClipBatches
from objloc_ros.training.state import Progress, TrainingState
from objloc_ros.training.tiny import normalise

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
        easy: Fraction of the steps, at the beginning, on blurred backgrounds.
        crops: Crops per step.
        scenes: Scenes per step.
        dense: Weight of the loss on the tokens of scenes.
        average: Decay of the moving average of the weights.
        bank: Backgrounds, and sprites of each combination of attributes.
    """

    steps: int = 6000
    seed: int = 0
    peak_rate: float = 1.5e-3
    warmup: int = 150
    easy: float = 0.15
    crops: int = 80
    scenes: int = 5
    dense: float = 0.5
    average: float = 0.998
    bank: tuple[int, int] = (400, 6)

    def rate(self, step: int) -> float:
        """Return the learning rate at a step."""
        return self.peak_rate * min(1.0, (step + 1) / self.warmup) * 0.5 * (1 + math.cos(math.pi * step / self.steps))


class TinyClip(nn.Module):
    """Both towers and the scale of their similarities, under open_clip's names."""

    def __init__(self) -> None:
        super().__init__()
        self.image = build_clip_image(NAME)
        self.known = known_tokens()
        self.text = build_text_transformer(NAME, len(self.known) + SPECIAL_TOKENS)
        self.tokenizer = Tokenizer(self.image.spec.context, self.known)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(14.0)))

    def captions(self, texts: Sequence[Sequence[str]]) -> list[Tensor]:
        """Return unit vectors of the captions of each group: float32 [kinds + 1, D], encoded together."""
        ids = self.tokenizer([text for group in texts for text in group])
        embedded = F.normalize(embed_tokens(self.text, ids), dim=-1)
        return list(embedded.split([len(group) for group in texts]))

    def scale(self) -> Tensor:
        """Return the factor of the similarities."""
        return self.logit_scale.exp().clamp(max=MAX_SCALE)

    def load(self, path: Path) -> None:
        """Take over the weights of an earlier run."""
        saved = load_file(path)
        self.image.visual.load_state_dict({k: saved[f"visual.{k}"] for k in self.image.visual.state_dict()})
        self.text.load_state_dict({k: saved[k] for k in self.text.state_dict()})
        self.logit_scale.data.copy_(saved["logit_scale"])

    def state(self) -> dict[str, Tensor]:
        """Weights in open_clip's layout, and the known tokens."""
        towers = {f"visual.{k}": v for k, v in self.image.visual.state_dict().items()} | self.text.state_dict()
        return {**towers, "logit_scale": self.logit_scale.detach(), "known_tokens": self.known}


def train_tiny_clip(
    settings: ClipTraining,
    checkpoint: Path,
    *,
    start: Path | None = None,
    photographs: list[Any] | None = None,
    workers: int = 1,
    save_every: int = 200,
    on_progress: Progress | None = None,
) -> TinyClip:
    """Train until `settings.steps`, resuming from `checkpoint` when it exists.

    Args:
        settings: The run.
        checkpoint: Where the state is written every `save_every` steps and at the end.
        start: Weights of an earlier run to go on from; None starts from random ones.
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
    if start is not None:
        model.load(start)
    state = TrainingState(model, average=settings.average, rate=settings.rate)
    state.resume(checkpoint, settings.steps)
    backgrounds, copies = settings.bank
    bank = AttributeBank(settings.seed + 11, backgrounds=backgrounds, copies=copies, photographs=photographs)
    stream = ClipBatches(
        bank,
        seed=settings.seed,
        start=state.step,
        easy=round(settings.easy * settings.steps),
        crops=settings.crops,
        scenes=settings.scenes,
        crop_side=model.image.side,
        patch=model.image.patch,
    )
    loader = DataLoader(stream, batch_size=None, num_workers=workers, prefetch_factor=4 if workers else None)

    def update(batch: ClipBatch) -> dict[str, float]:
        crops, tokens = compute_losses(model, batch)
        state.descend(crops + settings.dense * tokens)
        return {"crops": crops.item(), "tokens": tokens.item(), "scale": model.scale().item()}

    state.run(update, loader, settings.steps, checkpoint, save_every=save_every, on_progress=on_progress)
    return cast(TinyClip, state.averaged.eval())


def compute_losses(model: TinyClip, batch: ClipBatch) -> tuple[Tensor, Tensor]:
    """Return the cross-entropies of the captions given the crops, and given the scenes' tokens: weighted group sums."""
    texts = model.captions(batch.captions)
    # Attention spelled out: over some hundred tokens PyTorch's fused backward is slower on a CPU.
    with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
        crops = model.image(normalise(batch.crops, model.image))
        tokens = value_features(model.image, model.image.tokens(normalise(batch.scenes, model.image)))
    crops, tokens = (F.normalize(features, dim=-1) * model.scale() for features in (crops, tokens))
    crop_rivals, token_rivals = find_rivals(batch)
    of_crops, of_tokens = [], []
    for i, (group, text) in enumerate(zip(GROUPS, texts, strict=True)):
        logits = (crops @ text.T).masked_fill(crop_rivals[i], float("-inf"))
        of_crops.append(group.weight * _cross_entropy(logits, batch.truth[i]))
        logits = (tokens @ text.T).masked_fill(token_rivals[i], float("-inf"))
        of_tokens.append(group.weight * _token_loss(logits, batch.tokens[i]))
    return torch.stack(of_crops).sum(), torch.stack(of_tokens).sum()


def find_rivals(batch: ClipBatch) -> tuple[list[Tensor], list[Tensor]]:
    """Return captions that must not count as false, see `captions.COLOURS_RULED_OUT`.

    Returns:
        Per group bool [B, kinds + 1] of crops, and bool [C, N, kinds + 1] of tokens.
    """
    by_shape, by_colour = COLOURS_RULED_OUT, COLOURS_RULED_OUT.T
    colours, _, shapes, _ = batch.truth
    colour_kinds, _, shape_kinds, _ = (kinds.clamp(min=0) for kinds in batch.tokens)
    of_crops = [torch.zeros_like(truth, dtype=torch.bool) for truth in batch.truth]
    of_tokens = [torch.zeros(*batch.tokens[0].shape, truth.shape[1], dtype=torch.bool) for truth in batch.truth]
    of_crops[0] = ((shapes > 0).float() @ by_shape.float() > 0) & (colours == 0)
    of_crops[2] = ((colours > 0).float() @ by_colour.float() > 0) & (shapes == 0)
    of_tokens[0], of_tokens[2] = by_shape[shape_kinds], by_colour[colour_kinds]
    return of_crops, of_tokens


def save_clip(path: Path, model: TinyClip) -> None:
    """Write both towers as float16 safetensors in open_clip's layout; integers stay what they are."""
    state = model.state()
    save_file({k: v.half().contiguous() if v.is_floating_point() else v for k, v in state.items()}, path)


def _cross_entropy(logits: Tensor, truth: Tensor) -> Tensor:
    """Return the cross-entropy with soft targets; a class that is ruled out (-inf) has target 0 and adds nothing."""
    return -(truth * logits.log_softmax(-1)).nan_to_num(0.0).sum(-1).mean()


def _token_loss(logits: Tensor, kinds: Tensor) -> Tensor:
    """Average the loss over tokens of objects and over those of the background, half each: most are background."""
    background = logits.shape[-1] - 1
    losses = F.cross_entropy(logits.flatten(0, 1), kinds.flatten(), reduction="none", ignore_index=IGNORED)
    of_objects, of_background = (
        (kinds.flatten() < background) & (kinds.flatten() != IGNORED),
        kinds.flatten() == background,
    )
    parts = [losses[mask].mean() if mask.any() else losses.sum() * 0 for mask in (of_objects, of_background)]
    return (parts[0] + parts[1]) / 2
