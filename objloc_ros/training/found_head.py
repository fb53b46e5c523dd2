"""Training of FOUND's head: Siméoni et al., CVPR 2023, without any human label.

The head first learns the complement of the discovered background, then, from iteration 100 on, its own decisions; in
both phases it also learns those decisions refined along the image's edges. One deliberate difference from the
original: the solver sees the exact pixels, where the original's lost one level here and there to rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from objloc_ros.backbones.vit import ViT
from objloc_ros.errors import ParameterError
from objloc_ros.methods.found_network import head_logits
from objloc_ros.ops.regions import BoolMap
from objloc_ros.training.found_data import Batch, HeadTraining, Item, iterate_batches, refine_patches, start_worker

Log = list[dict[str, float]]
Progress = Callable[[int, dict[str, float]], None]

Refined = list[list[tuple[BoolMap, bool]]]
"""Per image and source mask: the label bool [h, w] and whether it is a refined one."""

REFINED_WEIGHT = 1.5
DISCOVERED_WEIGHT = 1.0
OWN_WEIGHT = 4.0
SWITCH = 100


def train_head(
    backbone: ViT,
    images: Iterable[Item],
    *,
    steps: int = 501,
    batch: int = 50,
    seed: int = 0,
    size: int = 224,
    threshold: float = 0.3,
    bfloat16: bool = False,
    workers: int = 2,
    checkpoint: Path | None = None,
    save_every: int = 50,
    on_progress: Progress | None = None,
) -> tuple[Tensor, Tensor, Log]:
    """Train the 1x1 convolution on a frozen backbone.

    Args:
        backbone: On any device; its parameters are not touched.
        images: RGB uint8 [H, W, 3] or picture files. A sequence is shuffled anew for each epoch; any other iterable
            is taken in its own order and, when training resumes, from its start, so it should repeat itself exactly.
        steps: See `HeadTraining`, as for the next five.
        batch: Images per update.
        seed: Seed of everything random.
        size: Side of the training images.
        threshold: Cosine above which a patch is background.
        bfloat16: Run the backbone in bfloat16.
        workers: Processes that augment and refine; 0 does so in this one. The result does not depend on it.
        checkpoint: File to resume from when it exists, written every `save_every` steps and at the end.
        save_every: Steps between two checkpoints.
        on_progress: Called after each step with its number, from 1, and its losses.

    Returns:
        weight float32 [1, C, 1, 1], bias float32 [1], both on the CPU, and the losses of every step.

    Raises:
        InputError: If the images run out, or one of them cannot be used.
        ParameterError: If a setting is senseless or the checkpoint belongs to another run.
    """
    settings = HeadTraining(steps=steps, batch=batch, seed=seed, size=size, threshold=threshold, bfloat16=bfloat16)
    if size % backbone.patch:
        raise ParameterError(f"size must be a multiple of the patch size {backbone.patch}, got {size}")
    state = HeadState(settings, backbone.embed_dim, next(backbone.parameters()).device)
    if checkpoint is not None and checkpoint.exists():
        state.load(checkpoint)
    with _start_pool(workers) as pool:
        stream = iterate_batches(backbone, images, settings, start=state.step, pool=pool)
        current = next(stream, None)
        while current is not None:
            labels = state.submit(current, pool)
            following = next(stream, None)  # the backbone works while the workers refine
            losses = state.update(current, labels())
            if on_progress:
                on_progress(state.step, losses)
            if checkpoint is not None and (state.step % save_every == 0 or following is None):
                state.save(checkpoint)
            current = following
    return *state.result(), state.log


def save_head(path: Path, weight: Tensor, bias: Tensor) -> None:
    """Write a head as safetensors with the keys "weight" [1, C, 1, 1] and "bias" [1]."""
    save_file({"weight": weight.contiguous(), "bias": bias.contiguous()}, path)


class HeadState:
    """Head, optimiser and schedule between two steps.

    Args:
        settings: The run.
        channels: Width C of the backbone's keys.
        device: Where the head trains.
    """

    def __init__(self, settings: HeadTraining, channels: int, device: torch.device) -> None:
        self.settings = settings
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.head = nn.Conv2d(channels, 1, kernel_size=1).to(device)
        self.optimiser = torch.optim.AdamW(self.head.parameters(), lr=5e-2)
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimiser, step_size=50, gamma=0.95)
        self.step = 0
        self.log: Log = []

    def result(self) -> tuple[Tensor, Tensor]:
        """Return weight float32 [1, C, 1, 1] and bias float32 [1], on the CPU."""
        weight, bias = (parameter.detach().cpu().clone() for parameter in self.head.parameters())
        return weight, bias

    def logits(self, batch: Batch) -> Tensor:
        """Return the logits of the head as it is now: [B, h, w]."""
        weight, bias = self.head.parameters()
        return head_logits(batch.keys, weight, bias, batch.grid)

    def submit(self, batch: Batch, pool: Executor) -> Callable[[], Refined]:
        """Start refining what this step learns from; the returned function waits for it."""
        with torch.no_grad():
            own = (self.logits(batch).sigmoid() > 0.5).cpu().numpy()
        sources = [own] if self.step >= SWITCH else [own, batch.foreground.cpu().numpy()]
        masks = zip(*sources, strict=True)
        futures = [pool.submit(refine_patches, *job) for job in zip(batch.images, masks, strict=True)]
        return lambda: [future.result() for future in futures]

    def update(self, batch: Batch, refined: Refined) -> dict[str, float]:
        """Take one optimiser step and return the losses it saw."""
        logits = self.logits(batch)
        targets = _stack(refined, 0, logits)
        terms = {"refined": REFINED_WEIGHT * bce(logits, targets)}
        if self.step < SWITCH:
            terms["discovered"] = DISCOVERED_WEIGHT * bce(logits, _stack(refined, 1, logits))
        else:
            terms["own"] = OWN_WEIGHT * bce(logits, (logits.detach().sigmoid() > 0.5).float())
        self.optimiser.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        self.optimiser.step()
        self.schedule.step()
        self.step += 1
        losses = {name: term.item() for name, term in terms.items()}
        losses["accepted"] = float(np.mean([pairs[0][1] for pairs in refined]))
        losses["foreground"] = targets.mean().item()
        self.log.append(losses)
        return losses

    def save(self, path: Path) -> None:
        """Write the state under a temporary name, then rename it.

        No generator is saved: every draw is keyed by the seed, the step and the place in the batch.
        """
        partial = path.with_suffix(path.suffix + ".partial")
        parts = {name: getattr(self, name).state_dict() for name in ("head", "optimiser", "schedule")}
        torch.save({"settings": asdict(self.settings), "step": self.step, "log": self.log, **parts}, partial)
        partial.replace(path)

    def load(self, path: Path) -> None:
        """Continue from a saved state.

        Raises:
            ParameterError: If it belongs to a run with other settings (more steps are welcome).
        """
        state: dict[str, Any] = torch.load(path, weights_only=True)
        same_run = {**state["settings"], "steps": self.settings.steps} == asdict(self.settings)
        same_width = state["head"]["weight"].shape == self.head.weight.shape
        if not (same_run and same_width and state["step"] <= self.settings.steps):
            raise ParameterError(f"checkpoint {path} is of another run: step {state['step']} of {state['settings']}")
        for name in ("head", "optimiser", "schedule"):
            getattr(self, name).load_state_dict(state[name])
        self.step, self.log = state["step"], state["log"]


def _stack(refined: Refined, source: int, like: Tensor) -> Tensor:
    """Return the labels of one source as a float tensor [B, h, w] beside the logits."""
    return torch.from_numpy(np.stack([labels[source][0] for labels in refined])).to(like)


def _start_pool(workers: int) -> Executor:
    """Start worker processes from a clean interpreter, so that they inherit no thread and no GPU state."""
    if workers == 0:
        return ThreadPoolExecutor(1)
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=start_worker)
