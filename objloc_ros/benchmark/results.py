"""What was measured, as a row per combination with all its rounds, and whether a run is slower than a saved one."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch

from objloc_ros.benchmark.cases import FRAME, STAGES, Case, SkippedCase
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.version import __version__

FORMAT = 1
"""Version of the JSON file's format."""


@dataclass(frozen=True)
class Roofline:
    """The least time of a stage that its arithmetic and memory allow.

    Args:
        ms: Milliseconds per image.
        flops: Operations per image.
        attention_flops: Those of them that grow with the square of the patches.
        bytes: Bytes per image.
        gflop_per_s: The measured rate that the operations are divided by.
        dtype: What the rate was measured in.
    """

    ms: float
    flops: int
    attention_flops: int
    bytes: float
    gflop_per_s: float
    dtype: str


@dataclass(frozen=True)
class CaseResult:
    """What was measured of a case.

    Args:
        case: The case.
        rounds: Milliseconds per image of each stage and of the whole frame, one of each round. Where several cameras
            share the engine, `frame` is the time between two results for any of them, and the stages are the medians of
            the round, waiting included.
        rooflines: By stage.
        precision: What the networks computed in; "" in runs that did not say.
    """

    case: Case
    rounds: Mapping[str, Sequence[float]]
    rooflines: Mapping[str, Roofline] = field(default_factory=dict)
    precision: str = ""

    def median(self, stage: str = FRAME) -> float:
        """Return the median of the rounds, milliseconds per image."""
        return float(np.median(self.rounds[stage]))

    def quartiles(self, stage: str = FRAME) -> tuple[float, float]:
        """Return the quartiles of the rounds, milliseconds per image."""
        low, high = np.percentile(self.rounds[stage], (25, 75))
        return float(low), float(high)

    def frames_per_s(self) -> float:
        """Return the frames per second of all cameras together."""
        return 1e3 / self.median()

    def over_roofline(self, stage: str) -> float | None:
        """Return how many times its roofline a stage takes; None without one, or where cameras wait for each other."""
        if stage not in self.rooflines or stage not in self.rounds or self.case.cameras > 1:
            return None
        return self.median(stage) / self.rooflines[stage].ms


@dataclass(frozen=True)
class BenchmarkRun:
    """One run of the benchmark.

    Args:
        date: In ISO 8601.
        command: What was run.
        machine: Facts by name, see `describe_machine`.
        rows: In the order of the matrix.
        skipped: Cases that do not exist or could not be loaded.
        left_out: Sentences on stages that are missing.
        rates: See `DeviceRates.to_json`.
    """

    date: str
    command: str
    machine: Mapping[str, Any]
    rows: Sequence[CaseResult]
    skipped: Sequence[SkippedCase] = ()
    left_out: Sequence[str] = ()
    rates: Sequence[Mapping[str, Any]] = ()

    def stages(self) -> list[str]:
        """Return the stages that some row has, but for those that take no time anywhere."""
        return [name for name in STAGES if any(any(row.rounds.get(name, ())) for row in self.rows)]

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values; medians, quartiles and ratios are for readers only."""
        return {
            "format": FORMAT,
            "objloc": __version__,
            "date": self.date,
            "command": self.command,
            "machine": dict(self.machine),
            "left_out": list(self.left_out),
            "skipped": [{"cell": asdict(case), "reason": reason} for case, reason in self.skipped],
            "rates": list(self.rates),
            "rows": [_row_to_json(row) for row in self.rows],
        }


def read_run(path: Path) -> BenchmarkRun:
    """Read a file that `objloc bench` wrote.

    Raises:
        InputError: If it cannot be read or is of another kind.
    """
    try:
        saved = json.loads(path.read_text())
        if saved["format"] != FORMAT:
            raise InputError(f"{path} has format {saved['format']!r}, expected {FORMAT}")
        rows = [_parse_row(row) for row in saved["rows"]]
        return BenchmarkRun(str(saved["date"]), str(saved["command"]), dict(saved["machine"]), rows)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read as a run of objloc bench: {error!r}") from error


def describe_machine(gpu: str | None) -> dict[str, Any]:
    """Collect facts on where the numbers are taken, with the load before they are.

    Args:
        gpu: Name of the GPU, if one is measured.
    """
    return {
        "cpu": _read_cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 1),
    }


def _read_cpu_name() -> str:
    """Return the processor's name, which Linux keeps in a file."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _row_to_json(row: CaseResult) -> dict[str, Any]:
    stages = {
        stage: {"median_ms": row.median(stage), "quartiles_ms": list(row.quartiles(stage)), "rounds_ms": list(times)}
        for stage, times in row.rounds.items()
    }
    rooflines = {
        stage: {**asdict(roofline), "ratio": row.over_roofline(stage)} for stage, roofline in row.rooflines.items()
    }
    about = {**asdict(row.case), "precision": row.precision, "frames_per_s": row.frames_per_s()}
    return {**about, "stages": stages, "floors": rooflines}


def _parse_row(saved: Mapping[str, Any]) -> CaseResult:
    case = Case(
        device=str(saved["device"]),
        backbone=str(saved["backbone"]),
        size=(int(saved["size"][0]), int(saved["size"][1])),
        method=str(saved["method"]),
        batch=int(saved["batch"]),
        cameras=int(saved["cameras"]),
    )
    rounds = {str(stage): [float(ms) for ms in times["rounds_ms"]] for stage, times in saved["stages"].items()}
    if not all(times and all(math.isfinite(ms) and ms >= 0 for ms in times) for times in rounds.values()):
        raise InputError(f"the rounds of {case} are not numbers of milliseconds")
    if FRAME not in rounds:
        raise InputError(f"the row of {case} has no stage {FRAME!r}")
    return CaseResult(case, rounds, precision=str(saved.get("precision", "")))


SAME_MACHINE = ("cpu", "cores", "threads", "gpu", "torch")
"""Facts that have to agree."""

MARGIN_SPREADS = 3.0
"""How many spreads a difference has to exceed."""

MAD_TO_STD = 1.4826
"""Standard deviation of a normal distribution, in median absolute deviations."""

Verdict = Literal["slower", "faster", "same"]


@dataclass(frozen=True)
class Change:
    """A case in both runs.

    Args:
        case: The case.
        before_ms: Median of the saved run.
        after_ms: Median of this one.
        margin: By what part of `before_ms` they may differ.
        worst: The stage that has grown most, and by how many milliseconds.
    """

    case: Case
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
        return f"{self.verdict}: {self.case}: {times}{grown}"


@dataclass(frozen=True)
class Comparison:
    """Two runs side by side.

    Args:
        changes: Cases that both have.
        only_before: Those that only the saved run has.
        only_after: Those that only this one has.
        machines: How the machines differ, in words.
    """

    changes: Sequence[Change]
    only_before: Sequence[Case]
    only_after: Sequence[Case]
    machines: Sequence[str]

    @property
    def regressions(self) -> list[Change]:
        """What has become slower."""
        return [change for change in self.changes if change.verdict == "slower"]

    def lines(self) -> list[str]:
        """Put the comparison into words: what changed, what has no counterpart, and how many are the same."""
        changed = [str(change) for change in self.changes if change.verdict != "same"]
        lone = [f"only in the saved run: {case}" for case in self.only_before]
        lone += [f"only in this run: {case}" for case in self.only_after]
        same = len(self.changes) - len(changed)
        summary = f"{len(self.regressions)} of {len(self.changes)} slower, {same} within their margins"
        return [*(f"other machine: {text}" for text in self.machines), *changed, *lone, summary]

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as JSON values."""
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


def compare(
    before: BenchmarkRun, after: BenchmarkRun, *, margin_floor: float = 0.05, any_machine: bool = False
) -> Comparison:
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
    old, new = ({row.case: row for row in run.rows} for run in (before, after))
    changes = [_change(old[case], new[case], margin_floor) for case in new if case in old]
    only_before, only_after = [case for case in old if case not in new], [case for case in new if case not in old]
    return Comparison(changes, only_before, only_after, machines)


def _change(before: CaseResult, after: CaseResult, margin_floor: float) -> Change:
    shared = [stage for stage in STAGES if stage in before.rounds and stage in after.rounds]
    old, new = (_shared_frame(row, shared) for row in (before, after))
    before_ms, after_ms = float(np.median(old)), float(np.median(new))
    margin = max(margin_floor, MARGIN_SPREADS * float(np.hypot(_spread(old), _spread(new))) / before_ms)
    grown = {stage: after.median(stage) - before.median(stage) for stage in shared}
    worst = max(grown.items(), key=lambda item: item[1], default=(FRAME, after_ms - before_ms))
    return Change(after.case, before_ms, after_ms, margin, worst)


def _shared_frame(row: CaseResult, stages: Sequence[str]) -> np.ndarray:
    """Return the rounds of the frame without the stages that the other run lacks."""
    frame = np.array(row.rounds[FRAME], np.float64)
    if row.case.cameras > 1:  # stages overlap
        return frame
    missing = [row.rounds[stage] for stage in STAGES if stage in row.rounds and stage not in stages]
    return frame - np.sum(missing, axis=0) if missing else frame


def _spread(rounds: np.ndarray) -> float:
    """Standard deviation, judged by the median absolute deviation."""
    return MAD_TO_STD * float(np.median(np.abs(rounds - np.median(rounds))))
