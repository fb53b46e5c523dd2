"""What a training is between two steps: a model, the moving average of its weights, an optimiser and a counter."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from objloc_ros.errors import ParameterError
from objloc_ros.training.distributed import ALONE, Replicas

Progress = Callable[[int, dict[str, float]], None]
"""Called after each step with its number and losses."""

_SAVED = ("model", "averaged", "optimiser")

MAX_SKIPPED_IN_A_ROW = 20
"""Steps without a finite loss after which a training gives up."""


class TrainingState:
    """Model, moving average and optimiser; what is kept in the end is the average.

    Args:
        model: In training mode, its weights initialised.
        average: Decay of the moving average.
        rate: Learning rate of AdamW at each step.
        weight_decay: Of matrices; vectors have none.
        settings: What the run depends on, as JSON values; a checkpoint of a run with others is refused.
        replicas: The processes that train together; losses are their parts of one.
        rates: By the name of a parameter, its learning rate as a part of the common one.

    Attributes:
        step: Steps taken, those that were skipped included.
        skipped: Steps that were skipped because their loss or gradient was not finite.
        log: What `run` was told of each step, if it was asked to keep it.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        average: float,
        rate: Callable[[int], float],
        weight_decay: float = 0.04,
        settings: Mapping[str, Any] | None = None,
        replicas: Replicas = ALONE,
        rates: Callable[[str], float] = lambda name: 1.0,
    ) -> None:
        replicas.share(model)
        self.model = model
        self.averaged = copy.deepcopy(model).requires_grad_(False)
        self.optimiser = torch.optim.AdamW(_group_parameters(model, weight_decay, rates), betas=(0.9, 0.98))
        self.step = 0
        self.skipped = 0
        self.log: list[dict[str, float]] = []
        self.settings, self.replicas = dict(settings or {}), replicas
        self._skipped_in_a_row = 0
        self._average, self._rate = average, rate

    def descend(self, loss: torch.Tensor) -> None:
        """Take one optimiser step down a loss; gradients are clipped to norm 3.

        A step whose loss or gradient is not finite leaves weights and optimiser as they are, and is counted.

        Raises:
            ParameterError: `MAX_SKIPPED_IN_A_ROW` steps in a row were skipped.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate(self.step) * group["share"]
        self.optimiser.zero_grad()
        loss.backward()
        self.replicas.sum_gradients(self.model.parameters())
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), 3.0)
        total = self.replicas.sum([loss.item()], loss.device)[0]
        self.step += 1
        if not (math.isfinite(total) and math.isfinite(norm)):
            self._skip()
            return
        self._skipped_in_a_row = 0
        self.optimiser.step()
        self._follow()

    def _skip(self) -> None:
        self.skipped += 1
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row == MAX_SKIPPED_IN_A_ROW:
            raise ParameterError(
                f"the training diverges: no finite loss in the {MAX_SKIPPED_IN_A_ROW} steps up to step {self.step}, "
                f"at a learning rate of {self._rate(self.step - 1):.2g}; lower the rate"
            )

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
        counts = {"step": self.step, "skipped": self.skipped, "settings": self.settings, "log": self.log}
        torch.save(counts | {name: getattr(self, name).state_dict() for name in _SAVED}, partial)
        partial.replace(path)

    def load(self, path: Path) -> None:
        """Continue from a saved state.

        Raises:
            ParameterError: It cannot be read, or belongs to a run with other settings; the message says which differ.
        """
        try:
            state = torch.load(path, weights_only=True)
        except (OSError, EOFError, RuntimeError, pickle.UnpicklingError) as error:
            reason = str(error).partition("\n")[0]
            raise ParameterError(f"checkpoint {path} cannot be read, delete it to begin anew: {reason}") from error
        saved = state.get("settings", {})
        changed = [name for name in {**saved, **self.settings} if saved.get(name) != self.settings.get(name)]
        if changed:
            listed = ", ".join(f"{name} {saved.get(name)!r}, now {self.settings.get(name)!r}" for name in changed)
            raise ParameterError(
                f"checkpoint {path} is of another run: {listed}. Give the same options, another folder, or delete it"
            )
        self.step, self.skipped, self.log = state["step"], state.get("skipped", 0), state.get("log", [])
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
        checkpoint: Path | None,
        *,
        save_every: int,
        on_progress: Progress | None,
        keep_log: bool = False,
    ) -> None:
        """Update on one batch after the other until `steps`, saving every `save_every` steps and at the end.

        Of several processes, the first saves and tells of the progress.
        """
        source = iter(batches)
        while self.step < steps:
            losses = update(next(source))
            if keep_log:
                self.log.append(losses)
            if on_progress and self.replicas.writes:
                on_progress(self.step, losses)
            if checkpoint is not None and self.replicas.writes and (self.step % save_every == 0 or self.step == steps):
                self.save(checkpoint)


def _group_parameters(model: nn.Module, weight_decay: float, rates: Callable[[str], float]) -> list[dict[str, Any]]:
    """Return the trained parameters by learning rate, matrices apart from vectors, which do not decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((rates(name), weight_decay * (parameter.ndim > 1)), []).append(parameter)
    return [{"params": params, "share": share, "weight_decay": decay} for (share, decay), params in groups.items()]
