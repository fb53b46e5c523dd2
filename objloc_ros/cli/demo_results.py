"""From the demo's bag to figures and pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from objloc_ros.evaluation.bags.rosbag import read_bag
from objloc_ros.evaluation.demo_report import Measured, caption, mask_iou, outlined, pick, sheet
from objloc_ros.evaluation.movie import write_movie
from objloc_ros.nodes.conversions import compressed_to_rgb
from objloc_ros.ops.media import write_image
from objloc_ros.types import Image

SHEET_FRAMES = 12


def measure(bag: Path, camera: str) -> Measured:
    """Read figures frame by frame.

    Args:
        bag: As recorded from `camera_taps(camera)`.
        camera: Namespace of source and node.
    """
    measured = Measured()
    truths: dict[int, npt.NDArray[np.uint8]] = {}
    for topic, arrived, message in read_bag(bag):
        if topic == f"{camera}/image":
            measured.images += 1
        elif topic == f"{camera}/image_source/truth":
            truths[_stamp(message)] = _grey(message)
        elif topic == f"{camera}/found/detections":
            stamp = _stamp(message)
            measured.boxes[stamp] = len(message.detections)
            measured.age_ms[stamp] = 1e-6 * (arrived - stamp)
        elif topic == f"{camera}/found/mask" and (truth := truths.pop(_stamp(message), None)) is not None:
            measured.iou[_stamp(message)] = mask_iou(_grey(message), truth)
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
            stamp = _stamp(message)
            if stamp in pictures:
                pictures[stamp] = outlined(pictures[stamp], _grey(message))
        title += "  (white outline: the truth)"
    page = out / "contact_sheet.png"
    write_image(page, sheet(pictures.values(), [caption(measured, stamp) for stamp in pictures], title))
    return page, film


def _overlays(bag: Path, camera: str) -> Iterator[tuple[int, Image]]:
    for _, _, message in read_bag(bag, [f"{camera}/found/overlay/compressed"]):
        yield _stamp(message), compressed_to_rgb(message)


def _stamp(message: Any) -> int:
    stamp = message.header.stamp
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def _grey(message: Any) -> npt.NDArray[np.uint8]:
    """Pixels of an unpadded mono8 image, as the package's own nodes publish it."""
    return np.frombuffer(message.data, np.uint8).reshape(message.height, message.width)


def _facts(message: Any, node: str) -> dict[str, str]:
    return {v.key: v.value for status in message.status if status.name.startswith(f"{node}:") for v in status.values}
