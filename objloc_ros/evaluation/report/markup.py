"""Tables as Markdown, LaTeX and JSON, and how numbers are put into words: the same in every format."""

from __future__ import annotations

import re
from dataclasses import asdict
from itertools import groupby
from typing import Any

from objloc_ros.evaluation.report.published import MEMORY, Published
from objloc_ros.evaluation.report.tables import KINDS, METHODS, Cell, Place, Report, Table

DAGGER = "†"
NONE = "–"

PROTOCOLS = (
    "maxF SelfMask: the mean over images of each image's best F, effective β² 0.09 (as in SelfMask and FOUND); "
    "maxF TokenCut: the best over thresholds of F averaged over images, β² 0.3. They are not comparable."
)


def percent(fraction: float) -> str:
    """A fraction in percent, with the papers' one decimal."""
    return f"{100 * fraction:.1f}"


def published_text(published: Published | None) -> str:
    """A published number in percent, marked if it is from memory; a dash if there is none."""
    if published is None:
        return NONE
    return percent(published.value) + (DAGGER if published.from_memory else "")


def cell_text(cell: Cell | None) -> str:
    """Measured / published; nothing where there is neither."""
    if cell is None:
        return ""
    measured = NONE if cell.measured is None else percent(cell.measured)
    part = "" if cell.images is None else f" (n={cell.images})"
    return f"{measured}{part} / {published_text(cell.published)}"


def header_texts(table: Table) -> list[str]:
    """Names of the columns of numbers, the data set's and the metric's, or only the data set's in a table of one."""
    metrics = KINDS[table.name].metrics
    return [place.title + (f" {metrics[metric]}" if len(metrics) > 1 else "") for place, metric in table.columns]


def label_columns(table: Table) -> list[str]:
    """Names of the columns in front of the numbers; that of settings is left out where there are none."""
    return ["method", "backbone", *(["settings"] if any(row.settings for row in table.rows) else [])]


def labels(table: Table) -> list[list[str]]:
    """What stands in front of the numbers of each row."""
    width = len(label_columns(table))
    return [[METHODS.get(row.method, row.method), row.backbone, row.settings][:width] for row in table.rows]


def notes(table: Table) -> list[str]:
    """What has to be said below a table."""
    cells = [cell for row in table.rows for cell in row.cells if cell is not None]
    lines = ["Percent, measured / published."]
    if any(cell.published is not None and cell.published.from_memory for cell in cells):
        lines.append(f"{DAGGER}: {MEMORY}.")
    if any(cell.images is not None for cell in cells):
        lines.append(part_note(list(dict.fromkeys(place for place, _ in table.columns))))
    if sum(metric.startswith("maxf_") for metric in {metric for _, metric in table.columns}) > 1:
        lines.append(PROTOCOLS)
    return [*lines, *(f"{remark}." for remark in table.remarks)]


def part_note(places: list[Place]) -> str:
    """What n stands for, with the sizes of the whole data sets."""
    sizes = [f"{place.title} has {place.images}" for place in places if place.images is not None]
    said = f" ({', '.join(sizes)})" if sizes else ""
    return f"n: number of images of a run that is not known to be of the whole data set{said}."


def remarks(report: Report) -> list[str]:
    """What has to be said below all tables."""
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
    "†": r"$^\dagger$",
    "–": "--",
    "β": r"$\beta$",
    "²": r"$^2$",
    "±": r"$\pm$",
    **{character: f"\\{character}" for character in "{}$&#%_"},
}


def markdown(report: Report) -> str:
    """Headings, tables and notes in GitHub's Markdown."""
    blocks = []
    for table in report.tables:
        heads = [*label_columns(table), *header_texts(table)]
        rules = ["---"] * len(label_columns(table)) + ["---:"] * len(table.columns)
        rows = [[*label, *map(cell_text, row.cells)] for label, row in zip(labels(table), table.rows, strict=True)]
        lines = [_piped(map(markdown_text, heads)), _piped(rules), *(_piped(map(markdown_text, row)) for row in rows)]
        below = "\n".join(f"- {markdown_text(note)}" for note in notes(table))
        blocks += [f"## {KINDS[table.name].title}", "\n".join(lines), below]
    said = [f"- {markdown_text(remark)}" for remark in remarks(report)]
    blocks += ["## Not in the tables", "\n".join(said)] if said else []
    return "\n\n".join(blocks) + "\n"


def latex(report: Report) -> str:
    """Floating tables with the rules of booktabs, to be put into a document."""
    blocks = [r"% needs \usepackage{booktabs}"]
    blocks += ["\n".join(_latex_table(table)) for table in report.tables]
    blocks += [f"% {_line(remark)}" for remark in remarks(report)]
    return "\n\n".join(blocks) + "\n"


def to_json(report: Report) -> dict[str, Any]:
    """The tables for programs: fractions, None where there is no number."""
    return {
        "tables": {
            table.name: [_json_row(table, number) for number in range(len(table.rows))] for table in report.tables
        },
        "left_out": list(report.left_out),
        "refused": dict(report.refused),
    }


def markdown_text(text: str) -> str:
    """Text that Markdown shows as it is, in one line."""
    safe = _line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKDOWN.sub(r"\\\1", safe)


def latex_text(text: str) -> str:
    """Text that LaTeX sets as it is, in one line."""
    return "".join(_LATEX.get(character, character) for character in _line(text))


def _line(text: str) -> str:
    """One line of printable characters."""
    return "".join(character for character in " ".join(text.split()) if character.isprintable())


def _piped(cells: Any) -> str:
    return "| " + " | ".join(cells) + " |"


def _latex_table(table: Table) -> list[str]:
    front = label_columns(table)
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{latex_text(KINDS[table.name].title)}}}"]
    lines += [rf"\begin{{tabular}}{{{'l' * len(front)}{'r' * len(table.columns)}}}", r"\toprule"]
    metrics = KINDS[table.name].metrics
    heads = header_texts(table)
    if len(metrics) > 1:
        lines += _latex_groups(table, len(front))
        heads = [metrics[metric] for _, metric in table.columns]
    lines += [_ruled([*front, *heads]), r"\midrule"]
    for label, row in zip(labels(table), table.rows, strict=True):
        lines.append(_ruled([*label, *map(cell_text, row.cells)]))
    lines += [r"\bottomrule", r"\end{tabular}", r"\par\footnotesize"]
    lines += [rf"{latex_text(note)}\par" for note in notes(table)]
    return [*lines, r"\end{table}"]


def _latex_groups(table: Table, start: int) -> list[str]:
    """The data sets above their metrics, and the rules below them."""
    heads, rules = [""] * start, []
    for place, columns in groupby(table.columns, key=lambda column: column[0]):
        width = len(list(columns))
        heads.append(rf"\multicolumn{{{width}}}{{c}}{{{latex_text(place.title)}}}")
        rules.append(rf"\cmidrule(lr){{{start + 1}-{start + width}}}")
        start += width
    return [" & ".join(heads) + r" \\", " ".join(rules)]


def _ruled(cells: list[str]) -> str:
    return " & ".join(map(latex_text, cells)) + r" \\"


def _json_row(table: Table, number: int) -> dict[str, Any]:
    row = table.rows[number]
    cells = [
        {"dataset": place.benchmark or place.title, "metric": metric, **asdict(cell)}
        for (place, metric), cell in zip(table.columns, row.cells, strict=True)
        if cell is not None
    ]
    return {"method": row.method, "backbone": row.backbone, "settings": row.settings, "cells": cells}
