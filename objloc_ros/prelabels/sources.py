"""What there is to pre-label in files and folders, cut into pieces that are labelled one by one.

First come the inputs (`find_sources`), then the pieces (`make_pieces`), then the frames of a piece (`read_frames`).
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from objloc_ros.errors import InputError
from objloc_ros.io.media import BAG_SUFFIXES, IMAGE_SUFFIXES, VIDEO_SUFFIXES, VideoReader, read_image
from objloc_ros.io.sanitize import sanitize_path
from objloc_ros.jobs.shards import Shard, cut_blocks, take_free_name
from objloc_ros.types import Image

SUFFIXES = ("jpg", "png")
"""Formats of written frames."""

BLOCK_IMAGES = 500
"""Images per piece: some tens of seconds of work, so that a killed run loses little."""

MAX_NAME_LETTERS = 150
"""Greatest length of a piece's name."""

Kind = Literal["images", "video", "bag"]


@dataclass(frozen=True)
class Sources:
    """The inputs that were found, each once and in order.

    Args:
        root: Folder below which all of them lie.
        images: Paths relative to it.
        videos: Likewise.
        bags: Likewise, folders or single files.
    """

    root: Path
    images: tuple[str, ...] = ()
    videos: tuple[str, ...] = ()
    bags: tuple[str, ...] = ()


def find_sources(inputs: Sequence[Path], *, out: Path) -> Sources:
    """Find images, videos and bags in folders and all folders below them.

    Args:
        inputs: Files, bags and folders. A named file is taken whatever it is: reading it raises the error.
        out: Where results go; it is left out, and so are hidden files and folders.

    Raises:
        InputError: An input is missing, holds nothing of the kind, or lies in the folder of the results.
    """
    out = out.resolve()
    kinds: dict[Path, Kind] = {}
    roots = []
    for given in inputs:
        path = given.resolve()
        if not path.exists():
            raise InputError(f"cannot read {given}: no such file or folder")
        if path.is_relative_to(out):
            raise InputError(f"the input {given} lies in {out}, where results go: choose another folder for them")
        is_folder = path.is_dir() and not is_bag(path)
        files = dict(_walk(path, out)) if is_folder else {path: _choose_kind(path)}
        if not files:
            raise InputError(f"there is no image, video or bag in {given}")
        kinds |= files
        roots.append(path if is_folder else path.parent)
    root = Path(os.path.commonpath(roots))
    names = {str(path.relative_to(root)): kind for path, kind in sorted(kinds.items())}
    images, videos, bags = (
        tuple(name for name, kind in names.items() if kind == wanted) for wanted in ("images", "video", "bag")
    )
    return Sources(root, images, videos, bags)


def _walk(folder: Path, out: Path) -> Iterator[tuple[Path, Kind]]:
    for where, folders, files in os.walk(folder):
        here = Path(where)
        kept = [name for name in folders if not name.startswith(".") and here / name != out]
        bags = [name for name in kept if is_bag(here / name)]
        folders[:] = [name for name in kept if name not in bags]
        yield from ((here / name, "bag") for name in bags)
        for name in files:
            if (kind := _choose_file_kind(name)) and not name.startswith("."):
                yield here / name, kind


def _choose_kind(path: Path) -> Kind:
    return "bag" if path.is_dir() else _choose_file_kind(path.name) or "images"


def _choose_file_kind(name: str) -> Kind | None:
    suffix = os.path.splitext(name)[1].lower()
    if suffix in IMAGE_SUFFIXES:
        return "images"
    if suffix in VIDEO_SUFFIXES:
        return "video"
    return "bag" if name.endswith(BAG_SUFFIXES) else None


def is_bag(path: Path) -> bool:
    """Whether a folder is a bag, which has a description by rosbag2."""
    try:
        with (path / "metadata.yaml").open("rb") as file:
            return b"rosbag2_bagfile_information" in file.read(1000)
    except OSError:
        return False


def find_twins(images: Sequence[str]) -> tuple[str, str] | None:
    """Find the first two images that differ only in their suffixes: CVAT ignores suffixes and refuses both."""
    seen: dict[str, str] = {}
    for image in images:
        if (other := seen.setdefault(os.path.splitext(image)[0], image)) != image:
            return other, image
    return None


@dataclass(frozen=True)
class Piece:
    """What one worker labels at a time; small and picklable.

    Args:
        name: Of its part; frames of videos and bags go to a folder of this name.
        kind: What the files are.
        root: Folder below which the files lie.
        files: Paths relative to it: images, or one video or bag.
        start: Index of the first image among those of all pieces.
    """

    name: str
    kind: Kind
    root: Path
    files: tuple[str, ...]
    start: int = 0


def make_pieces(sources: Sources, *, block: int = BLOCK_IMAGES, sequences: bool = False) -> list[Shard]:
    """Cut the work into pieces: blocks of images, single videos, single bags.

    Args:
        sources: What was found.
        block: Images per piece; results do not depend on it.
        sequences: Whether the images of each folder belong together, like the frames of a video, and stay in one piece.

    Returns:
        Shards with a `Piece` each, images first.
    """
    names: set[str] = set()
    pieces = []
    for start, files in _split_folders(sources.images) if sequences else cut_blocks(sources.images, block):
        name = os.path.dirname(files[0]) if sequences else f"images {start:08d}"
        pieces.append(Piece(_choose_name(name, names), "images", sources.root, tuple(files), start))
    names |= {Path(file).parts[0] for file in sources.images}  # frames may be written beside copies of images
    kinds: tuple[tuple[Kind, tuple[str, ...]], ...] = (("video", sources.videos), ("bag", sources.bags))
    pieces += [Piece(_choose_name(file, names), kind, sources.root, (file,)) for kind, files in kinds for file in files]
    return [Shard(piece.name, piece) for piece in pieces]


def _split_folders(images: Sequence[str]) -> Iterator[tuple[int, Sequence[str]]]:
    """Split images by folder; yields the index of each folder's first image and the images."""
    folders: dict[str, list[str]] = {}
    for name in images:
        folders.setdefault(os.path.dirname(name), []).append(name)
    start = 0
    for files in folders.values():
        yield start, files
        start += len(files)


def _choose_name(name: str, taken: set[str]) -> str:
    """Make a file name of a path, numbered where another path has the same name."""
    plain = re.sub(r"\W+", "_", name).strip("_")[:MAX_NAME_LETTERS] or "images"
    return take_free_name(plain, taken)


@dataclass(frozen=True)
class SourceFrame:
    """One image.

    Args:
        file_name: Below the folder of the inputs for an image, below that of the written frames for other frames.
        image: RGB uint8 [H, W, 3]; None if it could not be read.
        problem: Why not.
        camera: The topic of a frame of a bag, else "".
        stamp_ns: When it was recorded, nanoseconds; None for frames without time, which follow one another.
        about: What is written to the labels beside size and name: topic, index in the sequence, stamp.
    """

    file_name: str
    image: Image | None
    problem: str = ""
    camera: str = ""
    stamp_ns: int | None = None
    about: dict[str, Any] = field(default_factory=dict)


def read_frames(piece: Piece, topics: tuple[str, ...] = (), suffix: str = "jpg") -> Iterator[SourceFrame]:
    """Read the frames of a piece in order.

    Args:
        piece: What to read.
        topics: Image topics of a bag; empty for all its cameras.
        suffix: Of the names of frames that are no files yet.

    Raises:
        InputError: A video or a bag cannot be read to its end. An image, or a message of a bag, that cannot be used is
            a frame with a problem, and the next frames follow.
    """
    if piece.kind == "images":
        return _read_images(piece)
    return _read_video(piece, suffix) if piece.kind == "video" else _read_bag(piece, topics, suffix)


def count_frames(piece: Piece, topics: tuple[str, ...] = ()) -> int:
    """Count the frames of a piece for a progress bar: as its files say, 0 where they do not."""
    path = piece.root / piece.files[0]
    try:
        if piece.kind == "images":
            return len(piece.files)
        if piece.kind == "video":
            return VideoReader(path).length
        from objloc_ros.bags.survey import count_images  # needs ROS, as reading the bag will

        return count_images(path, topics or None)
    except InputError:
        return 0


def _read_images(piece: Piece) -> Iterator[SourceFrame]:
    for name in piece.files:
        try:
            yield SourceFrame(name, read_image(piece.root / name))
        except InputError as error:
            yield SourceFrame(name, None, str(error))


def _read_video(piece: Piece, suffix: str) -> Iterator[SourceFrame]:
    reader = VideoReader(piece.root / piece.files[0])
    for number, image in enumerate(reader):
        stamp_ns = round(number * 1e9 / reader.fps)
        about = {"video": piece.files[0], "frame": number, "stamp_ns": stamp_ns}
        yield SourceFrame(f"{piece.name}/{number:06d}.{suffix}", image, about=about)


def _read_bag(piece: Piece, topics: tuple[str, ...], suffix: str) -> Iterator[SourceFrame]:
    """Read a bag; names begin with the frame's index in its topic, as stamps may occur twice."""
    from objloc_ros.bags.images import read_images  # imports ROS
    from objloc_ros.bags.reader import BagReader
    from objloc_ros.bags.survey import choose_cameras

    counts: Counter[str] = Counter()
    with BagReader(piece.root / piece.files[0]) as bag:
        for image in read_images(bag, choose_cameras(bag, topics or None)):
            number = counts[image.topic]
            counts[image.topic] += 1
            name = str(Path(piece.name, sanitize_path(image.topic), f"{number:06d}_{image.key}.{suffix}"))
            about = {"bag": piece.files[0], "topic": image.topic, "frame": number, "stamp_ns": image.key}
            yield SourceFrame(name, image.image, image.problem, image.topic, image.key, about)
