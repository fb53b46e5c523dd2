"""A run for people: a table for the terminal, one in Markdown, and a picture."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import groupby

from objloc_ros.benchmark.results import Row, Run
from objloc_ros.io.bar_chart import Bar, Panel, stacked_bars
from objloc_ros.types import Image

NONE = "-"
COLUMNS = 120
"""Of a terminal."""

LEGEND = (
    "Milliseconds per frame, medians of the rounds; iqr: distance of the quartiles; x: how many times its floor the "
    "stage before it takes. Of several cameras: frame is the time between two answers, the stages count waiting."
)


def text_table(run: Run) -> str:
    """The run in at most 120 columns: a block for each backbone, size and device."""
    stages = run.stages()
    lines = [*_wrapped([*_facts(run), LEGEND]), ""]
    head = f"{'method':14}{'batch':>6}{'cams':>5}{'frame ms':>9}{'iqr':>6}{'1/s':>6}"
    head += "".join(f"{stage:>8}" + (f"{'x':>5}" if stage in ("vit", "head") else "") for stage in stages)
    for title, rows in _blocks(run.rows):
        lines += [title, head]
        for row in rows:
            low, high = row.quartiles()
            cells = f"{row.cell.method:14}{row.cell.batch:6}{row.cell.cameras:5}"
            cells += f"{_digits(row.median()):>9}{_digits(high - low):>6}{_digits(row.frames_per_s()):>6}"
            for stage in stages:
                cells += f"{_median(row, stage):>8}"
                if stage in ("vit", "head"):
                    cells += f"{_over_floor(row, stage):>5}"
            lines.append(cells)
        lines += [*_wrapped(_floors(rows)), ""]
    return "\n".join([*lines, *_wrapped(_remarks(run))])


def markdown(run: Run) -> str:
    """Machine, date, command and one table: medians in ms per frame, the frame's quartiles in brackets."""
    stages = run.stages()
    columns = ["method", "backbone", "size", "batch", "cameras", "device", "frame", "frames/s", *stages]
    columns += ["ViT floor", "ViT / floor", "head floor", "head / floor"]
    lines = [" ".join((f"`{run.command}`, {run.date}:", *_facts(run)[1:])), ""]
    lines += ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for row in run.rows:
        cell, (low, high) = row.cell, row.quartiles()
        values = [cell.method, cell.backbone, _size(row), str(cell.batch), str(cell.cameras), cell.device]
        values += [f"{_digits(row.median())} ({_digits(low)}–{_digits(high)})", _digits(row.frames_per_s())]
        values += [_median(row, stage) for stage in stages]
        for stage in ("vit", "head"):
            floor = row.floors.get(stage)
            values += [NONE if floor is None else _digits(floor.ms), _over_floor(row, stage)]
        lines.append("| " + " | ".join(values) + " |")
    floors = [line for _, rows in _blocks(run.rows) for line in _floors(rows)]
    return "\n".join([*lines, "", *(f"- {line}" for line in dict.fromkeys((*floors, *_remarks(run))))])


def picture(run: Run) -> Image:
    """The stages of each row as a stacked bar, a panel for each backbone, size and device: RGB uint8."""
    stages = run.stages()
    panels = []
    for title, rows in _blocks(run.rows):
        bars = []
        for row in rows:
            parts = [row.median(stage) if stage in row.rounds else 0.0 for stage in stages]
            several = f" x{row.cell.batch}" if row.cell.batch > 1 else ""
            several += f", {row.cell.cameras} cameras" if row.cell.cameras > 1 else ""
            rate = f"{_digits(row.frames_per_s())} frames/s"
            note = f"{_digits(row.median())} ms, {rate}" if row.cell.cameras == 1 else f"{rate} in all"
            bars.append(Bar(f"{row.cell.method}{several}", parts, note))
        panels.append(Panel(title, bars))
    return stacked_bars(panels, stages, unit="ms")


def _facts(run: Run) -> list[str]:
    """Date and command; then the machine, in one line."""
    facts = run.machine
    names = ", ".join(f"{name} {facts.get(name)}" for name in ("torch", "numpy", "opencv", "python"))
    machine = f"{facts.get('cpu')}, {facts.get('cores')} cores, {facts.get('threads')} thread(s), "
    machine += f"{facts.get('gpu') or 'no GPU'}, {names}, load {facts.get('load')} at the start"
    return [f"{run.date}  {run.command}", machine]


def _remarks(run: Run) -> list[str]:
    """What is not in the table, and the rates behind the floors."""
    remarks = [f"left out: {text}" for text in run.left_out]
    reasons: dict[str, list[str]] = {}
    for cell, reason in run.skipped:
        reasons.setdefault(reason, []).append(str(cell))
    for reason, cells in reasons.items():
        remarks.append(f"skipped {len(cells)}: {reason}: {'; '.join(cells[:3])}{'; ...' if len(cells) > 3 else ''}")
    copies = [rate for rate in run.rates if "copy_gb_per_s" in rate]
    remarks += [f"copies on {rate['device']}: {rate['copy_gb_per_s']:.1f} GB/s read and written" for rate in copies]
    for rate in run.rates:
        if "gemm" in rate:
            size = "x".join(map(str, rate["gemm"]))
            remarks.append(f"products {size} in {rate['dtype']} on {rate['device']}: {rate['gflop_per_s']:.1f} GFLOP/s")
    return remarks


def _blocks(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """Rows by device, backbone and size, with a title each."""

    def title(row: Row) -> str:
        return f"{row.cell.backbone}, {_size(row)}, {row.cell.device}"

    return [(name, list(each)) for name, each in groupby(rows, key=title)]


def _floors(rows: Sequence[Row]) -> list[str]:
    """The floors of a block in words, each once."""
    lines: dict[str, str] = {}
    for row in rows:
        for stage, floor in row.floors.items():
            of = "ViT" if stage == "vit" else f"head of {row.cell.method}"
            attention = f", {_digits(floor.attention_flops / 1e9)} of them attention" if floor.attention_flops else ""
            work = f"{_digits(floor.flops / 1e9)} GFLOP{attention}, {_digits(floor.bytes / 1e6)} MB"
            rate = f"{floor.gflop_per_s:.0f} GFLOP/s {floor.dtype}"
            text = f"floor of the {of}, {row.cell.backbone}, {_size(row)}: {_digits(floor.ms)} ms ({work}; {rate})"
            lines.setdefault(of, text)  # batches have nearly the same: they share the bytes of the weights
    return list(lines.values())


def _wrapped(lines: Sequence[str]) -> list[str]:
    """Lines of at most `COLUMNS`, continued with an indent."""
    return [part for line in lines for part in textwrap.wrap(line, COLUMNS, subsequent_indent="    ")]


def _size(row: Row) -> str:
    return f"{row.cell.size[1]}x{row.cell.size[0]}"


def _median(row: Row, stage: str) -> str:
    return _digits(row.median(stage)) if stage in row.rounds else NONE


def _over_floor(row: Row, stage: str) -> str:
    ratio = row.over_floor(stage)
    return NONE if ratio is None else f"{ratio:.1f}"


def _digits(value: float) -> str:
    """Three digits where they matter: 0.12, 1.23, 12.3, 1234."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"
