"""What is written and printed about a bag; lockstep and real time each have a report of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from objloc_ros.errors import ParameterError

FORMAT = "objloc_ros bag 1"

Mode = Literal["lockstep", "realtime"]
Report = Mapping[str, Any]

LEADING = (
    *("coverage", "age_ms_p50", "age_ms_p95", "age_ms_p99"),
    *("corloc", "ap50", "ar100", "recall", "precision", "mask_iou", "miou", "flicker", "switches", "mask_flicker"),
)
"""Metrics in the printed table, in this order."""


def frames_of(received: int, processed: int, dropped: Mapping[str, int], late: int, **more: float) -> dict[str, Any]:
    """The coverage of a camera: received = processed + dropped."""
    causes = {cause: dropped[cause] for cause in sorted(dropped)}
    return {"in": received, "processed": processed, "dropped": causes, "late": late, **more}


def report_of(mode: Mode, bag: str, cameras: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The document of one bag.

    Args:
        mode: How the frames went through the methods.
        bag: The bag's name, without folders.
        cameras: For each topic "frames" (`frames_of`), "truth" (where there is some) and "methods", a
            `Scorer.summary()` by the name of each row; where rows differ in their coverage, each has "frames", too.
        settings: All that the numbers depend on.
    """
    return {"format": FORMAT, "mode": mode, "bag": bag, "cameras": dict(cameras), "settings": dict(settings)}


def measured(reports: Iterable[Report]) -> dict[str, list[tuple[str, float]]]:
    """Every value of each metric, with the name of what it was measured on."""
    found: dict[str, list[tuple[str, float]]] = {}
    for report in reports:
        where = " in real time" if report["mode"] == "realtime" else ""
        for camera, about in report["cameras"].items():
            for name, row in about["methods"].items():
                for metric, value in row["metrics"].items():
                    found.setdefault(metric, []).append((f"{name} on {camera} of {report['bag']}{where}", value))
    return found


def broken_limits(reports: Iterable[Report], least: Mapping[str, float], most: Mapping[str, float]) -> list[str]:
    """Say which metrics are below or above their limits, on any camera and for any method that has them.

    Raises:
        ParameterError: A limit is for a metric that was not measured at all.
    """
    values = measured(reports)
    if unknown := sorted({*least, *most} - set(values)):
        raise ParameterError(f"there is no metric {', '.join(unknown)}; there are {', '.join(values) or 'none'}")
    low = [(m, v, w, f"below {b:g}") for m, b in least.items() for w, v in values[m] if v < b]
    high = [(m, v, w, f"above {b:g}") for m, b in most.items() for w, v in values[m] if v > b]
    return [f"{metric} of {what} is {value:.4f}, {how}" for metric, value, what, how in low + high]


def table(reports: Iterable[Report]) -> str:
    """A line per bag, camera and method, for people."""
    rows = []
    for report in reports:
        for camera, about in report["cameras"].items():
            for name, row in about["methods"].items():
                frames = row.get("frames", about["frames"])
                first = [report["bag"], camera, name, f"{frames['processed']}/{frames['in']}"]
                rows.append((first, row["metrics"]))
    names = [metric for metric in LEADING if any(metric in metrics for _, metrics in rows)]
    cells = [["bag", "camera", "method", "frames", *names]]
    for first, metrics in rows:
        cells.append([*first, *(f"{metrics[m]:.3f}" if m in metrics else "" for m in names)])
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    return "\n".join(_line(line, widths) for line in cells)


def _line(cells: list[str], widths: list[int]) -> str:
    """Names to the left, numbers to the right."""
    padded = [c.ljust(w) if i < 3 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
    return "  ".join(padded).rstrip()
