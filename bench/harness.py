"""Side-by-side timing: two formulations take turns in one process, so that both see the same machine."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

import torch

from objloc_ros.benchmark import results
from objloc_ros.io.tables import text_table


@dataclass(frozen=True)
class Pair:
    """One comparison.

    Args:
        name: What was computed.
        literal_ms: Best wall time of the literal formulation.
        ours_ms: Best wall time of the product's.
        agreement: How the results compare, in words.
        wanted: The ratio that the project aims at.
        rounds: Wall milliseconds of every round, (literal, ours).
    """

    name: str
    literal_ms: float
    ours_ms: float
    agreement: str
    wanted: float
    rounds: list[tuple[float, float]] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """How many times faster the product's formulation is."""
        return self.literal_ms / self.ours_ms


def compare(
    name: str,
    literal: Callable[[], Any],
    ours: Callable[[], Any],
    agreement: Callable[[Any, Any], str],
    *,
    wanted: float,
    rounds: int,
) -> Pair:
    """Time two formulations in turns, after one untimed call of each whose results are compared."""
    verdict = agreement(literal(), ours())
    gc.collect()
    times = [(wall_ms(literal), wall_ms(ours)) for _ in range(rounds)]
    best_literal, best_ours = (min(column) for column in zip(*times, strict=True))
    return Pair(name, best_literal, best_ours, verdict, wanted, times)


def run_apart(*arguments: str) -> tuple[float, float]:
    """Run `objloc` in a process of its own: seconds, and the most resident memory in megabytes."""
    command = [sys.executable, "-m", "objloc_ros.cli.main", *arguments]
    began = time.perf_counter()
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return time.perf_counter() - began, usage.ru_maxrss / 1024


def wall_ms(function: Callable[[], Any]) -> float:
    """Milliseconds of one call."""
    start = time.perf_counter()
    function()
    return (time.perf_counter() - start) * 1e3


def machine() -> str:
    """One line on where the numbers were taken."""
    facts = results.describe_machine(torch.cuda.get_device_name() if torch.cuda.is_available() else None)
    versions = ", ".join(f"{name} {facts[name]}" for name in ("torch", "numpy", "opencv"))
    place = f"{facts['cpu']}, {facts['cores']} cores, {facts['gpu'] or 'no GPU'}"
    return f"{place}, {versions}, load {facts['load']:.1f} at the start"


def print_pairs(pairs: list[Pair]) -> None:
    """Print a table with a ratio column."""
    rows: list[tuple[str, ...]] = [("", "agreement", "literal", "ours", "ratio", "wanted")]
    for pair in pairs:
        times = f"{pair.literal_ms:.1f} ms", f"{pair.ours_ms:.2f} ms"
        rows.append((pair.name, pair.agreement, *times, f"{pair.ratio:.1f}x", f"{pair.wanted:g}x"))
    print(text_table(rows, left=2))


def write_json(path: Path, **sections: Any) -> None:
    """Write the numbers; a dataclass becomes a dictionary, a `Pair` with its ratio."""
    path.write_text(json.dumps(sections, indent=2, default=_plain) + "\n")


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {**asdict(value), **({"ratio": value.ratio} if isinstance(value, Pair) else {})}
    raise TypeError(f"{type(value).__name__} has no JSON form")
