"""Whether a run is slower than a saved one, by more than both of them vary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from objloc_ros.errors import ParameterError
from objloc_ros.evaluation.speed.cells import FRAME, STAGES, Cell
from objloc_ros.evaluation.speed.results import Row, Run

SAME_MACHINE = ("cpu", "cores", "threads", "gpu", "torch")
"""Facts that have to agree."""

SPREADS = 3.0
"""How many spreads a difference has to exceed."""

GAUSSIAN = 1.4826
"""Standard deviation of a normal distribution, in median absolute deviations."""

Verdict = Literal["slower", "faster", "same"]


@dataclass(frozen=True)
class Change:
    """A combination in both runs.

    Args:
        cell: Which.
        before_ms: Median of the saved run.
        after_ms: Median of this one.
        margin: By what part of `before_ms` they may differ.
        worst: The stage that has grown most, and by how many milliseconds.
    """

    cell: Cell
    before_ms: float
    after_ms: float
    margin: float
    worst: tuple[str, float]

    @property
    def change(self) -> float:
        """By what part of the saved median the frame takes longer."""
        return self.after_ms / self.before_ms - 1

    @property
    def verdict(self) -> Verdict:
        """What the difference means."""
        if abs(self.change) <= self.margin:
            return "same"
        return "slower" if self.change > 0 else "faster"

    def __str__(self) -> str:
        times = f"{self.before_ms:.2f} -> {self.after_ms:.2f} ms ({self.change:+.1%}, margin {self.margin:.1%})"
        grown = f", most of it in {self.worst[0]} ({self.worst[1]:+.2f} ms)" if self.verdict == "slower" else ""
        return f"{self.verdict}: {self.cell}: {times}{grown}"


@dataclass(frozen=True)
class Comparison:
    """Two runs side by side.

    Args:
        changes: Combinations that both have.
        only_before: Those that only the saved run has.
        only_after: Those that only this one has.
        machines: How the machines differ, in words.
    """

    changes: Sequence[Change]
    only_before: Sequence[Cell]
    only_after: Sequence[Cell]
    machines: Sequence[str]

    @property
    def regressions(self) -> list[Change]:
        """What has become slower."""
        return [change for change in self.changes if change.verdict == "slower"]

    def lines(self) -> list[str]:
        """The comparison in words: what changed, what has no counterpart, and how many are the same."""
        changed = [str(change) for change in self.changes if change.verdict != "same"]
        lone = [f"only in the saved run: {cell}" for cell in self.only_before]
        lone += [f"only in this run: {cell}" for cell in self.only_after]
        same = len(self.changes) - len(changed)
        summary = f"{len(self.regressions)} of {len(self.changes)} slower, {same} within their margins"
        return [*(f"other machine: {text}" for text in self.machines), *changed, *lone, summary]

    def document(self) -> dict[str, Any]:
        """Ready for JSON."""
        verdicts: dict[str, list[str]] = {"slower": [], "faster": [], "same": []}
        for change in self.changes:
            verdicts[change.verdict].append(str(change))
        lone = {"only_before": [str(c) for c in self.only_before], "only_after": [str(c) for c in self.only_after]}
        return {**verdicts, **lone, "machines": list(self.machines)}


def check_machines(before: Mapping[str, Any], after: Mapping[str, Any], *, any_machine: bool) -> list[str]:
    """Say how two machines differ.

    Args:
        before: Facts of the saved run.
        after: Facts of this one.
        any_machine: Whether they may.

    Raises:
        ParameterError: If they do and may not; the message names the facts.
    """
    pairs = {name: (before.get(name), after.get(name)) for name in SAME_MACHINE}
    differences = [f"{name} was {old!r} and is {new!r}" for name, (old, new) in pairs.items() if old != new]
    if differences and not any_machine:
        raise ParameterError(
            f"the saved run is from another machine: {'; '.join(differences)}; --any-machine compares all the same"
        )
    return differences


def compare(before: Run, after: Run, *, margin_floor: float = 0.05, any_machine: bool = False) -> Comparison:
    """Compare runs row by row.

    A row is slower if its median has grown by more than both `margin_floor` and three times the spread of the two rows'
    rounds, which is their median absolute deviations scaled to standard deviations and combined.

    Args:
        before: The saved run.
        after: This one.
        margin_floor: Least difference that counts, as a part of the saved median.
        any_machine: Compare runs of different machines, too.

    Raises:
        ParameterError: If the machines differ and may not, or the margin is negative.
    """
    if margin_floor < 0:
        raise ParameterError(f"the margin must be at least 0, got {margin_floor}")
    machines = check_machines(before.machine, after.machine, any_machine=any_machine)
    old, new = ({row.cell: row for row in run.rows} for run in (before, after))
    changes = [_change(old[cell], new[cell], margin_floor) for cell in new if cell in old]
    only_before, only_after = [cell for cell in old if cell not in new], [cell for cell in new if cell not in old]
    return Comparison(changes, only_before, only_after, machines)


def _change(before: Row, after: Row, margin_floor: float) -> Change:
    shared = [stage for stage in STAGES if stage in before.rounds and stage in after.rounds]
    old, new = (_frame(row, shared) for row in (before, after))
    before_ms, after_ms = float(np.median(old)), float(np.median(new))
    margin = max(margin_floor, SPREADS * float(np.hypot(_spread(old), _spread(new))) / before_ms)
    grown = {stage: after.median(stage) - before.median(stage) for stage in shared}
    worst = max(grown.items(), key=lambda item: item[1], default=(FRAME, after_ms - before_ms))
    return Change(after.cell, before_ms, after_ms, margin, worst)


def _frame(row: Row, stages: Sequence[str]) -> np.ndarray:
    """The rounds of the frame without the stages that the other run lacks."""
    frame = np.array(row.rounds[FRAME], np.float64)
    if row.cell.cameras > 1:  # stages overlap
        return frame
    missing = [row.rounds[stage] for stage in STAGES if stage in row.rounds and stage not in stages]
    return frame - np.sum(missing, axis=0) if missing else frame


def _spread(rounds: np.ndarray) -> float:
    """Standard deviation, judged by the median absolute deviation."""
    return GAUSSIAN * float(np.median(np.abs(rounds - np.median(rounds))))
