"""Parts: the folders that pieces of pre-labelling leave, each with `labels.jsonl`, a line per image."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
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

LABELS = "labels.jsonl"
"""In the folder of a part: a line per image."""

IMAGES = "images"
"""In the folder of a part: the images that it has written, before they are moved to one folder."""

EXIF_ORIENTATION = 0x0112
"""EXIF tag; its value is 1 for upright pictures."""

STEP_NS = 1_000_000_000
"""Time between images that have no time, in nanoseconds."""


@dataclass(frozen=True)
class LabelledImage:
    """One image of a part and the objects in it.

    Args:
        camera: Topic, or a name in its place, without slashes at its ends.
        number: Index among the camera's images.
        stamp_ns: Time in nanoseconds; images without time are a second apart.
        format: Of `data`.
        data: The compressed image.
        objects: As `work.describe_objects` describes them.
    """

    camera: str
    number: int
    stamp_ns: int
    format: Literal["jpeg", "png"]
    data: bytes
    objects: list[dict[str, Any]]

    def make_caption(self, label: dict[str, Any]) -> str:
        """Write an object's label, track and score."""
        track = f" {label['track']}" if "track" in label else ""
        return f"{label['label']}{track}: {label['score']:.2f}"

    def decode_mask(self, label: dict[str, Any]) -> npt.NDArray[np.bool_]:
        """Decode an object's pixels, bool [H, W]."""
        return decode(label["segmentation"])


def read_records(part: Path) -> Iterator[dict[str, Any]]:
    """Read the labels of a part: for each image a dictionary with "objects", or with a "reason" why it is unusable.

    Raises:
        InputError: The labels cannot be read.
    """
    try:
        with (part / LABELS).open(encoding="utf-8") as file:
            for line in file:
                yield json.loads(line)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {part / LABELS}: {error}") from error


def read_labelled_images(part: Path, images: Path) -> Iterator[LabelledImage]:
    """Read a part with its images.

    Args:
        part: Folder with `labels.jsonl`.
        images: Folder below which its images lie.

    Raises:
        InputError: The labels or an image cannot be read.
    """
    for index, record in enumerate(read_records(part)):
        if "objects" not in record:
            continue
        image_format, data = read_compressed(images / record["file_name"])
        number = record.get("frame", index)
        stamp_ns = record.get("stamp_ns", number * STEP_NS)
        camera = record.get("topic", part.name).strip("/")
        yield LabelledImage(camera, number, stamp_ns, image_format, data, record["objects"])


def read_compressed(path: Path) -> tuple[Literal["jpeg", "png"], bytes]:
    """Read an image as every viewer shows it: an upright JPEG or PNG as it is, all others as a JPEG.

    Returns:
        The format and the compressed image.

    Raises:
        InputError: The image cannot be read.
    """
    try:
        data = path.read_bytes()
        with PIL.Image.open(io.BytesIO(data)) as picture:
            image_format, is_upright = picture.format, picture.getexif().get(EXIF_ORIENTATION, 1) == 1
    except OSError as error:
        raise InputError(f"cannot read {path}: {error}") from error
    if is_upright and image_format in ("JPEG", "PNG"):
        return ("jpeg" if image_format == "JPEG" else "png"), data
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(read_image(path), cv2.COLOR_RGB2BGR))
    return "jpeg", encoded.tobytes()
