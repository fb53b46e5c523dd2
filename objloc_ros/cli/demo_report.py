"""The report of a recorded run: counts, ages, objects and their names, overlap with the truth, pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from objloc_ros.bags.reader import read_bag
from objloc_ros.engine.frame_stats import percentiles
from objloc_ros.io.contact_sheet import INK_RGB, PAGE_RGB, make_contact_sheet
from objloc_ros.io.drawing import draw_outline
from objloc_ros.io.media import write_image, write_movie
from objloc_ros.io.tables import text_table
from objloc_ros.nodes.conversions import compressed_to_rgb
from objloc_ros.nodes.messages import stamp_ns
from objloc_ros.ops.regions import mask_iou
from objloc_ros.types import Image

SHEET_FRAMES = 12
"""Frames on the contact sheet."""

SHEET_COLUMNS = 4

CELL = (300, 400)
"""Height and width of a frame on the contact sheet, in pixels."""

TITLE_HEIGHT_PX = 44

MAX_NAMES = 12
"""Names in the table, the most frequent ones."""


@dataclass
class RecordedRun:
    """What a recording contains, by frame; the key of a frame is the stamp of its header, nanoseconds.

    Args:
        images: Number of the camera's frames.
        age_ms: Time from the camera's stamp to the arrival of the detections, by frame.
        boxes: Number of detections, by frame.
        iou: Intersection over union of mask and truth, by frame; empty where no truth is known.
        names: Different names of the objects, by frame; empty where nobody was asked for names.
        processing_ms: The node's own times.
        diagnostics: The node's last diagnostics.
    """

    images: int = 0
    age_ms: dict[int, float] = field(default_factory=dict)
    boxes: dict[int, int] = field(default_factory=dict)
    iou: dict[int, float] = field(default_factory=dict)
    names: dict[int, tuple[str, ...]] = field(default_factory=dict)
    processing_ms: list[float] = field(default_factory=list)
    diagnostics: dict[str, str] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Frames with detections per second; 1 where there are too few to tell."""
        return _compute_rate(self.boxes)


def _compute_rate(stamps: Collection[int]) -> float:
    return 1e9 * (len(stamps) - 1) / (max(stamps) - min(stamps)) if len(stamps) > 1 else 1.0


def read_run(bag: Path, camera: str) -> RecordedRun:
    """Read a recording frame by frame.

    Args:
        bag: As recorded from `list_camera_topics(camera)`.
        camera: Namespace of source and node.
    """
    run = RecordedRun()
    truths: dict[int, npt.NDArray[np.uint8]] = {}
    for topic, arrived, message in read_bag(bag):
        if topic == f"{camera}/image":
            run.images += 1
        elif topic == f"{camera}/image_source/truth":
            truths[stamp_ns(message.header)] = _read_grey(message)
        elif topic == f"{camera}/found/detections":
            stamp = stamp_ns(message.header)
            run.boxes[stamp] = len(message.detections)
            run.age_ms[stamp] = 1e-6 * (arrived - stamp)
        elif topic == f"{camera}/segmentation/detections":
            names = (found.results[0].hypothesis.class_id for found in message.detections)
            run.names[stamp_ns(message.header)] = tuple(dict.fromkeys(names))
        elif topic == f"{camera}/found/mask" and (truth := truths.pop(stamp_ns(message.header), None)) is not None:
            run.iou[stamp_ns(message.header)] = mask_iou(_read_grey(message) > 0, truth > 0)
        elif topic == f"{camera}/found/debug/processing_ms":
            run.processing_ms.append(message.data)
        elif topic == "/diagnostics":
            run.diagnostics |= _read_diagnostics(message, f"{camera}/found")
    return run


def _read_grey(message: Any) -> npt.NDArray[np.uint8]:
    """Read the pixels of an unpadded mono8 image, as the package's own nodes publish it: uint8 [H, W]."""
    return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width)


def _read_diagnostics(message: Any, node: str) -> dict[str, str]:
    return {
        pair.key: pair.value
        for status in message.status
        if status.name.startswith(f"{node}:")
        for pair in status.values
    }


def summarise(run: RecordedRun, sent: int) -> dict[str, Any]:
    """Compute the figures of `demo.json`.

    Args:
        run: The recording.
        sent: Frames that the source published.

    Returns:
        Plain numbers, None where there is nothing to measure.
    """
    counters = run.diagnostics
    dropped = {
        name.removeprefix("dropped."): int(count) for name, count in counters.items() if name.startswith("dropped.")
    }
    ious = list(run.iou.values())
    counts = list(run.boxes.values())
    return {
        "frames": {
            "in": sent,
            "out": len(run.boxes),
            "recorded": run.images,
            "received": int(counters.get("received", 0)),
            "published": int(counters.get("published", 0)),
            "dropped": dropped,
        },
        "rate_hz": round(run.rate, 2),
        "age_ms": _percentiles(run.age_ms.values()),
        "processing_ms": _percentiles(run.processing_ms),
        "boxes_per_frame": {"mean": round(float(np.mean(counts)), 2) if counts else None, "counts": counts},
        "names": _summarise_names(run),
        "mask_iou": {"mean": round(float(np.mean(ious)), 4), "frames": len(ious)} if ious else None,
    }


def _summarise_names(run: RecordedRun) -> dict[str, Any] | None:
    """Count the frames that have been answered with names, and those with each name, the most frequent first."""
    if not run.names:
        return None
    counts = Counter(name for names in run.names.values() for name in names)
    return {
        "frames": len(run.names),
        "rate_hz": round(_compute_rate(run.names), 2),
        "counts": dict(counts.most_common()),
    }


def _percentiles(values: Collection[float]) -> dict[str, float] | None:
    return {name: round(value, 1) for name, value in percentiles(values, (50, 95)).items()} or None


def format_table(report: Mapping[str, Any]) -> str:
    """Write the report for people, a few lines."""
    frames = report["frames"]
    causes = ", ".join(f"{cause} {n}" for cause, n in frames["dropped"].items())
    lost = frames["in"] - frames["received"]
    rows = {
        "frames": f"{frames['in']} in, {frames['out']} out, {sum(frames['dropped'].values())} dropped"
        + (f" ({causes})" if causes else "")
        + (f", {lost} lost on the way" if lost > 0 else ""),
        "rate": f"{report['rate_hz']:.1f} frames/s",
        "age": _format_times(report["age_ms"], "from the camera's stamp to the detections"),
        "processing": _format_times(report["processing_ms"], "inside the node, for all outputs"),
        "objects": f"{report['boxes_per_frame']['mean'] or 0:.1f} per frame",
    }
    if report["names"]:
        names = report["names"]
        often = ", ".join(list(names["counts"])[:MAX_NAMES]) or "none of the prompts"
        rows["names"] = f"{names['frames']} frames, {names['rate_hz']:.1f} a second: {often}"
    if report["mask_iou"]:
        rows["mask IoU"] = f"{report['mask_iou']['mean']:.2f} (against the scene's known truth)"
    return text_table(list(rows.items()))


def _format_times(values: Mapping[str, float] | None, what: str) -> str:
    return f"p50 {values['p50']:.0f} ms, p95 {values['p95']:.0f} ms {what}" if values else "unknown"


def write_pictures(bag: Path, out: Path, camera: str, run: RecordedRun, title: str) -> tuple[Path, Path]:
    """Write the contact sheet and the video of the overlay: of the node that names objects, where there is one.

    Returns:
        Their paths.
    """
    node, stamps = ("segmentation", set(run.names)) if run.names else ("found", set(run.boxes))
    topic = f"{camera}/{node}/overlay/compressed"
    video = write_movie(out / "overlay", (rgb for _, rgb in _read_overlays(bag, topic)), _compute_rate(stamps))
    frames = choose_frames(stamps, SHEET_FRAMES)
    pictures = {stamp: rgb for stamp, rgb in _read_overlays(bag, topic) if stamp in frames}
    if run.iou:
        for _, _, message in read_bag(bag, [f"{camera}/image_source/truth"]):
            stamp = stamp_ns(message.header)
            if stamp in pictures:
                pictures[stamp] = outline_objects(pictures[stamp], _read_grey(message))
        title += "  (white outline: the truth)"
    page = out / "contact_sheet.png"
    write_image(page, make_sheet(pictures.values(), [make_caption(run, stamp) for stamp in pictures], title))
    return page, video


def _read_overlays(bag: Path, topic: str) -> Iterator[tuple[int, Image]]:
    for _, _, message in read_bag(bag, [topic]):
        yield stamp_ns(message.header), compressed_to_rgb(message)


def choose_frames(stamps: Collection[int], count: int) -> list[int]:
    """Choose frames evenly over the run, including the first and the last."""
    ordered = sorted(stamps)
    indices = np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round().astype(int)
    return [ordered[index] for index in indices]


def make_caption(run: RecordedRun, stamp: int) -> str:
    """Write one line about a frame: its time, the names or the number of its objects, its overlap with the truth."""
    seconds = 1e-9 * (stamp - min((*run.boxes, *run.names)))
    if stamp in run.names:
        return f"{seconds:.1f} s   {', '.join(run.names[stamp]) or 'none of the prompts'}"
    count = run.boxes[stamp]
    text = f"{seconds:.1f} s   {count} object{'' if count == 1 else 's'}"
    return text + (f"   IoU {run.iou[stamp]:.2f}" if stamp in run.iou else "")


def outline_objects(picture: Image, truth: npt.NDArray[np.uint8]) -> Image:
    """Draw a white line around every true object.

    Args:
        picture: RGB uint8 [H, W, 3]; left as it is.
        truth: uint8 [H, W], 0 = background, i = object i.
    """
    canvas = picture.copy()
    for identity in np.unique(truth[truth > 0]):
        draw_outline(canvas, truth == identity)
    return canvas


def make_sheet(pictures: Collection[Image], captions: Collection[str], title: str) -> Image:
    """Lay captioned frames out on a page with a title line."""
    page = make_contact_sheet(list(pictures), list(captions), columns=SHEET_COLUMNS, cell=CELL)
    bar = np.full((TITLE_HEIGHT_PX, page.shape[1], 3), PAGE_RGB, np.uint8)
    cv2.putText(bar, title, (16, 32), cv2.FONT_HERSHEY_DUPLEX, 0.65, INK_RGB, 1, cv2.LINE_AA)
    return np.concatenate([bar, page])
