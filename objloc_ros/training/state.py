"""What a training is between two steps: a model, the moving average of its weights, an optimiser and a counter."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from objloc_ros.errors import ParameterError

Progress = Callable[[int, dict[str, float]], None]
"""Called after each step with its number and losses."""

_SAVED = ("model", "averaged", "optimiser")


class TrainingState:
    """Model, moving average and optimiser; what is kept in the end is the average.

    Args:
        model: In training mode, its weights initialised.
        average: Decay of the moving average.
        rate: Learning rate of AdamW at each step.
        weight_decay: Of matrices; vectors have none.
    """

    def __init__(
        self, model: nn.Module, *, average: float, rate: Callable[[int], float], weight_decay: float = 0.04
    ) -> None:
        self.model = model
        self.averaged = copy.deepcopy(model).requires_grad_(False)
        self.optimiser = torch.optim.AdamW(_decay_groups(model, weight_decay), betas=(0.9, 0.98))
        self.step = 0
        self._average, self._rate = average, rate

    def descend(self, loss: torch.Tensor) -> None:
        """Take one optimiser step down a loss; gradients are clipped to norm 3."""
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate(self.step)
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 3.0)
        self.optimiser.step()
        self.step += 1
        self._follow()

    @torch.no_grad()
    def _follow(self) -> None:
        decay = min(self._average, self.step / (self.step + 10))
        for mean, new in zip(self.averaged.state_dict().values(), self.model.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(new, 1 - decay)
            else:
                mean.copy_(new)

    def save(self, path: Path) -> None:
        """Write the state under a temporary name, then rename it."""
        partial = path.with_suffix(path.suffix + ".partial")
        torch.save({"step": self.step, **{name: getattr(self, name).state_dict() for name in _SAVED}}, partial)
        partial.replace(path)

    def load(self, path: Path) -> None:
        """Continue from a saved state."""
        state = torch.load(path, weights_only=True)
        self.step = state["step"]
        for name in _SAVED:
            getattr(self, name).load_state_dict(state[name])

    def resume(self, path: Path, steps: int) -> None:
        """Continue from a checkpoint if there is one.

        Raises:
            ParameterError: If it has gone further than `steps`.
        """
        if path.exists():
            self.load(path)
        if self.step > steps:
            raise ParameterError(f"checkpoint {path} is at step {self.step}, beyond the wanted {steps}")

    def run(
        self,
        update: Callable[[Any], dict[str, float]],
        batches: Iterable[Any],
        steps: int,
        checkpoint: Path,
        *,
        save_every: int,
        on_progress: Progress | None,
    ) -> None:
        """Update on one batch after the other until `steps`, saving every `save_every` steps and at the end."""
        source = iter(batches)
        while self.step < steps:
            losses = update(next(source))
            if on_progress:
                on_progress(self.step, losses)
            if self.step % save_every == 0 or self.step == steps:
                self.save(checkpoint)


def _decay_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return parameter groups with weight decay for matrices only."""
    parameters = list(model.parameters())
    return [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
