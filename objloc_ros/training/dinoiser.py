"""Training of CLIP-DINOiser's head: Wysoczanska et al., ECCV 2024, without any label or text.

On an intermediate feature of a frozen CLIP, one convolution learns which patches DINO finds alike, the other which
ones FOUND takes for objects. As in the original, correlations in [0, 1] serve as logits, so their loss keeps a floor;
and the decoder named after the background is taught where the objects are.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from objloc_ros.backbones.clip import ClipImage
from objloc_ros.backbones.vit import ViT
from objloc_ros.errors import ParameterError
from objloc_ros.methods.clip_dinoiser import DinoiserHead, dino_correlations
from objloc_ros.methods.found_network import head_logits
from objloc_ros.ops.regions import mask_iou
from objloc_ros.training.dinoiser_data import DinoiserTraining, Pictures, pixel_batches
from objloc_ros.types import Features, Grid

Log = list[dict[str, float]]
Progress = Callable[[int, dict[str, float]], None]

WEIGHT_DECAY = 0.01


@dataclass(frozen=True)
class Teachers:
    """The frozen networks, all on one device, in eval mode.

    Args:
        clip: The image tower whose features the head reads.
        dino: The ViT whose values say which patches belong together.
        found: The ViT whose keys FOUND's head reads; it may be the same.
        weight: FOUND's head, float32 [1, C, 1, 1].
        bias: float32 [1].
    """

    clip: ClipImage
    dino: ViT
    found: ViT
    weight: Tensor
    bias: Tensor

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return next(self.clip.parameters()).device

    def check(self, size: int) -> None:
        """Raise ParameterError unless crops of this size divide into everyone's patches."""
        for network in (self.clip, self.dino, self.found):
            if size % network.patch:
                raise ParameterError(f"size must be a multiple of the patch size {network.patch}, got {size}")


@dataclass(frozen=True)
class Lesson:
    """What the head reads in a batch, and what it shall answer.

    Args:
        middle: float32 [B, N, W], see `ClipTokens`.
        grid: CLIP's patch rows and columns (h, w), N = h * w.
        related: bool [B, N, N]: DINO finds the two patches alike.
        foreground: bool [B, h, w]: FOUND sees an object.
    """

    middle: Tensor
    grid: Grid
    related: Tensor
    foreground: Tensor


def train_dinoiser(
    teachers: Teachers,
    images: Pictures,
    settings: DinoiserTraining,
    *,
    workers: int = 1,
    checkpoint: Path | None = None,
    save_every: int = 100,
    on_progress: Progress | None = None,
) -> tuple[DinoiserHead, Log]:
    """Train both convolutions.

    Args:
        teachers: Their parameters are not touched.
        images: RGB uint8 [H, W, 3] or picture files, of any size.
        settings: The run.
        workers: Threads that prepare pictures; the result does not depend on them.
        checkpoint: File to resume from when it exists, written every `save_every` steps and at the end.
        save_every: Steps between two checkpoints.
        on_progress: Called after each step with its number, from 1, and its losses.

    Returns:
        The head, frozen on the CPU, and the losses of every step.

    Raises:
        InputError: If there is no picture, or one cannot be used.
        ParameterError: If a setting is senseless or the checkpoint belongs to another run.
    """
    if workers < 1:
        raise ParameterError(f"workers must be at least 1, got {workers}")
    teachers.check(settings.size)
    state = DinoiserState(settings, teachers.clip.spec.width, teachers.device)
    if checkpoint is not None and checkpoint.exists():
        state.load(checkpoint)
    with ThreadPoolExecutor(workers) as pool:
        for pixels in pixel_batches(images, settings, start=state.step, pool=pool):
            losses = state.update(query_teachers(teachers, pixels.to(teachers.device), settings))
            if on_progress:
                on_progress(state.step, losses)
            if checkpoint is not None and (state.step % save_every == 0 or state.step == settings.steps):
                state.save(checkpoint)
    return state.head.cpu().requires_grad_(False).eval(), state.log


@torch.no_grad()
def query_teachers(teachers: Teachers, pixels: Tensor, settings: DinoiserTraining) -> Lesson:
    """Ask the frozen networks about a batch.

    Where DINO's or FOUND's patches are not CLIP's, their answers are resized (bilinear) before they become decisions.

    Args:
        teachers: The networks.
        pixels: float32 [B, 3, S, S] in [0, 1], on their device.
        settings: The run.
    """
    with torch.autocast(pixels.device.type, torch.bfloat16, enabled=settings.bfloat16):
        tokens = teachers.clip.tokens(_normalise(pixels, teachers.clip))
        seen: Features = teachers.dino(_normalise(pixels, teachers.dino))
        other = seen if teachers.found is teachers.dino else teachers.found(_normalise(pixels, teachers.found))
    values = _resize(seen.values.mT.unflatten(2, seen.grid), tokens.grid).flatten(2).mT
    correlations = dino_correlations(values)
    weight, bias = teachers.weight.to(pixels.device), teachers.bias.to(pixels.device)
    saliency = head_logits(other.keys, weight, bias, other.grid).sigmoid()
    foreground = _resize(saliency[:, None], tokens.grid)[:, 0] > 0.5
    return Lesson(tokens.middle, tokens.grid, (correlations >= settings.gamma) & (correlations > 0), foreground)


class DinoiserState:
    """Head, optimiser and counter between two steps.

    Args:
        settings: The run.
        width: Token width W of the image tower.
        device: Where the head trains.
    """

    def __init__(self, settings: DinoiserTraining, width: int, device: torch.device) -> None:
        self.settings = settings
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.head = DinoiserHead(width).to(device)
        parts = (self.head.obj_proj, self.head.bkg_decoder)
        self.optimiser = torch.optim.AdamW(
            [{"params": list(part.parameters())} for part in parts], weight_decay=WEIGHT_DECAY
        )
        self.step = 0
        self.log: Log = []

    def update(self, lesson: Lesson) -> dict[str, float]:
        """Take one optimiser step; return the losses and how far the answers at the thresholds agree, in [0, 1]."""
        rates = (self.settings.projection_rate, self.settings.background_rate)
        for group, rate in zip(self.optimiser.param_groups, rates, strict=True):
            group["lr"] = rate * self.settings.decay(self.step)
        correlations, logits = self.head(lesson.middle, lesson.grid)
        related = bce(correlations, lesson.related.float())
        objects = bce(logits, lesson.foreground.float())
        self.optimiser.zero_grad()
        (related + objects).backward()
        self.optimiser.step()
        self.step += 1
        losses = {
            "related": related.item(),
            "objects": objects.item(),
            "related_iou": mask_iou(*_to_numpy(correlations >= self.settings.gamma, lesson.related)),
            "objects_iou": mask_iou(*_to_numpy(logits > 0, lesson.foreground)),
        }
        self.log.append(losses)
        return losses

    def save(self, path: Path) -> None:
        """Write the state under a temporary name, then rename it.

        No generator is saved: every draw is keyed by the seed, the step and the place in the batch.
        """
        partial = path.with_suffix(path.suffix + ".partial")
        parts = {name: getattr(self, name).state_dict() for name in ("head", "optimiser")}
        torch.save({"settings": asdict(self.settings), "step": self.step, "log": self.log, **parts}, partial)
        partial.replace(path)

    def load(self, path: Path) -> None:
        """Continue from a saved state.

        Raises:
            ParameterError: If it belongs to a run with other settings, the number of steps among them, since the
                rates depend on it, or to an image tower of another width.
        """
        state: dict[str, Any] = torch.load(path, weights_only=True)
        same_width = state["head"]["bkg_decoder.weight"].shape == self.head.bkg_decoder.weight.shape
        if state["settings"] != asdict(self.settings) or not same_width:
            raise ParameterError(f"checkpoint {path} is of another run: step {state['step']} of {state['settings']}")
        for name in ("head", "optimiser"):
            getattr(self, name).load_state_dict(state[name])
        self.step, self.log = state["step"], state["log"]


def _normalise(pixels: Tensor, network: ClipImage | ViT) -> Tensor:
    mean, std = (torch.tensor(v, device=pixels.device)[:, None, None] for v in (network.mean, network.std))
    return (pixels - mean) / std


def _resize(maps: Tensor, grid: Grid) -> Tensor:
    """Return maps [B, C, h, w] on another grid."""
    return maps if maps.shape[2:] == grid else F.interpolate(maps, size=grid, mode="bilinear", align_corners=False)


def _to_numpy(*masks: Tensor) -> list[npt.NDArray[np.bool_]]:
    return [mask.numpy(force=True) for mask in masks]
