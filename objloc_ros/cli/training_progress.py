"""The progress bar of a training."""

from __future__ import annotations

import time

from tqdm import tqdm


class TrainingProgress:
    """A bar that follows the step counter, so that a resumed run starts where it stopped; the first step shows it.

    Args:
        total: Number of steps.
        unit: What is counted.
    """

    def __init__(self, total: int, unit: str) -> None:
        self._total, self._unit = total, unit
        self._bar: tqdm | None = None
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        """Time since the start of this run."""
        return time.monotonic() - self._start

    def __call__(self, step: int, losses: dict[str, float]) -> None:
        """Show a step and its losses."""
        if self._bar is None:
            self._bar = tqdm(total=self._total, unit=self._unit, initial=step - 1)
        self._bar.set_postfix({name: f"{value:.3f}" for name, value in losses.items()}, refresh=False)
        self._bar.update(step - self._bar.n)

    def advance(self) -> None:
        """Show one more that is done."""
        self((0 if self._bar is None else int(self._bar.n)) + 1, {})

    def close(self) -> None:
        """Leave the bar on the screen."""
        if self._bar is not None:
            self._bar.close()
