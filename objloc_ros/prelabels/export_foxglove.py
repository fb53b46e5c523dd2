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

from objloc_ros.prelabels.recording import Labelled

LINE = 2.0
"""Width of a box's line in pixels; that of an outline is half of it."""

GOLDEN = 0.618034
"""Part of the colour circle between an object and the next, so that neighbours differ most."""


def write(path: Path, frames: Iterator[Labelled]) -> None:
    """Write an MCAP file.

    Per camera, `/CAMERA/compressed` (foxglove.CompressedImage) and `/CAMERA/annotations` (foxglove.ImageAnnotations):
    for each object its box and the outlines of its mask as closed lines, and a caption. Both messages have the image's
    time as timestamp and as log time, by which Foxglove brings them together.

    Args:
        path: The file; not there yet.
        frames: What is recorded, in any order of time.

    Raises:
        OSError: If the disk is full.
    """
    context = foxglove.Context()
    channels: dict[str, tuple[CompressedImageChannel, ImageAnnotationsChannel]] = {}
    with path.open("wb") as file:
        guard = _Guard(file)
        with foxglove.open_mcap(guard, context=context):  # type: ignore[arg-type]  # it asks for less than a BinaryIO
            for frame in frames:
                if frame.camera not in channels:
                    name = f"/{frame.camera.removesuffix('/compressed')}"
                    channels[frame.camera] = (
                        CompressedImageChannel(f"{name}/compressed", context=context),
                        ImageAnnotationsChannel(f"{name}/annotations", context=context),
                    )
                images, annotations = channels[frame.camera]
                images.log(_image(frame), log_time=frame.stamp_ns)
                annotations.log(_annotations(frame), log_time=frame.stamp_ns)
                guard.check()
        guard.flush()
        guard.check()
        os.fsync(file.fileno())


class _Guard:
    """A file that keeps its first error for whoever asks, and seems to go on without end.

    The library only logs errors, once per message, and panics where it is asked to close a file that has failed.

    Args:
        file: At its beginning; what it holds is whole only if `check` raises nothing in the end.
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
        """Raise what went wrong so far."""
        if self._error is not None:
            raise self._error

    def _try(self, do: Callable[[], Any]) -> None:
        if self._error is None:
            try:
                do()
            except OSError as error:
                self._error = error


def _timestamp(frame: Labelled) -> Timestamp:
    return Timestamp(*divmod(frame.stamp_ns, 1_000_000_000))


def _image(frame: Labelled) -> CompressedImage:
    return CompressedImage(timestamp=_timestamp(frame), frame_id=frame.camera, data=frame.data, format=frame.format)


def _annotations(frame: Labelled) -> ImageAnnotations:
    timestamp = _timestamp(frame)
    lines, texts = [], []
    for place, one in enumerate(frame.objects, start=1):
        color = _color(one.get("track", place))
        lines.append(_line(timestamp, _corners(one["bbox"]), color, LINE))
        lines += [_line(timestamp, outline, color, LINE / 2) for outline in _outlines(frame, one)]
        texts.append(
            TextAnnotation(
                timestamp=timestamp,
                position=Point2(x=one["bbox"][0], y=one["bbox"][1]),
                text=frame.caption(one),
                font_size=12,
                text_color=Color(r=1, g=1, b=1, a=1),
                background_color=color,
            )
        )
    return ImageAnnotations(timestamp=timestamp, points=lines, texts=texts)


def _line(timestamp: Timestamp, corners: list[tuple[float, float]], color: Color, thickness: float) -> PointsAnnotation:
    return PointsAnnotation(
        timestamp=timestamp,
        type=PointsAnnotationType.LineLoop,
        points=[Point2(x=x, y=y) for x, y in corners],
        outline_color=color,
        thickness=thickness,
    )


def _corners(bbox: list[int]) -> list[tuple[float, float]]:
    x, y, width, height = bbox
    return [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]


def _outlines(frame: Labelled, one: dict[str, Any]) -> list[list[tuple[float, float]]]:
    """The outlines of a mask, holes included, through the centres of its border pixels."""
    pixels = frame.mask(one).view(np.uint8)
    contours, _ = cv2.findContours(pixels, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    return [[(float(x) + 0.5, float(y) + 0.5) for x, y in contour[:, 0]] for contour in contours]


def _color(number: int) -> Color:
    red, green, blue = colorsys.hsv_to_rgb(number * GOLDEN % 1, 0.8, 0.9)
    return Color(r=red, g=green, b=blue, a=1)
