"""What bench/gpu.py found out: as Markdown, as JSON, and beside the aims."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from objloc_ros.io.tables import markdown_table

Row = dict[str, Any]
"""A line of a section's table: cells by their column's name."""


class LeftOut(str):
    """What a section did not do, and why."""


class Failure(str):
    """A row that could not be made, and what went wrong."""


Message = Row | LeftOut | Failure
"""What a section yields."""


@dataclass
class Outcome:
    """What became of a section.

    Args:
        name: Its name.
        title: Its heading.
        explanation: What the columns mean.
        rows: Its table.
        left_out: What is missing, in words.
        failures: What went wrong without ending the section.
        error: Why it broke off, if it did.
        seconds: How long it took.
    """

    name: str
    title: str
    explanation: str
    rows: list[Row] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    error: str | None = None
    seconds: float = 0.0


class Aim(NamedTuple):
    """A figure that the project aims at.

    Args:
        text: What it is of.
        wanted: The figure, in words.
        section: Where it is measured.
        where: Cells of the row that it is read from.
        column: Of that row.
        is_met: Whether a value is good enough.
    """

    text: str
    wanted: str
    section: str
    where: Mapping[str, Any]
    column: str
    is_met: Callable[[float], bool]


def _rate(text: str, least: float, **where: object) -> Aim:
    return Aim(text, f"at least {least:,} frames/s", "speed", where, "frames/s", lambda value: value >= least)


_EIGHT = {"method": "found", "backbone": "random:dino_vits8", "cameras": 8}
AIMS = (
    _rate("FOUND, ViT-S/8, batch 1", 400, method="found", backbone="random:dino_vits8", batch=1),
    _rate("FOUND, ViT-S/16, batch 1", 1000, method="found", backbone="random:dino_vits16", batch=1),
    _rate("TokenCut, ViT-S/16, batch 1", 300, method="tokencut", backbone="random:dino_vits16", batch=1),
    _rate(
        "MaskCut, ViT-S/8, 480×480, batch 8",
        80,
        method="maskcut",
        backbone="random:dino_vits8",
        size="480x480",
        batch=8,
    ),
    _rate("CLIP-DIY, 59 windows, ViT-B/32, batch 1", 100, method="clip_diy", clip="random:clip_vitb32", batch=1),
    Aim("FOUND, ViT-S/8, 8 cameras at 30 Hz: dropped", "0 frames", "cameras", _EIGHT, "dropped", lambda n: n == 0),
    Aim(
        "FOUND, ViT-S/8, 8 cameras at 30 Hz: age p99", "below 50 ms", "cameras", _EIGHT, "age p99 ms", lambda t: t < 50
    ),
)
"""640×480 on the host to boxes and mask on the host."""


def judge(outcomes: Sequence[Outcome]) -> list[Row]:
    """Compare what was measured, at the parameters' defaults, with the aims."""
    by_name = {outcome.name: outcome for outcome in outcomes}
    rows = []
    for aim in AIMS:
        found = [row for row in by_name[aim.section].rows if _is_of(row, aim)] if aim.section in by_name else []
        values = [row[aim.column] for row in found if row.get("settings", "") == ""]
        verdict = "not measured" if not values else "met" if aim.is_met(values[0]) else "missed"
        rows.append(
            {"aim": aim.text, "wanted": aim.wanted, "measured": values[0] if values else None, "verdict": verdict}
        )
    return rows


def _is_of(row: Row, aim: Aim) -> bool:
    return all(row.get(name) == value for name, value in aim.where.items()) and aim.column in row


def format_report(about: Mapping[str, Any], outcomes: Sequence[Outcome]) -> str:
    """Write the report in Markdown."""
    is_gpu = about["gpu"] is not None
    lines = [f"# {'On a GPU' if is_gpu else 'A run on a CPU'}", "", f"`{about['command']}`, {about['date']}:", ""]
    lines += [f"- {name}: {value}" for name, value in about.items() if name not in ("command", "date")]
    if not is_gpu:
        lines += [
            "",
            "**Made on a CPU: it shows that the command works, and says nothing about any GPU.**",
        ]
    else:
        lines += ["", "## The aims", "", _table(judge(outcomes))]
    for outcome in outcomes:
        lines += ["", f"## {outcome.title}", "", f"{outcome.explanation} {outcome.seconds:.0f} s in all.", ""]
        lines += [_table(outcome.rows)] if outcome.rows else ["No rows."]
        if outcome.error:
            lines += ["", f"**Broke off:** {outcome.error}"]
        remarks = [f"- **failed:** {text}" for text in outcome.failures]
        remarks += [f"- left out: {text}" for text in outcome.left_out]
        lines += ["", *remarks] if remarks else []
    return "\n".join(lines) + "\n"


def _table(rows: Sequence[Row]) -> str:
    header = list(dict.fromkeys(name for row in rows for name in row))
    return markdown_table(header, [[_cell(row.get(name)) for name in header] for row in rows])


def _cell(value: object) -> str:
    if value is None or value == "":
        return "–"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"
    return str(value)
