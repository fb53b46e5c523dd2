"""One page about one run: what was measured beside what was published, plots, and the best and the worst images.

Every value is escaped, and everything a page needs is inside it. Plots are SVG: text stays text, and lines take the
colour of the page's text.
"""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
import numpy.typing as npt
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from objloc_ros.errors import InputError, ObjlocError
from objloc_ros.evaluation.report.markup import (
    NONE,
    PROTOCOLS,
    format_cell,
    format_part_note,
    format_percent,
    format_published,
    list_headers,
    list_label_columns,
    list_labels,
    list_notes,
    list_remarks,
)
from objloc_ros.evaluation.report.published import Published, find_published
from objloc_ros.evaluation.report.results import RunResult, parse_result
from objloc_ros.evaluation.report.tables import KINDS, METHODS, ReportTable, TableReport, count_if_partial, find_place
from objloc_ros.io.contact_sheet import fit_image
from objloc_ros.io.files import is_number, write_text
from objloc_ros.types import Image, check_image

_INK = "#010203"
"""Stands for the page's colour of text, which follows the reader's choice of dark or light."""

BLUE, ORANGE, GREEN = "#4a7fb5", "#d9822b", "#3f9c6e"
"""Readable on white and on black."""

_WIDTH, _HEIGHT = 5.2, 2.9
"""Inches, at 72 units each."""

_STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK),
}

_DROPPED = re.compile(r"<metadata>.*?</metadata>|<\?xml[^>]*>|<!DOCTYPE[^>]*>|<!--.*?-->|<style.*?</style>", re.DOTALL)


def draw_histogram(scores: Sequence[float], label: str) -> str:
    """Draw how many images have which score.

    Args:
        scores: Finite; at least one.
        label: What the plot shows, for those who do not see it.

    Returns:
        An `<svg>` element. The axis is [0, 1] where the scores fit, else their range; a line marks their mean.
    """
    values = np.asarray(scores, np.float64)
    ends = (0.0, 1.0) if values.min() >= 0 and values.max() <= 1 else (float(values.min()), float(values.max()))

    def draw(axes: Axes) -> None:
        axes.hist(values, bins=20, range=ends, color=BLUE, rwidth=0.92)
        axes.axvline(values.mean(), color=ORANGE, linestyle="--", label=f"mean {values.mean():.3f}")
        axes.set(xlabel="score of an image", ylabel="images")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(frameon=False)

    return _draw_svg(draw, label)


def draw_curves(lines: Mapping[str, npt.NDArray[np.float64]], label: str) -> str:
    """Draw fractions over thresholds.

    Args:
        lines: By name, [T] each: the value at threshold i / T.
        label: What the plot shows, for those who do not see it.
    """

    def draw(axes: Axes) -> None:
        for (name, values), colour, style in zip(lines.items(), (BLUE, ORANGE, GREEN), ("-", "--", ":"), strict=False):
            axes.plot(np.arange(len(values)) / len(values), values, style, color=colour, label=name)
        axes.set(xlabel="threshold", xlim=(0, 1), ylim=(0, 1.02))
        axes.legend(frameon=False)

    return _draw_svg(draw, label)


def draw_bars(values: Mapping[str, float | None], label: str) -> str:
    """Draw a horizontal bar of a fraction for each name, the highest on top; without one there is no bar.

    Args:
        values: In [0, 1] by name; at least one.
        label: What the plot shows, for those who do not see it.
    """
    order = sorted(values, key=lambda name: -1.0 if values[name] is None else float(values[name] or 0.0))
    lengths = [values[name] for name in order]

    def draw(axes: Axes) -> None:
        axes.barh(range(len(order)), [length or 0.0 for length in lengths], color=BLUE)
        for place, length in enumerate(lengths):
            axes.text((length or 0.0) + 0.01, place, "–" if length is None else f"{100 * length:.1f}", va="center")
        axes.set(xlim=(0, 1.08), ylim=(-0.6, len(order) - 0.4), xlabel="IoU")
        axes.set_yticks(range(len(order)), order)

    return _draw_svg(draw, label, height=0.9 + 0.21 * len(order))


def _draw_svg(draw: Callable[[Axes], None], label: str, height: float = _HEIGHT) -> str:
    """Draw on a figure of its own, and tidy up what matplotlib writes: it is meant for a file of its own."""
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": label}):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        draw(figure.subplots())
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = _DROPPED.sub("", file.getvalue()).replace(_INK, "currentColor")
    text = re.sub(r'<g id="[^"]*"', "<g", text).replace("xlink:href", "href")
    box = re.search(r'viewBox="[^"]*"', text)
    opening = f'<svg {box.group() if box else ""} role="img" aria-label="{escape(label)}">'
    return (opening + text[text.index(">", text.index("<svg")) + 1 :]).strip()


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


def render_tables(report: TableReport, title: str = "Evaluation results") -> str:
    """Render all tables of a report as one page."""
    return render(
        "tables.html", title=title, tables=[_describe_table(t) for t in report.tables], remarks=list_remarks(report)
    )


def _describe_table(table: ReportTable) -> dict[str, Any]:
    metrics = KINDS[table.name].metrics
    several = len(metrics) > 1
    groups = [(place.title, len(list(some))) for place, some in groupby(table.columns, key=lambda column: column[0])]
    return {
        "name": table.name,
        "title": KINDS[table.name].title,
        "front": list_label_columns(table),
        "groups": groups if several else [],
        "heads": [metrics[metric] for _, metric in table.columns] if several else list_headers(table),
        "rows": [
            (front, map(format_cell, row.cells)) for front, row in zip(list_labels(table), table.rows, strict=True)
        ],
        "notes": list_notes(table),
    }


PICTURES = 6
"""Best images shown, and worst ones."""

SIDE = 360
"""Longest side of a picture in pixels."""

FAILED = 500
"""Failed images listed; the rest is counted."""

BETA2 = 0.3
"""Of the F-measure that is plotted, as in most papers on saliency."""

_NAMES = {
    **{metric: name for kind in KINDS.values() for metric, name in kind.metrics.items()},
    **{"ar1": "AR1", "ar10": "AR10", "maxf": "maxF standard", "mae": "MAE", "s_measure": "S-measure"},
    "e_measure": "E-measure",
    **{"mask_ap": "AP of masks", "mask_ap50": "AP50 of masks", "mask_ap75": "AP75 of masks"},
    **{f"mask_ar{number}": f"AR{number} of masks" for number in (1, 10, 100)},
}
_PERCENT = {name for name in _NAMES if name not in ("mae", "s_measure", "e_measure")}


@dataclass(frozen=True)
class _ScoredImage:
    key: str
    score: float


def write_page(
    path: Path, result: Mapping[str, Any], images: Sequence[Mapping[str, Any]], picture: Callable[[str], Image]
) -> None:
    """Write the page of a run, whole or not at all; the same run gives the same bytes.

    Args:
        path: HTML file.
        result: The document of its `result.json`.
        images: The objects of its `images.jsonl`, in the order of the data set: "key", "score" (higher is better; null
            or absent where there is none) and for saliency, where they are known, the lists "precision" and "recall"
            of equal length T: at the thresholds i / T.
        picture: Draws the prediction and the truth into an image, given its key: RGB uint8 [H, W, 3]. Where it raises
            an ObjlocError, the page says why instead.

    Raises:
        InputError: If the result or an image is not what it should be, or the page cannot be written.
    """
    write_text(path, render_page(parse_result(result), images, picture))


def render_page(run: RunResult, images: Sequence[Mapping[str, Any]], picture: Callable[[str], Image]) -> str:
    """Render the text of the page; arguments as for `write_page`."""
    scored = _parse_scores(images)
    ordered = sorted(scored, key=lambda image: -image.score)  # stable: the data set's order among equals
    few = min(PICTURES, (len(ordered) + 1) // 2)
    best, worst = ordered[:few], ordered[::-1][: min(PICTURES, len(ordered) - few)]
    published = find_published(run.dataset, run.method, run.backbone, {**run.options, **run.protocol}, split=run.split)
    failed = list(run.failed.items())
    return render(
        "page.html",
        title=f"{METHODS.get(run.method, run.method)} on {find_place(run).title}",
        subtitle=f"{run.backbone}, {run.images} images, {run.software}",
        part=_warn_of_part(run),
        metrics=_list_metrics(run, published),
        notes=_list_notes(run, published),
        settings=_list_settings(run),
        plots=_draw_plots(run, images, scored),
        groups=[
            {"id": "best", "title": "Best images", "pictures": [_encode_picture(image, picture) for image in best]},
            {"id": "worst", "title": "Worst images", "pictures": [_encode_picture(image, picture) for image in worst]},
        ],
        failed=failed[:FAILED],
        unlisted=max(0, len(failed) - FAILED),
    )


def _parse_scores(images: Sequence[Mapping[str, Any]]) -> list[_ScoredImage]:
    """Check the images and return those that have a score."""
    scored = []
    for number, image in enumerate(images):
        key, score = image.get("key"), image.get("score")
        if not isinstance(key, str):
            raise InputError(f"image {number}: key must be a text, got {key!r}")
        if score is not None:
            if not is_number(score):
                raise InputError(f"image {key!r}: score must be a finite number, got {score!r}")
            scored.append(_ScoredImage(key, float(score)))
    return scored


def _warn_of_part(run: RunResult) -> str:
    """Return a warning where the run is of a part of its data set; nothing where it is of all or of other data."""
    place, whole = find_place(run), find_place(run).images
    if whole is None or run.images == whole:
        return ""
    return (
        f"{run.images} of the {whole} images of {place.title}: not comparable with the published numbers of the whole."
    )


def _list_metrics(run: RunResult, published: Mapping[str, Published]) -> list[dict[str, str]]:
    """List the rows of the table; on a part of the data set there is no difference to speak of."""
    order = list(_NAMES)
    names = sorted({*run.metrics, *published}, key=lambda n: (order.index(n) if n in order else len(order), n))
    return [
        _describe_metric(name, run.metrics.get(name), published.get(name), bool(_warn_of_part(run))) for name in names
    ]


def _describe_metric(name: str, measured: float | None, published: Published | None, part: bool) -> dict[str, str]:
    row = {"name": _NAMES.get(name, name), "measured": NONE, "difference": "", "where": ""}
    if measured is not None:
        row["measured"] = _format_number(name, measured)
    if published is not None:
        row["where"] = published.source + (f", row {published.variant!r}" if published.variant else "")
        if measured is not None and not part:
            row["difference"] = f"{100 * (measured - published.value):+.1f}"
    return {**row, "published": format_published(published)}


def _format_number(name: str, value: float) -> str:
    return format_percent(value) if name in _PERCENT else f"{value:.4g}"


def _list_notes(run: RunResult, published: Mapping[str, Published]) -> list[str]:
    lines = ["CorLoc, AP, AR, accuracy, IoU and F in percent."]
    if count_if_partial(run) is not None and not _warn_of_part(run):
        lines.append(format_part_note([]).replace("n:", "Images:"))
    if sum(name.startswith("maxf_") for name in {*run.metrics, *published}) > 1:
        lines.append(PROTOCOLS)
    return lines


def _list_settings(run: RunResult) -> list[tuple[str, str]]:
    rows = [("data set", f"{run.dataset} {run.split}".strip()), ("images", str(run.images))]
    rows += [("method", run.method), ("backbone", run.backbone)]
    rows += [(name, _format_value(value)) for name, value in sorted(run.options.items())]
    rows += [(f"protocol: {name}", _format_value(value)) for name, value in sorted(run.protocol.items())]
    rows += [("duration", f"{run.seconds:.1f} s"), ("machine", run.machine), ("software", run.software)]
    return [(name, value) for name, value in rows if value]


def _format_value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _draw_plots(
    run: RunResult, images: Sequence[Mapping[str, Any]], scored: Sequence[_ScoredImage]
) -> list[dict[str, Any]]:
    found = []
    if scored:
        caption = f"Scores of {len(scored)} images"
        caption += f"; {len(images) - len(scored)} without one" if len(scored) < len(images) else ""
        found.append((draw_histogram([image.score for image in scored], caption), caption))
    lines = _average_curves(images)
    if lines:
        caption = f"Precision, recall and F (β² {BETA2}) over thresholds of the saliency, averaged over images"
        found.append((draw_curves(lines, caption), caption))
    if run.per_class:
        caption = f"IoU of each of {len(run.per_class)} classes"
        found.append((draw_bars(run.per_class, caption), caption))
    return [{"svg": Markup(svg), "caption": caption} for svg, caption in found]  # matplotlib's own, text escaped


def _average_curves(images: Sequence[Mapping[str, Any]]) -> dict[str, npt.NDArray[np.float64]]:
    """Average over the images that have both curves; none if no image has."""
    having = [image for image in images if image.get("precision") is not None and image.get("recall") is not None]
    if not having:
        return {}
    try:
        both = np.array([[image["precision"], image["recall"]] for image in having], np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"precision and recall of the images must be lists of equal length: {error}") from error
    if both.ndim != 3 or both.shape[2] == 0:
        raise InputError(f"precision and recall must be lists of fractions, got arrays of shape {both.shape}")
    if not ((both >= 0) & (both <= 1)).all():
        ends = f"{both.min():g} to {both.max():g}"
        raise InputError(f"precision and recall must be lists of fractions in [0, 1], got values from {ends}")
    precision, recall = both.mean(axis=0)
    f = (1 + BETA2) * precision * recall / np.maximum(BETA2 * precision + recall, 1e-12)
    return {"precision": precision, "recall": recall, "F": f}


def _encode_picture(image: _ScoredImage, picture: Callable[[str], Image]) -> dict[str, Any]:
    shown: dict[str, Any] = {"key": image.key, "score": f"{image.score:.3f}", "jpeg": "", "reason": ""}
    try:
        pixels = picture(image.key)
        check_image(pixels)
    except ObjlocError as error:
        return {**shown, "reason": f"no picture: {error}"}
    if max(pixels.shape) > SIDE:
        pixels = fit_image(pixels, (SIDE, SIDE))
    _, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])
    height, width = pixels.shape[:2]
    return {**shown, "jpeg": base64.b64encode(data.tobytes()).decode(), "width": width, "height": height}
