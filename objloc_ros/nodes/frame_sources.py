"""Where `image_source` gets its frames: a procedural drive, photographs, a video file or a webcam."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from objloc_ros.errors import InputError
from objloc_ros.io.media import IMAGE_SUFFIXES, VideoReader, list_sources, read_image
from objloc_ros.scenes.panning import PHOTOGRAPHS, pan_over
from objloc_ros.scenes.video import drive_video
from objloc_ros.types import Image

SCENE_SIZE = (640, 480)
SCENE_FRAMES = 150
"""Most frames of one drive, or of one round over the photographs: 184 MB at 640x480, 138 without the truth."""


@dataclass(frozen=True)
class SourceFrame:
    """One frame of a source.

    Args:
        rgb: uint8 [H, W, 3].
        truth: uint8 [H, W], 0 = background, i = object i; None where nobody knows.
    """

    rgb: Image
    truth: npt.NDArray[np.uint8] | None = None


def parse_size(text: str) -> tuple[int, int] | None:
    """Read a size such as "640x480" as (width, height); an empty text means None.

    Raises:
        InputError: Another form, or a side outside 1..8192.
    """
    if not text:
        return None
    match = re.fullmatch(r"(\d{1,4})x(\d{1,4})", text)
    if match is None or not all(1 <= int(side) <= 8192 for side in match.groups()):
        raise InputError(f"size must look like 640x480, each side from 1 to 8192, got {text!r}")
    return int(match[1]), int(match[2])


def open_source(
    source: str, *, size: tuple[int, int] | None = None, seed: int = 0, loop: bool = True, frames: int = 0
) -> Iterator[SourceFrame]:
    """Open a source of frames.

    Args:
        source: "scene", "photographs" (those of the package, under a moving camera), a picture, a folder of pictures, a
            video file, or a webcam as "0" or "/dev/video0".
        size: Width and height. The first two have this size; all else is shrunk to fit into it, never enlarged.
        seed: Seed of the scene.
        loop: Start again at the end.
        frames: How many will be asked for; 0 if unknown. The first two are drawn up to here, or to `SCENE_FRAMES`, in
            advance: that takes as much of the processor as the perception that is to be shown.

    Returns:
        The frames. Everything that can be checked without reading them all has been.

    Raises:
        InputError: Nothing readable under this name; from the iterator, a picture or device that cannot be read.
    """
    width, height = size or SCENE_SIZE
    count = min(frames or SCENE_FRAMES, SCENE_FRAMES)
    if source == "scene":
        return _play(
            (SourceFrame(*frame) for frame in drive_video(seed=seed, size=(height, width), frames=count)), loop
        )
    if source == "photographs":
        photographs = [read_image(path) for path in list_sources([PHOTOGRAPHS])]
        return _play(map(SourceFrame, pan_over(photographs, size=(height, width), frames=count)), loop)
    if source.isdigit() or source.startswith("/dev/video"):
        pictures = _open_webcam(source, size)
    else:
        pictures = _read_files(Path(source).expanduser(), loop)
    return (SourceFrame(_shrink(rgb, size)) for rgb in pictures)


def _play(frames: Iterable[SourceFrame], loop: bool) -> Iterator[SourceFrame]:
    drawn = list(frames)
    return itertools.cycle(drawn) if loop else iter(drawn)


def _read_files(path: Path, loop: bool) -> Iterator[Image]:
    if not path.exists():
        raise InputError(f"source {str(path)!r} does not exist")
    if path.is_dir():
        pictures = sorted(file for file in path.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)
        if not pictures:
            raise InputError(f"folder {path} holds no pictures ({' '.join(sorted(IMAGE_SUFFIXES))})")
        return _read_pictures(pictures, loop)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return _repeat(read_image(path), loop)
    next(iter(VideoReader(path)))
    return _read_video(path, loop)


def _repeat(rgb: Image, loop: bool) -> Iterator[Image]:
    return itertools.repeat(rgb) if loop else iter((rgb,))


def _read_pictures(paths: list[Path], loop: bool) -> Iterator[Image]:
    read_image(paths[0])
    return (read_image(path) for path in (itertools.cycle(paths) if loop else paths))


def _read_video(path: Path, loop: bool) -> Iterator[Image]:
    for _ in itertools.count() if loop else (0,):
        yield from VideoReader(path)


def _open_webcam(source: str, size: tuple[int, int] | None) -> Iterator[Image]:
    capture = cv2.VideoCapture(int(source) if source.isdigit() else source)
    if size is not None:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, size[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size[1])
    if not capture.isOpened() or not capture.read()[0]:
        raise InputError(f"webcam {source!r} cannot be opened: is it there, free, and may you read it?")
    return _read_webcam(source, capture)


def _read_webcam(source: str, capture: cv2.VideoCapture) -> Iterator[Image]:
    try:
        while True:
            good, bgr = capture.read()
            if not good:
                raise InputError(f"webcam {source!r} no longer delivers frames")
            yield np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8)
    finally:
        capture.release()


def _shrink(rgb: Image, size: tuple[int, int] | None) -> Image:
    height, width = rgb.shape[:2]
    scale = 1.0 if size is None else min(size[0] / width, size[1] / height)
    if scale >= 1.0:
        return rgb
    target = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(rgb, target, interpolation=cv2.INTER_AREA), np.uint8)
