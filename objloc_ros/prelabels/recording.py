"""Pre-labelled images in order, for what writes recordings of them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image

from objloc_ros.errors import InputError
from objloc_ros.io.media import read_image
from objloc_ros.io.rle import decode
from objloc_ros.prelabels.coco import records

ORIENTATION = 0x0112
"""EXIF tag; 1 for upright pictures."""

STEP_NS = 1_000_000_000
"""Time between images that have none."""


@dataclass(frozen=True)
class Labelled:
    """One image of a recording and what was found in it.

    Args:
        camera: Topic, or a name in its place, without slashes at its ends.
        number: Place among the camera's images.
        stamp_ns: Time in nanoseconds; for images that have none, a second apart.
        format: Of `data`.
        data: The compressed image.
        objects: As `masks.objects` describes them.
    """

    camera: str
    number: int
    stamp_ns: int
    format: Literal["jpeg", "png"]
    data: bytes
    objects: list[dict[str, Any]]

    def caption(self, one: dict[str, Any]) -> str:
        """An object's label, track and score."""
        track = f" {one['track']}" if "track" in one else ""
        return f"{one['label']}{track}: {one['score']:.2f}"

    def mask(self, one: dict[str, Any]) -> npt.NDArray[np.bool_]:
        """An object's pixels, bool [H, W]."""
        return decode(one["segmentation"])


WritePart = Callable[[Path, Iterator[Labelled]], None]
"""Writes a recording to a path that does not exist yet."""


def labelled(part: Path, images: Path) -> Iterator[Labelled]:
    """Read a part with its images.

    Args:
        part: Folder with `labels.jsonl`.
        images: Folder below which its images lie.

    Raises:
        InputError: If the labels or an image cannot be read.
    """
    for number, record in enumerate(records(part)):
        if "objects" not in record:
            continue
        form, data = compressed(images / record["file_name"])
        place = record.get("frame", number)
        stamp_ns = record.get("stamp_ns", place * STEP_NS)
        camera = record.get("topic", part.name).strip("/")
        yield Labelled(camera, place, stamp_ns, form, data, record["objects"])


def compressed(path: Path) -> tuple[Literal["jpeg", "png"], bytes]:
    """Read an image as every viewer shows it: JPEG or PNG as it is, others and turned ones as a JPEG.

    Raises:
        InputError: If it cannot be read.
    """
    try:
        data = path.read_bytes()
        with PIL.Image.open(io.BytesIO(data)) as picture:
            form, is_upright = picture.format, picture.getexif().get(ORIENTATION, 1) == 1
    except OSError as error:
        raise InputError(f"cannot read {path}: {error}") from error
    if is_upright and form in ("JPEG", "PNG"):
        return ("jpeg" if form == "JPEG" else "png"), data
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(read_image(path), cv2.COLOR_RGB2BGR))
    return "jpeg", encoded.tobytes()
