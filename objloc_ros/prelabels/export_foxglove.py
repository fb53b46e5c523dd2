"""Pre-labels as an MCAP file that Foxglove shows: compressed images, and ImageAnnotations with the same times."""

from __future__ import annotations

import colorsys
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import cv2
import foxglove
import numpy as np
from foxglove.channels import CompressedImageChannel, ImageAnnotationsChannel
from foxglove.messages import (
    Color,
    CompressedImage,
    ImageAnnotations,
    Point2,
    PointsAnnotation,
    PointsAnnotationType,
    TextAnnotation,
    Timestamp,
)

from objloc_ros.prelabels.parts import LabelledImage

BOX_LINE_PX = 2.0
"""Width of a box's line, in pixels; the line of an outline is half as wide."""

HUE_STEP = 0.618034
"""Part of the colour circle between two consecutive objects: the golden ratio, so that neighbours differ most."""


def write(path: Path, frames: Iterator[LabelledImage]) -> None:
    """Write an MCAP file.

    Per camera, `/CAMERA/compressed` (foxglove.CompressedImage) and `/CAMERA/annotations` (foxglove.ImageAnnotations):
    for each object its box and the outlines of its mask as closed lines, and a caption. Both messages have the image's
    time as timestamp and as log time, by which Foxglove brings them together.

    Args:
        path: The file, which does not exist yet.
        frames: The images and their labels, in any order of time.

    Raises:
        OSError: The disk is full.
    """
    context = foxglove.Context()
    channels: dict[str, tuple[CompressedImageChannel, ImageAnnotationsChannel]] = {}
    with path.open("wb") as file:
        output = _ErrorKeepingFile(file)
        with foxglove.open_mcap(output, context=context):  # type: ignore[arg-type]  # it asks for less than a BinaryIO
            for frame in frames:
                if frame.camera not in channels:
                    name = f"/{frame.camera.removesuffix('/compressed')}"
                    channels[frame.camera] = (
                        CompressedImageChannel(f"{name}/compressed", context=context),
                        ImageAnnotationsChannel(f"{name}/annotations", context=context),
                    )
                images, annotations = channels[frame.camera]
                images.log(_make_image(frame), log_time=frame.stamp_ns)
                annotations.log(_make_annotations(frame), log_time=frame.stamp_ns)
                output.check()
        output.flush()
        output.check()
        os.fsync(file.fileno())


class _ErrorKeepingFile:
    """A file that keeps its first error for `check`, and pretends to go on without errors.

    The library only logs errors, once per message, and panics when it closes a file that has failed.

    Args:
        file: At its beginning; its contents are complete only if `check` raises nothing in the end.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._error: OSError | None = None
        self._place = self._end = 0

    def write(self, data: bytes) -> int:
        self._try(lambda: self._file.write(data))
        self._place += len(data)
        self._end = max(self._end, self._place)
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._end}[whence]
        self._try(lambda: self._file.seek(self._place))  # a buffered file writes before it moves
        return self._place

    def flush(self) -> None:
        self._try(self._file.flush)

    def check(self) -> None:
        """Raise the first error so far."""
        if self._error is not None:
            raise self._error

    def _try(self, do: Callable[[], Any]) -> None:
        if self._error is None:
            try:
                do()
            except OSError as error:
                self._error = error


def _make_timestamp(frame: LabelledImage) -> Timestamp:
    return Timestamp(*divmod(frame.stamp_ns, 1_000_000_000))


def _make_image(frame: LabelledImage) -> CompressedImage:
    return CompressedImage(
        timestamp=_make_timestamp(frame), frame_id=frame.camera, data=frame.data, format=frame.format
    )


def _make_annotations(frame: LabelledImage) -> ImageAnnotations:
    timestamp = _make_timestamp(frame)
    lines, texts = [], []
    for number, label in enumerate(frame.objects, start=1):
        color = _choose_color(label.get("track", number))
        lines.append(_make_line(timestamp, _to_corners(label["bbox"]), color, BOX_LINE_PX))
        lines += [_make_line(timestamp, outline, color, BOX_LINE_PX / 2) for outline in _find_outlines(frame, label)]
        texts.append(
            TextAnnotation(
                timestamp=timestamp,
                position=Point2(x=label["bbox"][0], y=label["bbox"][1]),
                text=frame.make_caption(label),
                font_size=12,
                text_color=Color(r=1, g=1, b=1, a=1),
                background_color=color,
            )
        )
    return ImageAnnotations(timestamp=timestamp, points=lines, texts=texts)


def _make_line(
    timestamp: Timestamp, corners: list[tuple[float, float]], color: Color, thickness: float
) -> PointsAnnotation:
    return PointsAnnotation(
        timestamp=timestamp,
        type=PointsAnnotationType.LineLoop,
        points=[Point2(x=x, y=y) for x, y in corners],
        outline_color=color,
        thickness=thickness,
    )


def _to_corners(bbox: list[int]) -> list[tuple[float, float]]:
    x, y, width, height = bbox
    return [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]


def _find_outlines(frame: LabelledImage, label: dict[str, Any]) -> list[list[tuple[float, float]]]:
    """Find the outlines of a mask, holes included, through the centres of its border pixels."""
    pixels = frame.decode_mask(label).view(np.uint8)
    contours, _ = cv2.findContours(pixels, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return [[(float(x) + 0.5, float(y) + 0.5) for x, y in contour[:, 0]] for contour in contours]


def _choose_color(number: int) -> Color:
    red, green, blue = colorsys.hsv_to_rgb(number * HUE_STEP % 1, 0.8, 0.9)
    return Color(r=red, g=green, b=blue, a=1)
