"""A run for people: a table for the terminal, one in Markdown, and a picture."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from itertools import groupby

import numpy as np

from objloc_ros.benchmark.results import BenchmarkRun, CaseResult
from objloc_ros.io.tables import markdown_table, text_table
from objloc_ros.types import Image

NONE = "-"
TERMINAL_COLUMNS = 120

LEGEND = (
    "Milliseconds per frame, medians of the rounds; iqr: distance of the quartiles; x: how many times its roofline the "
    "stage before it takes, the least time that arithmetic and memory allow. Of several cameras: frame is the time "
    "between two results, the stages count waiting."
)

BOUNDED_STAGES = ("vit", "head")
"""Stages that may have a roofline."""

PICTURE_WIDTH, DPI = 12.8, 100
"""Inches, and pixels per inch."""


def format_text(run: BenchmarkRun) -> str:
    """Write a run in at most 120 columns: a table for each backbone, size and device."""
    stages = run.stages()
    header = ["method", "batch", "cams", "frame", "iqr", "1/s"]
    for stage in stages:
        header += [stage, "x"] if stage in BOUNDED_STAGES else [stage]
    lines = [*_wrap([*_facts(run), LEGEND]), ""]
    for title, results in _group(run.rows):
        rows = [header]
        for result in results:
            low, high = result.quartiles()
            row = [result.case.method, str(result.case.batch), str(result.case.cameras)]
            row += [_round(result.median()), _round(high - low), _round(result.frames_per_s())]
            for stage in stages:
                ratio = [_ratio(result, stage)] if stage in BOUNDED_STAGES else []
                row += [_median(result, stage), *ratio]
            rows.append(row)
        lines += [title, text_table(rows, left=1), *_wrap(_describe_rooflines(results)), ""]
    return "\n".join([*lines, *_wrap(_remarks(run))])


def format_markdown(run: BenchmarkRun) -> str:
    """Write machine, date, command and one table: medians in ms per frame, the frame's quartiles in brackets."""
    stages = run.stages()
    header = ["method", "backbone", "size", "batch", "cameras", "device", "frame", "frames/s", *stages]
    header += ["ViT roofline", "ViT / roofline", "head roofline", "head / roofline"]
    rows = []
    for result in run.rows:
        case, (low, high) = result.case, result.quartiles()
        row = [case.method, case.backbone, _size(result), case.batch, case.cameras, case.device]
        row += [f"{_round(result.median())} ({_round(low)}–{_round(high)})", _round(result.frames_per_s())]
        row += [_median(result, stage) for stage in stages]
        for stage in BOUNDED_STAGES:
            roofline = result.rooflines.get(stage)
            row += [NONE if roofline is None else _round(roofline.ms), _ratio(result, stage)]
        rows.append(row)
    rooflines = [line for _, results in _group(run.rows) for line in _describe_rooflines(results)]
    remarks = [f"- {line}" for line in dict.fromkeys((*rooflines, *_remarks(run)))]
    facts = " ".join((f"`{run.command}`, {run.date}:", *_facts(run)[1:]))
    return "\n".join([facts, "", markdown_table(header, rows), "", *remarks])


def draw(run: BenchmarkRun) -> Image:
    """Draw the stages of each case as a stacked bar, a panel for each backbone, size and device: RGB uint8.

    Raises:
        ImportError: If matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    stages, groups = run.stages(), _group(run.rows)
    counts = [len(results) for _, results in groups]
    figure = Figure(figsize=(PICTURE_WIDTH, 0.8 + sum(0.9 + 0.3 * count for count in counts)), dpi=DPI)
    figure.set_layout_engine("constrained")
    panels = figure.subplots(len(groups), squeeze=False, height_ratios=[1 + count for count in counts])[:, 0]
    for axes, (title, results) in zip(panels, groups, strict=True):
        labels = [_label(result) for result in results]
        ends = np.zeros(len(results))
        for stage in stages:
            lengths = [result.median(stage) if stage in result.rounds else 0.0 for result in results]
            axes.barh(range(len(results)), lengths, left=ends, label=stage)
            ends += lengths
        for place, (end, result) in enumerate(zip(ends, results, strict=True)):
            axes.text(end, place, f"  {_note(result)}", va="center")
        axes.set(title=title, xlabel="ms", xlim=(0, 1.25 * max(ends.max(), 1e-3)))
        axes.set_yticks(range(len(results)), labels)
        axes.invert_yaxis()
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper left", ncols=len(stages), frameon=False)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def _label(result: CaseResult) -> str:
    batch = f" x{result.case.batch}" if result.case.batch > 1 else ""
    cameras = f", {result.case.cameras} cameras" if result.case.cameras > 1 else ""
    return f"{result.case.method}{batch}{cameras}"


def _note(result: CaseResult) -> str:
    rate = f"{_round(result.frames_per_s())} frames/s"
    return f"{rate} in all" if result.case.cameras > 1 else f"{_round(result.median())} ms, {rate}"


def _facts(run: BenchmarkRun) -> list[str]:
    """Date and command; then the machine, in one line."""
    facts = run.machine
    names = ", ".join(f"{name} {facts.get(name)}" for name in ("torch", "numpy", "opencv", "python"))
    machine = f"{facts.get('cpu')}, {facts.get('cores')} cores, {facts.get('threads')} thread(s), "
    machine += f"{facts.get('gpu') or 'no GPU'}, {names}, load {facts.get('load')} at the start"
    return [f"{run.date}  {run.command}", machine]


def _remarks(run: BenchmarkRun) -> list[str]:
    """What is not in the table, and the rates behind the rooflines."""
    remarks = [f"left out: {text}" for text in run.left_out]
    reasons: dict[str, list[str]] = {}
    for case, reason in run.skipped:
        reasons.setdefault(reason, []).append(str(case))
    for reason, cases in reasons.items():
        remarks.append(f"skipped {len(cases)}: {reason}: {'; '.join(cases[:3])}{'; ...' if len(cases) > 3 else ''}")
    copies = [rate for rate in run.rates if "copy_gb_per_s" in rate]
    remarks += [f"copies on {rate['device']}: {rate['copy_gb_per_s']:.1f} GB/s read and written" for rate in copies]
    for rate in run.rates:
        if "gemm" in rate:
            size = "x".join(map(str, rate["gemm"]))
            remarks.append(f"products {size} in {rate['dtype']} on {rate['device']}: {rate['gflop_per_s']:.1f} GFLOP/s")
    return remarks


def _group(results: Iterable[CaseResult]) -> list[tuple[str, list[CaseResult]]]:
    """Group results by device, backbone and size, with a title each."""

    def title(result: CaseResult) -> str:
        return f"{result.case.backbone}, {_size(result)}, {result.case.device}"

    return [(name, list(group)) for name, group in groupby(results, key=title)]


def _describe_rooflines(results: Sequence[CaseResult]) -> list[str]:
    """Put the rooflines of a group into words, each once."""
    lines: dict[str, str] = {}
    for result in results:
        for stage, roofline in result.rooflines.items():
            of = "ViT" if stage == "vit" else f"head of {result.case.method}"
            attention = f", {_round(roofline.attention_flops / 1e9)} of them attention"
            work = f"{_round(roofline.flops / 1e9)} GFLOP{attention if roofline.attention_flops else ''}"
            work += f", {_round(roofline.bytes / 1e6)} MB; {roofline.gflop_per_s:.0f} GFLOP/s {roofline.dtype}"
            text = f"roofline of the {of}, {result.case.backbone}, {_size(result)}: {_round(roofline.ms)} ms ({work})"
            lines.setdefault(of, text)  # batches have nearly the same: they share the bytes of the weights
    return list(lines.values())


def _wrap(lines: Sequence[str]) -> list[str]:
    """Break lines at the width of a terminal, continued with an indent."""
    return [part for line in lines for part in textwrap.wrap(line, TERMINAL_COLUMNS, subsequent_indent="    ")]


def _size(result: CaseResult) -> str:
    return f"{result.case.size[1]}x{result.case.size[0]}"


def _median(result: CaseResult, stage: str) -> str:
    return _round(result.median(stage)) if stage in result.rounds else NONE


def _ratio(result: CaseResult, stage: str) -> str:
    ratio = result.over_roofline(stage)
    return NONE if ratio is None else f"{ratio:.1f}"


def _round(value: float) -> str:
    """Write three digits where they matter: 0.12, 1.23, 12.3, 1234."""
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"
