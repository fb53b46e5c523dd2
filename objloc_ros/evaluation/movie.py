"""A sequence of frames as a film that people can play."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import PIL.Image

from objloc_ros.errors import InputError
from objloc_ros.ops.media import VideoWriter
from objloc_ros.types import Image

GIF_SIDE = 320


def write_movie(path: Path, frames: Iterable[Image], rate: float) -> Path:
    """Write an MP4, or a GIF where OpenCV cannot encode MP4.

    Args:
        path: Without suffix.
        frames: RGB uint8 [H, W, 3]; the first one gives the size, others are fitted into it on black.
        rate: Frames per second.

    Returns:
        The file: `path` with its suffix.

    Raises:
        InputError: There are no frames.
    """
    sized = _same_size(frames)
    first = next(sized, None)
    if first is None:
        raise InputError(f"there are no frames for {path}")
    mp4 = path.with_suffix(".mp4")
    with VideoWriter(mp4, rate) as writer:
        try:
            writer.write(first)
        except InputError:
            return _gif(path.with_suffix(".gif"), itertools.chain((first,), sized), rate)
        for frame in sized:
            writer.write(frame)
    return mp4


def _same_size(frames: Iterable[Image]) -> Iterator[Image]:
    canvas: Image | None = None
    for frame in frames:
        if canvas is None:
            canvas = np.zeros_like(frame)
        yield frame if frame.shape == canvas.shape else _letterboxed(frame, canvas)


def _letterboxed(frame: Image, canvas: Image) -> Image:
    scale = min(canvas.shape[0] / frame.shape[0], canvas.shape[1] / frame.shape[1])
    height, width = (max(1, round(scale * side)) for side in frame.shape[:2])
    top, left = (canvas.shape[0] - height) // 2, (canvas.shape[1] - width) // 2
    picture = canvas.copy()
    picture[top : top + height, left : left + width] = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
    return picture


def _gif(path: Path, frames: Iterator[Image], rate: float) -> Path:
    pictures = (_thumbnail(frame) for frame in frames)
    next(pictures).save(path, save_all=True, append_images=pictures, duration=round(1000 / rate), loop=0)
    return path


def _thumbnail(frame: Image) -> PIL.Image.Image:
    picture = PIL.Image.fromarray(frame)
    picture.thumbnail((GIF_SIDE, GIF_SIDE))
    return picture.quantize(128)
