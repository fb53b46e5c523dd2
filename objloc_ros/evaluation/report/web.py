"""HTML from the templates beside this file: every value is escaped, everything a page needs is inside it."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from objloc_ros.evaluation.report.tables import KINDS, Report, Table
from objloc_ros.evaluation.report.wording import cell_text, header_texts, label_columns, labels, notes, remarks

TEMPLATES = Path(__file__).with_name("templates")


def render(template: str, **values: Any) -> str:
    """Fill in a template; plain text is escaped, `Markup` is taken as it is.

    Args:
        template: File name in `templates/`.
        values: What it asks for; one that is missing is an error.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    style = Markup((TEMPLATES / "style.css").read_text(encoding="utf-8"))  # our own file
    return environment.get_template(template).render(style=style, **values)


def tables_page(report: Report, title: str = "Evaluation results") -> str:
    """All tables of a report as one page."""
    return render("tables.html", title=title, tables=[_table(t) for t in report.tables], remarks=remarks(report))


def _table(table: Table) -> dict[str, Any]:
    metrics = KINDS[table.name].metrics
    several = len(metrics) > 1
    groups = [(place.title, len(list(some))) for place, some in groupby(table.columns, key=lambda column: column[0])]
    return {
        "name": table.name,
        "title": KINDS[table.name].title,
        "front": label_columns(table),
        "groups": groups if several else [],
        "heads": [metrics[metric] for _, metric in table.columns] if several else header_texts(table),
        "rows": [(front, map(cell_text, row.cells)) for front, row in zip(labels(table), table.rows, strict=True)],
        "notes": notes(table),
    }
