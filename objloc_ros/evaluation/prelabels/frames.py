"""The frames of a piece of work, wherever they come from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from objloc_ros.errors import InputError
from objloc_ros.evaluation.prelabels.sources import Piece
from objloc_ros.ops.media import VideoReader, read_image
from objloc_ros.types import Image

SUFFIXES = ("jpg", "png")


@dataclass(frozen=True)
class Frame:
    """One image.

    Args:
        file_name: Below the folder of the inputs for an image, below that of the written frames for others.
        image: RGB uint8 [H, W, 3]; None if it could not be read.
        problem: Why not.
        camera: What it belongs to, if it is one of a sequence: a topic, or "".
        stamp_ns: When it was recorded, nanoseconds; None for frames that only follow one another.
        about: What is written down beside size and name: topic, place in the sequence, stamp.
    """

    file_name: str
    image: Image | None
    problem: str = ""
    camera: str = ""
    stamp_ns: int | None = None
    about: dict[str, Any] = field(default_factory=dict)


def frames(piece: Piece, topics: tuple[str, ...] = (), suffix: str = "jpg") -> Iterator[Frame]:
    """Read the frames of a piece in order.

    Args:
        piece: What to read.
        topics: Image topics of a bag; none for all its cameras.
        suffix: Of the names of frames that have none yet.

    Raises:
        InputError: A video or a bag cannot be read to its end. An image, or a message of a bag, that cannot be used is
            a frame with a problem: the others go on.
    """
    if piece.kind == "images":
        return _images(piece)
    return _video(piece, suffix) if piece.kind == "video" else _bag(piece, topics, suffix)


def count_frames(piece: Piece, topics: tuple[str, ...] = ()) -> int:
    """How many frames there will be, for a progress bar: as the files say, 0 where they do not."""
    path = piece.root / piece.files[0]
    try:
        if piece.kind == "images":
            return len(piece.files)
        if piece.kind == "video":
            return VideoReader(path).length
        from objloc_ros.evaluation.bags.survey import count_images  # needs ROS, as reading the bag will

        return count_images(path, topics or None)
    except InputError:
        return 0


def _images(piece: Piece) -> Iterator[Frame]:
    for name in piece.files:
        try:
            yield Frame(name, read_image(piece.root / name))
        except InputError as error:
            yield Frame(name, None, str(error))


def _video(piece: Piece, suffix: str) -> Iterator[Frame]:
    reader = VideoReader(piece.root / piece.files[0])
    for number, image in enumerate(reader):
        stamp_ns = round(number * 1e9 / reader.fps)
        about = {"video": piece.files[0], "frame": number, "stamp_ns": stamp_ns}
        yield Frame(f"{piece.name}/{number:06d}.{suffix}", image, about=about)


def _bag(piece: Piece, topics: tuple[str, ...], suffix: str) -> Iterator[Frame]:
    """Names begin with the frame's place in its topic: they sort as recorded, and stamps may occur twice."""
    from objloc_ros.evaluation.bags.images import images  # imports ROS
    from objloc_ros.evaluation.bags.reader import BagReader
    from objloc_ros.evaluation.bags.survey import choose_cameras

    counts: Counter[str] = Counter()
    with BagReader(piece.root / piece.files[0]) as bag:
        for one in images(bag, choose_cameras(bag, topics or None)):
            number = counts[one.topic]
            counts[one.topic] += 1
            name = str(Path(piece.name, one.topic.strip("/"), f"{number:06d}_{one.key}.{suffix}"))
            about = {"bag": piece.files[0], "topic": one.topic, "frame": number, "stamp_ns": one.key}
            yield Frame(name, one.image, one.problem, one.topic, one.key, about)
