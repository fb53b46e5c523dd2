"""How tables and pages put numbers into words: the same in every format."""

from __future__ import annotations

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
