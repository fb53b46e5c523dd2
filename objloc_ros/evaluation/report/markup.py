"""Tables as Markdown, LaTeX and JSON, and how numbers are put into words: the same in every format."""

from __future__ import annotations

import re
from dataclasses import asdict
from itertools import groupby
from typing import Any

from objloc_ros.evaluation.report.published import Published
from objloc_ros.evaluation.report.tables import KINDS, METHODS, Place, ReportTable, TableCell, TableReport
from objloc_ros.io.tables import markdown_table

NONE = "–"

PROTOCOLS = (
    "maxF SelfMask: the mean over images of each image's best F, effective β² 0.09 (as in SelfMask and FOUND); "
    "maxF TokenCut: the best over thresholds of F averaged over images, β² 0.3. They are not comparable."
)

BY_RANK = (
    "AP by rank, as in LOD: the first objects of all images count alike, then the second ones; no score is compared "
    "between images. It is not COCO's AP."
)


def format_percent(fraction: float) -> str:
    """Write a fraction in percent, with the papers' one decimal."""
    return f"{100 * fraction:.1f}"


def format_published(published: Published | None) -> str:
    """Write a published number in percent; a dash if there is none."""
    return NONE if published is None else format_percent(published.value)


def format_cell(cell: TableCell | None) -> str:
    """Write measured / published; nothing where there is neither."""
    if cell is None:
        return ""
    measured = NONE if cell.measured is None else format_percent(cell.measured)
    part = "" if cell.images is None else f" (n={cell.images})"
    return f"{measured}{part} / {format_published(cell.published)}"


def list_headers(table: ReportTable) -> list[str]:
    """List the names of the columns of numbers: data set and metric, or only the data set in a table of one metric."""
    metrics = KINDS[table.name].metrics
    return [place.title + (f" {metrics[metric]}" if len(metrics) > 1 else "") for place, metric in table.columns]


def list_label_columns(table: ReportTable) -> list[str]:
    """List the names of the columns in front of the numbers; that of settings is left out where there are none."""
    return ["method", "backbone", *(["settings"] if any(row.settings for row in table.rows) else [])]


def list_labels(table: ReportTable) -> list[list[str]]:
    """List what stands in front of the numbers of each row."""
    width = len(list_label_columns(table))
    return [[METHODS.get(row.method, row.method), row.backbone, row.settings][:width] for row in table.rows]


def list_notes(table: ReportTable) -> list[str]:
    """List what has to be said below a table."""
    cells = [cell for row in table.rows for cell in row.cells if cell is not None]
    lines = ["Percent, measured / published."]
    sources = dict.fromkeys(cell.published.source for cell in cells if cell.published is not None)
    if sources:
        lines.append(f"Published figures: {'; '.join(sources)}.")
    if any(cell.images is not None for cell in cells):
        lines.append(format_part_note(list(dict.fromkeys(place for place, _ in table.columns))))
    if sum(metric.startswith("maxf_") for metric in {metric for _, metric in table.columns}) > 1:
        lines.append(PROTOCOLS)
    if any(metric.startswith("rank_") for _, metric in table.columns):
        lines.append(BY_RANK)
    return [*lines, *(f"{remark}." for remark in table.remarks)]


def format_part_note(places: list[Place]) -> str:
    """Say what n stands for, with the sizes of the whole data sets."""
    sizes = [f"{place.title} has {place.images}" for place in places if place.images is not None]
    said = f" ({', '.join(sizes)})" if sizes else ""
    return f"n: number of images of a run that is not known to be of the whole data set{said}."


def list_remarks(report: TableReport) -> list[str]:
    """List what has to be said below all tables."""
    lines = [f"In no table, for want of a column: {folder}" for folder in report.left_out]
    return lines + [f"Could not be used: {path}: {reason}" for path, reason in report.refused]


_MARKDOWN = re.compile(r"([\\`*\[\]|~]|(?<![^\W_])_|_(?![^\W_]))")
"""What Markdown would not leave as it is; an underscore inside a word is left."""

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "“": "``",
    "”": "''",
    "–": "--",
    "β": r"$\beta$",
    "²": r"$^2$",
    "±": r"$\pm$",
    **{character: f"\\{character}" for character in "{}$&#%_"},
}


def format_markdown(report: TableReport) -> str:
    """Write headings, tables and notes in GitHub's Markdown."""
    blocks = []
    for table in report.tables:
        heads = [*list_label_columns(table), *list_headers(table)]
        rows = [
            [*label, *map(format_cell, row.cells)] for label, row in zip(list_labels(table), table.rows, strict=True)
        ]
        cells = [[escape_markdown(text) for text in row] for row in rows]
        lines = markdown_table(list(map(escape_markdown, heads)), cells, left=len(list_label_columns(table)))
        below = "\n".join(f"- {escape_markdown(note)}" for note in list_notes(table))
        blocks += [f"## {KINDS[table.name].title}", lines, below]
    said = [f"- {escape_markdown(remark)}" for remark in list_remarks(report)]
    blocks += ["## Not in the tables", "\n".join(said)] if said else []
    return "\n\n".join(blocks) + "\n"


def format_latex(report: TableReport) -> str:
    """Write floating tables with the rules of booktabs, to be put into a document."""
    blocks = [r"% needs \usepackage{booktabs}"]
    blocks += ["\n".join(_format_latex_table(table)) for table in report.tables]
    blocks += [f"% {_to_line(remark)}" for remark in list_remarks(report)]
    return "\n\n".join(blocks) + "\n"


def to_json(report: TableReport) -> dict[str, Any]:
    """Return the tables for programs: fractions, None where there is no number."""
    return {
        "tables": {
            table.name: [_row_to_json(table, number) for number in range(len(table.rows))] for table in report.tables
        },
        "left_out": list(report.left_out),
        "refused": dict(report.refused),
    }


def escape_markdown(text: str) -> str:
    """Make text that Markdown shows as it is, in one line."""
    safe = _to_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN.sub(r"\\\1", safe)


def escape_latex(text: str) -> str:
    """Make text that LaTeX sets as it is, in one line."""
    return "".join(_LATEX.get(character, character) for character in _to_line(text))


def _to_line(text: str) -> str:
    """Reduce text to one line of printable characters."""
    return "".join(character for character in " ".join(text.split()) if character.isprintable())


def _format_latex_table(table: ReportTable) -> list[str]:
    front = list_label_columns(table)
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{escape_latex(KINDS[table.name].title)}}}"]
    lines += [rf"\begin{{tabular}}{{{'l' * len(front)}{'r' * len(table.columns)}}}", r"\toprule"]
    metrics = KINDS[table.name].metrics
    heads = list_headers(table)
    if len(metrics) > 1:
        lines += _format_latex_groups(table, len(front))
        heads = [metrics[metric] for _, metric in table.columns]
    lines += [_join_latex([*front, *heads]), r"\midrule"]
    for label, row in zip(list_labels(table), table.rows, strict=True):
        lines.append(_join_latex([*label, *map(format_cell, row.cells)]))
    lines += [r"\bottomrule", r"\end{tabular}", r"\par\footnotesize"]
    lines += [rf"{escape_latex(note)}\par" for note in list_notes(table)]
    return [*lines, r"\end{table}"]


def _format_latex_groups(table: ReportTable, start: int) -> list[str]:
    """Write the data sets above their metrics, and the rules below them."""
    heads, rules = [""] * start, []
    for place, columns in groupby(table.columns, key=lambda column: column[0]):
        width = len(list(columns))
        heads.append(rf"\multicolumn{{{width}}}{{c}}{{{escape_latex(place.title)}}}")
        rules.append(rf"\cmidrule(lr){{{start + 1}-{start + width}}}")
        start += width
    return [" & ".join(heads) + r" \\", " ".join(rules)]


def _join_latex(cells: list[str]) -> str:
    return " & ".join(map(escape_latex, cells)) + r" \\"


def _row_to_json(table: ReportTable, number: int) -> dict[str, Any]:
    row = table.rows[number]
    cells = [
        {"dataset": place.benchmark or place.title, "metric": metric, **asdict(cell)}
        for (place, metric), cell in zip(table.columns, row.cells, strict=True)
        if cell is not None
    ]
    return {"method": row.method, "backbone": row.backbone, "settings": row.settings, "cells": cells}
