"""Tables as Markdown and LaTeX, and as JSON for programs."""

from __future__ import annotations

import re
from dataclasses import asdict
from itertools import groupby
from typing import Any

from objloc_ros.evaluation.report.tables import KINDS, Report, Table
from objloc_ros.evaluation.report.wording import cell_text, header_texts, label_columns, labels, notes, remarks

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
