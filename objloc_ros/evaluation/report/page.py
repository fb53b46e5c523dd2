"""One page about one run: what was measured beside what was published, plots, and the best and the worst images."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from objloc_ros.errors import InputError, ObjlocError
from objloc_ros.evaluation.report import plots
from objloc_ros.evaluation.report.published import MEMORY, Published, published_for
from objloc_ros.evaluation.report.results import RunResult, parse_result
from objloc_ros.evaluation.report.tables import KINDS, METHODS, images_of, place_of
from objloc_ros.evaluation.report.web import render
from objloc_ros.evaluation.report.wording import DAGGER, NONE, PROTOCOLS, part_note, percent, published_text
from objloc_ros.ops.contact_sheet import fitted
from objloc_ros.ops.files import is_number, write_text
from objloc_ros.types import Image, check_image

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
class _Scored:
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
    write_text(path, page(parse_result(result), images, picture))


def page(run: RunResult, images: Sequence[Mapping[str, Any]], picture: Callable[[str], Image]) -> str:
    """The text of the page; arguments as for `write_page`."""
    scored = _scored(images)
    ordered = sorted(scored, key=lambda image: -image.score)  # stable: the data set's order among equals
    few = min(PICTURES, (len(ordered) + 1) // 2)
    best, worst = ordered[:few], ordered[::-1][: min(PICTURES, len(ordered) - few)]
    published = published_for(run.dataset, run.method, run.backbone, {**run.options, **run.protocol}, split=run.split)
    failed = list(run.failed.items())
    return render(
        "page.html",
        title=f"{METHODS.get(run.method, run.method)} on {place_of(run).title}",
        subtitle=f"{run.backbone}, {run.images} images, {run.software}",
        part=_part(run),
        metrics=_metrics(run, published),
        notes=_notes(run, published),
        settings=_settings(run),
        plots=_plots(run, images, scored),
        groups=[
            {"id": "best", "title": "Best images", "pictures": [_picture(image, picture) for image in best]},
            {"id": "worst", "title": "Worst images", "pictures": [_picture(image, picture) for image in worst]},
        ],
        failed=failed[:FAILED],
        unlisted=max(0, len(failed) - FAILED),
    )


def _scored(images: Sequence[Mapping[str, Any]]) -> list[_Scored]:
    """The images that have a score, checked."""
    scored = []
    for number, image in enumerate(images):
        key, score = image.get("key"), image.get("score")
        if not isinstance(key, str):
            raise InputError(f"image {number}: key must be a text, got {key!r}")
        if score is not None:
            if not is_number(score):
                raise InputError(f"image {key!r}: score must be a finite number, got {score!r}")
            scored.append(_Scored(key, float(score)))
    return scored


def _part(run: RunResult) -> str:
    """A warning where the run is of a part of its data set; nothing where it is of all, or of data of one's own."""
    place, whole = place_of(run), place_of(run).images
    if whole is None or run.images == whole:
        return ""
    return (
        f"{run.images} of the {whole} images of {place.title}: not comparable with the published numbers of the whole."
    )


def _metrics(run: RunResult, published: Mapping[str, Published]) -> list[dict[str, str]]:
    """Rows of the table; on a part of the data set there is no difference to speak of."""
    order = list(_NAMES)
    names = sorted({*run.metrics, *published}, key=lambda n: (order.index(n) if n in order else len(order), n))
    return [_metric(name, run.metrics.get(name), published.get(name), bool(_part(run))) for name in names]


def _metric(name: str, measured: float | None, published: Published | None, part: bool) -> dict[str, str]:
    row = {"name": _NAMES.get(name, name), "measured": NONE, "difference": "", "where": ""}
    if measured is not None:
        row["measured"] = _number(name, measured)
    if published is not None:
        row["where"] = published.source + (f", row {published.variant!r}" if published.variant else "")
        if measured is not None and not part:
            row["difference"] = f"{100 * (measured - published.value):+.1f}"
    return {**row, "published": published_text(published)}


def _number(name: str, value: float) -> str:
    return percent(value) if name in _PERCENT else f"{value:.4g}"


def _notes(run: RunResult, published: Mapping[str, Published]) -> list[str]:
    lines = ["CorLoc, AP, AR, accuracy, IoU and F in percent."]
    if any(number.from_memory for number in published.values()):
        lines.append(f"{DAGGER}: {MEMORY}.")
    if images_of(run) is not None and not _part(run):
        lines.append(part_note([]).replace("n:", "Images:"))
    if sum(name.startswith("maxf_") for name in {*run.metrics, *published}) > 1:
        lines.append(PROTOCOLS)
    return lines


def _settings(run: RunResult) -> list[tuple[str, str]]:
    rows = [("data set", f"{run.dataset} {run.split}".strip()), ("images", str(run.images))]
    rows += [("method", run.method), ("backbone", run.backbone)]
    rows += [(name, _word(value)) for name, value in sorted(run.options.items())]
    rows += [(f"protocol: {name}", _word(value)) for name, value in sorted(run.protocol.items())]
    rows += [("duration", f"{run.seconds:.1f} s"), ("machine", run.machine), ("software", run.software)]
    return [(name, value) for name, value in rows if value]


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _plots(run: RunResult, images: Sequence[Mapping[str, Any]], scored: Sequence[_Scored]) -> list[dict[str, Any]]:
    found = []
    if scored:
        caption = f"Scores of {len(scored)} images"
        caption += f"; {len(images) - len(scored)} without one" if len(scored) < len(images) else ""
        found.append((plots.histogram([image.score for image in scored], caption), caption))
    lines = _threshold_lines(images)
    if lines:
        caption = f"Precision, recall and F (β² {BETA2}) over thresholds of the saliency, averaged over images"
        found.append((plots.curves(lines, caption), caption))
    if run.per_class:
        caption = f"IoU of each of {len(run.per_class)} classes"
        found.append((plots.bars(run.per_class, caption), caption))
    return [{"svg": Markup(svg), "caption": caption} for svg, caption in found]  # matplotlib's own, text escaped


def _threshold_lines(images: Sequence[Mapping[str, Any]]) -> dict[str, npt.NDArray[np.float64]]:
    """Means over the images that have both curves; none if no image has."""
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


def _picture(image: _Scored, picture: Callable[[str], Image]) -> dict[str, Any]:
    shown: dict[str, Any] = {"key": image.key, "score": f"{image.score:.3f}", "jpeg": "", "reason": ""}
    try:
        pixels = picture(image.key)
        check_image(pixels)
    except ObjlocError as error:
        return {**shown, "reason": f"no picture: {error}"}
    if max(pixels.shape) > SIDE:
        pixels = fitted(pixels, (SIDE, SIDE))
    _, data = cv2.imencode(".jpg", pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])
    height, width = pixels.shape[:2]
    return {**shown, "jpeg": base64.b64encode(data.tobytes()).decode(), "width": width, "height": height}
