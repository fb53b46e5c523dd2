"""Images and videos on disk, as RGB arrays; videos that people can play."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image

from objloc_ros.errors import InputError
from objloc_ros.types import Image, Size

IMAGE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})
BAG_SUFFIXES = (".db3", ".db3.zstd", ".mcap", ".mcap.zstd")
"""Of the files of a bag that hold messages."""

_DEFAULT_FPS = 25.0

_ORIENTATION = 0x0112
"""EXIF tag; from 5 on, rows and columns change places."""


def list_sources(paths: Iterable[Path]) -> list[Path]:
    """List what there is to read: a folder becomes its images and videos by name, its sub-folders are left out.

    Files are taken as they are, also when they are missing or of an unknown kind: reading them says so.

    Raises:
        InputError: If a folder holds no image and no video.
    """
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        inside = sorted(f for f in path.iterdir() if f.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES)
        if not inside:
            raise InputError(f"the folder {path} holds no image and no video")
        files += inside
    return files


def is_video(path: Path) -> bool:
    """Return whether the name says that the file is a video."""
    return path.suffix.lower() in VIDEO_SUFFIXES


def read_image(path: Path) -> Image:
    """Read an image file as RGB uint8 [H, W, 3]; grey is repeated, alpha dropped, the camera's orientation applied.

    Raises:
        InputError: If the file cannot be read or is not a whole image.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if image is None or _is_truncated_jpeg(data):
        raise InputError(f"cannot read {path}: not a whole image in a known format")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def read_image_size(path: Path) -> Size:
    """Return height and width by the header of an image file, as `read_image` returns it.

    Raises:
        InputError: If the file cannot be read or has no header of an image.
    """
    try:
        with PIL.Image.open(path) as image:
            (width, height), turned = image.size, image.getexif().get(_ORIENTATION, 1) >= 5
    except (OSError, SyntaxError, ValueError, TypeError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    return (width, height) if turned else (height, width)


def write_image(path: Path, image: Image | npt.NDArray[np.uint16]) -> None:
    """Write uint8 [H, W, 3] RGB, or uint8 or uint16 [H, W] grey, in the format of the suffix.

    Raises:
        InputError: If the file cannot be written.
    """
    pixels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    done, data = cv2.imencode(path.suffix, pixels)
    try:
        if done:
            path.write_bytes(data.tobytes())
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from error


class VideoReader:
    """Frames of a video file, one after the other.

    Args:
        path: The file.

    Raises:
        InputError: If the file is missing or no video decoder accepts it.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise InputError(f"cannot read {path}: no such file")
        self.path = path
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise InputError(f"cannot read {path}: not a video in a known format")
        fps = self._capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps < 1000 else _DEFAULT_FPS
        self.length = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        """Number of frames the container announces; an estimate in some formats."""

    def __iter__(self) -> Iterator[Image]:
        """Yield RGB uint8 [H, W, 3] until the video ends; raises InputError where it holds no frame at all."""
        count = 0
        while True:
            more, frame = self._capture.read()
            if not more:
                break
            count += 1
            yield np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), np.uint8)
        if count == 0:
            raise InputError(f"cannot read {self.path}: it holds no frame that can be decoded")


class VideoWriter:
    """An MP4 file that frames of one size are appended to; nothing is created before the first frame.

    Args:
        path: The file, ending in `.mp4`.
        fps: Frames per second.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self.path = path
        self.fps = fps
        self._writer: cv2.VideoWriter | None = None

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._writer is not None:
            self._writer.release()

    def write(self, image: Image) -> None:
        """Append one RGB frame uint8 [H, W, 3]; the codec crops an odd last row or column.

        Raises:
            InputError: If the file cannot be written or the frame is smaller than 2x2 pixels.
        """
        if self._writer is None:
            size = (image.shape[1], image.shape[0])
            self._writer = cv2.VideoWriter(str(self.path), cv2.VideoWriter.fourcc(*"mp4v"), self.fps, size)
            if not self._writer.isOpened():
                raise InputError(f"cannot write a video of {size[0]}x{size[1]} pixels to {self.path}")
        self._writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


def _is_truncated_jpeg(data: bytes) -> bool:
    """Older OpenCV decodes a cut JPEG to a partly grey picture; a whole one has an end marker after its last scan."""
    return data.startswith(b"\xff\xd8") and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")


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
            return _write_gif(path.with_suffix(".gif"), itertools.chain((first,), sized), rate)
        for frame in sized:
            writer.write(frame)
    return mp4


def _same_size(frames: Iterable[Image]) -> Iterator[Image]:
    canvas: Image | None = None
    for frame in frames:
        if canvas is None:
            canvas = np.zeros_like(frame)
        yield frame if frame.shape == canvas.shape else _letterbox(frame, canvas)


def _letterbox(frame: Image, canvas: Image) -> Image:
    scale = min(canvas.shape[0] / frame.shape[0], canvas.shape[1] / frame.shape[1])
    height, width = (max(1, round(scale * side)) for side in frame.shape[:2])
    top, left = (canvas.shape[0] - height) // 2, (canvas.shape[1] - width) // 2
    picture = canvas.copy()
    picture[top : top + height, left : left + width] = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
    return picture


def _write_gif(path: Path, frames: Iterator[Image], rate: float) -> Path:
    pictures = (_shrink(frame) for frame in frames)
    next(pictures).save(path, save_all=True, append_images=pictures, duration=round(1000 / rate), loop=0)
    return path


def _shrink(frame: Image) -> PIL.Image.Image:
    picture = PIL.Image.fromarray(frame)
    picture.thumbnail((GIF_SIDE, GIF_SIDE))
    return picture.quantize(128)
