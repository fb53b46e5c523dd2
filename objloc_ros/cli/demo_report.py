"""What a recorded run of the `found` node amounts to: counts, ages, objects, the overlap with the truth, pictures."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from objloc_ros.bags.reader import read_bag
from objloc_ros.engine.frame_stats import percentiles
from objloc_ros.io.contact_sheet import INK, PAGE, make_contact_sheet
from objloc_ros.io.media import write_image, write_movie
from objloc_ros.io.tables import text_table
from objloc_ros.nodes.conversions import compressed_to_rgb
from objloc_ros.nodes.messages import stamp_ns
from objloc_ros.ops.regions import mask_iou
from objloc_ros.types import Image

OUTLINE = (255, 255, 255)
CELL = (300, 400)


@dataclass
class Measured:
    """What a recording says, frame by frame; frames are named by the stamps of their headers, nanoseconds.

    Args:
        images: Frames seen of the camera.
        age_ms: From the camera's stamp to the arrival of the detections, by frame.
        boxes: Number of detections, by frame.
        iou: Intersection over union of mask and truth, by frame; empty where no truth is known.
        processing_ms: The node's own times.
        diagnostics: The node's last word about itself.
    """

    images: int = 0
    age_ms: dict[int, float] = field(default_factory=dict)
    boxes: dict[int, int] = field(default_factory=dict)
    iou: dict[int, float] = field(default_factory=dict)
    processing_ms: list[float] = field(default_factory=list)
    diagnostics: dict[str, str] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Answered frames per second; 1 where there are too few to tell."""
        stamps = sorted(self.boxes)
        return 1e9 * (len(stamps) - 1) / (stamps[-1] - stamps[0]) if len(stamps) > 1 else 1.0


def summarise(measured: Measured, sent: int) -> dict[str, Any]:
    """Figures for `demo.json`.

    Args:
        measured: From the recording.
        sent: Frames that the source published.

    Returns:
        Plain numbers, None where there is nothing to measure.
    """
    said = measured.diagnostics
    dropped = {key.removeprefix("dropped."): int(n) for key, n in said.items() if key.startswith("dropped.")}
    ious = list(measured.iou.values())
    counts = list(measured.boxes.values())
    return {
        "frames": {
            "in": sent,
            "out": len(measured.boxes),
            "recorded": measured.images,
            "received": int(said.get("received", 0)),
            "published": int(said.get("published", 0)),
            "dropped": dropped,
        },
        "rate_hz": round(measured.rate, 2),
        "age_ms": _percentiles(measured.age_ms.values()),
        "processing_ms": _percentiles(measured.processing_ms),
        "boxes_per_frame": {"mean": round(float(np.mean(counts)), 2) if counts else None, "counts": counts},
        "mask_iou": {"mean": round(float(np.mean(ious)), 4), "frames": len(ious)} if ious else None,
    }


def _percentiles(values: Collection[float]) -> dict[str, float] | None:
    return {name: round(value, 1) for name, value in percentiles(values, (50, 95)).items()} or None


def table(report: Mapping[str, Any]) -> str:
    """The report for people, a few lines."""
    frames = report["frames"]
    causes = ", ".join(f"{cause} {n}" for cause, n in frames["dropped"].items())
    lost = frames["in"] - frames["received"]
    rows = {
        "frames": f"{frames['in']} in, {frames['out']} out, {sum(frames['dropped'].values())} dropped"
        + (f" ({causes})" if causes else "")
        + (f", {lost} lost on the way" if lost > 0 else ""),
        "rate": f"{report['rate_hz']:.1f} frames/s",
        "age": _times(report["age_ms"], "from the camera's stamp to the detections"),
        "processing": _times(report["processing_ms"], "inside the node, for all outputs"),
        "objects": f"{report['boxes_per_frame']['mean'] or 0:.1f} per frame",
    }
    if report["mask_iou"]:
        rows["mask IoU"] = f"{report['mask_iou']['mean']:.2f} (against the scene's known truth)"
    return text_table(list(rows.items()))


def _times(values: Mapping[str, float] | None, what: str) -> str:
    return f"p50 {values['p50']:.0f} ms, p95 {values['p95']:.0f} ms {what}" if values else "unknown"


def pick(stamps: Collection[int], count: int) -> list[int]:
    """Choose frames evenly over the run, the first and the last among them."""
    ordered = sorted(stamps)
    places = np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round().astype(int)
    return [ordered[place] for place in places]


def caption(measured: Measured, stamp: int) -> str:
    """One line about a frame: its time, its objects, its overlap with the truth."""
    seconds = 1e-9 * (stamp - min(measured.boxes))
    count = measured.boxes[stamp]
    text = f"{seconds:.1f} s   {count} object{'' if count == 1 else 's'}"
    return text + (f"   IoU {measured.iou[stamp]:.2f}" if stamp in measured.iou else "")


def outlined(picture: Image, truth: npt.NDArray[np.uint8]) -> Image:
    """Draw a white line around every true object.

    Args:
        picture: RGB uint8 [H, W, 3]; left as it is.
        truth: uint8 [H, W], 0 = background, i = object i.
    """
    canvas = picture.copy()
    for identity in np.unique(truth[truth > 0]):
        contours, _ = cv2.findContours((truth == identity).view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas, contours, -1, OUTLINE, 2, cv2.LINE_AA)
    return canvas


def sheet(pictures: Collection[Image], captions: Collection[str], title: str) -> Image:
    """Lay captioned frames out on a page with a title line."""
    page = make_contact_sheet(list(pictures), list(captions), columns=4, cell=CELL)
    bar = np.full((44, page.shape[1], 3), PAGE, np.uint8)
    cv2.putText(bar, title, (16, 32), cv2.FONT_HERSHEY_DUPLEX, 0.65, INK, 1, cv2.LINE_AA)
    return np.concatenate([bar, page])


SHEET_FRAMES = 12


def measure(bag: Path, camera: str) -> Measured:
    """Read figures frame by frame.

    Args:
        bag: As recorded from `list_camera_topics(camera)`.
        camera: Namespace of source and node.
    """
    measured = Measured()
    truths: dict[int, npt.NDArray[np.uint8]] = {}
    for topic, arrived, message in read_bag(bag):
        if topic == f"{camera}/image":
            measured.images += 1
        elif topic == f"{camera}/image_source/truth":
            truths[stamp_ns(message.header)] = _grey(message)
        elif topic == f"{camera}/found/detections":
            stamp = stamp_ns(message.header)
            measured.boxes[stamp] = len(message.detections)
            measured.age_ms[stamp] = 1e-6 * (arrived - stamp)
        elif topic == f"{camera}/found/mask" and (truth := truths.pop(stamp_ns(message.header), None)) is not None:
            measured.iou[stamp_ns(message.header)] = mask_iou(_grey(message) > 0, truth > 0)
        elif topic == f"{camera}/found/debug/processing_ms":
            measured.processing_ms.append(message.data)
        elif topic == "/diagnostics":
            measured.diagnostics |= _facts(message, f"{camera}/found")
    return measured


def write_pictures(bag: Path, out: Path, camera: str, measured: Measured, title: str) -> tuple[Path, Path]:
    """Write the contact sheet and the film of the overlay.

    Returns:
        Paths of the two.
    """
    film = write_movie(out / "overlay", (rgb for _, rgb in _overlays(bag, camera)), measured.rate)
    chosen = pick(measured.boxes, SHEET_FRAMES)
    pictures = {stamp: rgb for stamp, rgb in _overlays(bag, camera) if stamp in chosen}
    if measured.iou:
        for _, _, message in read_bag(bag, [f"{camera}/image_source/truth"]):
            stamp = stamp_ns(message.header)
            if stamp in pictures:
                pictures[stamp] = outlined(pictures[stamp], _grey(message))
        title += "  (white outline: the truth)"
    page = out / "contact_sheet.png"
    write_image(page, sheet(pictures.values(), [caption(measured, stamp) for stamp in pictures], title))
    return page, film


def _overlays(bag: Path, camera: str) -> Iterator[tuple[int, Image]]:
    for _, _, message in read_bag(bag, [f"{camera}/found/overlay/compressed"]):
        yield stamp_ns(message.header), compressed_to_rgb(message)


def _grey(message: Any) -> npt.NDArray[np.uint8]:
    """Pixels of an unpadded mono8 image, as the package's own nodes publish it."""
    return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width)


def _facts(message: Any, node: str) -> dict[str, str]:
    return {v.key: v.value for status in message.status if status.name.startswith(f"{node}:") for v in status.values}
