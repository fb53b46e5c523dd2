"""What was measured: a row per combination with all its rounds, the machine, and the JSON file of both."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from objloc_ros import __version__
from objloc_ros.errors import InputError
from objloc_ros.evaluation.speed.cells import FRAME, STAGES, Cell, Skipped

FORMAT = 1
"""Of the JSON file."""


@dataclass(frozen=True)
class Floor:
    """What a stage takes at least.

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
class Row:
    """One combination.

    Args:
        cell: Which.
        rounds: Milliseconds per image of each stage and of the whole frame, one of each round. Where several cameras
            share the engine, `frame` is the time between two answers to any of them, and the stages are the medians of
            the round, waiting included.
        floors: By stage.
    """

    cell: Cell
    rounds: Mapping[str, Sequence[float]]
    floors: Mapping[str, Floor] = field(default_factory=dict)

    def median(self, stage: str = FRAME) -> float:
        """Median milliseconds per image."""
        return float(np.median(self.rounds[stage]))

    def quartiles(self, stage: str = FRAME) -> tuple[float, float]:
        """Between them lie the middle half of the rounds."""
        low, high = np.percentile(self.rounds[stage], (25, 75))
        return float(low), float(high)

    def frames_per_s(self) -> float:
        """Frames per second, of all cameras together."""
        return 1e3 / self.median()

    def over_floor(self, stage: str) -> float | None:
        """How many times its floor a stage takes; None where it has none, or cameras wait for each other."""
        if stage not in self.floors or stage not in self.rounds or self.cell.cameras > 1:
            return None
        return self.median(stage) / self.floors[stage].ms


@dataclass(frozen=True)
class Run:
    """One run of the benchmark.

    Args:
        date: In ISO 8601.
        command: What was run.
        machine: Facts by name, see `machine`.
        rows: In the order of the matrix.
        skipped: Combinations that do not exist or could not be loaded.
        left_out: Sentences on stages that are missing.
        rates: See `Rates.listed`.
    """

    date: str
    command: str
    machine: Mapping[str, Any]
    rows: Sequence[Row]
    skipped: Sequence[Skipped] = ()
    left_out: Sequence[str] = ()
    rates: Sequence[Mapping[str, Any]] = ()

    def stages(self) -> list[str]:
        """The stages that some row has, those apart that take no time anywhere."""
        return [name for name in STAGES if any(any(row.rounds.get(name, ())) for row in self.rows)]

    def document(self) -> dict[str, Any]:
        """Everything, ready for JSON; medians, quartiles and ratios are there for readers and are not read back."""
        return {
            "format": FORMAT,
            "objloc": __version__,
            "date": self.date,
            "command": self.command,
            "machine": dict(self.machine),
            "left_out": list(self.left_out),
            "skipped": [{"cell": asdict(cell), "reason": reason} for cell, reason in self.skipped],
            "rates": list(self.rates),
            "rows": [_document(row) for row in self.rows],
        }


def read_run(path: Path) -> Run:
    """Read a file that `objloc bench` wrote.

    Raises:
        InputError: If it cannot be read or is of another kind.
    """
    try:
        saved = json.loads(path.read_text())
        if saved["format"] != FORMAT:
            raise InputError(f"{path} has format {saved['format']!r}, expected {FORMAT}")
        rows = [_row(one) for one in saved["rows"]]
        return Run(str(saved["date"]), str(saved["command"]), dict(saved["machine"]), rows)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} cannot be read as a run of objloc bench: {error!r}") from error


def machine(gpu: str | None) -> dict[str, Any]:
    """Facts on where the numbers are taken, with the load before they are.

    Args:
        gpu: Name of the GPU, if one is measured.
    """
    return {
        "cpu": _cpu(),
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


def _cpu() -> str:
    """The processor's name, which Linux keeps in a file."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _document(row: Row) -> dict[str, Any]:
    stages = {
        stage: {"median_ms": row.median(stage), "quartiles_ms": list(row.quartiles(stage)), "rounds_ms": list(times)}
        for stage, times in row.rounds.items()
    }
    floors = {stage: {**asdict(floor), "ratio": row.over_floor(stage)} for stage, floor in row.floors.items()}
    return {**asdict(row.cell), "frames_per_s": row.frames_per_s(), "stages": stages, "floors": floors}


def _row(saved: Mapping[str, Any]) -> Row:
    cell = Cell(
        device=str(saved["device"]),
        backbone=str(saved["backbone"]),
        size=(int(saved["size"][0]), int(saved["size"][1])),
        method=str(saved["method"]),
        batch=int(saved["batch"]),
        cameras=int(saved["cameras"]),
    )
    rounds = {str(stage): [float(ms) for ms in one["rounds_ms"]] for stage, one in saved["stages"].items()}
    if not all(times and all(math.isfinite(ms) and ms >= 0 for ms in times) for times in rounds.values()):
        raise InputError(f"the rounds of {cell} are not numbers of milliseconds")
    if FRAME not in rounds:
        raise InputError(f"the row of {cell} has no stage {FRAME!r}")
    return Row(cell, rounds)
