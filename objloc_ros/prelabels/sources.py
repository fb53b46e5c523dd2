"""What there is to pre-label below the given files and folders, cut into pieces that can be done one by one."""

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
from objloc_ros.jobs.shards import Shard, blocks, free_name
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
        from objloc_ros.bags.survey import count_images  # needs ROS, as reading the bag will

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
    from objloc_ros.bags.images import images  # imports ROS
    from objloc_ros.bags.reader import BagReader
    from objloc_ros.bags.survey import choose_cameras

    counts: Counter[str] = Counter()
    with BagReader(piece.root / piece.files[0]) as bag:
        for one in images(bag, choose_cameras(bag, topics or None)):
            number = counts[one.topic]
            counts[one.topic] += 1
            name = str(Path(piece.name, one.topic.strip("/"), f"{number:06d}_{one.key}.{suffix}"))
            about = {"bag": piece.files[0], "topic": one.topic, "frame": number, "stamp_ns": one.key}
            yield Frame(name, one.image, one.problem, one.topic, one.key, about)


Kind = Literal["images", "video", "bag"]

BLOCK = 500
"""Images per piece: some tens of seconds of work, so that a killed run loses little."""

LONGEST = 150
"""Letters of a piece's name."""


@dataclass(frozen=True)
class Piece:
    """What one worker does at a time; small and picklable.

    Args:
        name: Of its results; frames of videos and bags go to a folder of this name.
        kind: What the files are.
        root: Folder below which they lie.
        files: Paths relative to it: images, or one video or bag.
        start: Place of the first image among those of all pieces.
    """

    name: str
    kind: Kind
    root: Path
    files: tuple[str, ...]
    start: int = 0


@dataclass(frozen=True)
class Sources:
    """Everything that was found, each once and in order.

    Args:
        root: Folder below which all of it lies.
        images: Paths relative to it.
        videos: Likewise.
        bags: Likewise, folders or single files.
    """

    root: Path
    images: tuple[str, ...] = ()
    videos: tuple[str, ...] = ()
    bags: tuple[str, ...] = ()


def find_sources(inputs: Sequence[Path], *, out: Path) -> Sources:
    """Look for images, videos and bags, in folders and all folders below them.

    Args:
        inputs: Files, bags and folders. A file that was named is taken whatever it is: reading it says so.
        out: Where results go; what lies in it is not looked at. Nor are hidden files and folders.

    Raises:
        InputError: An input is missing, holds nothing of the kind, or lies in the folder of the results.
    """
    out = out.resolve()
    found: dict[Path, Kind] = {}
    roots = []
    for given in inputs:
        path = given.resolve()
        if not path.exists():
            raise InputError(f"cannot read {given}: no such file or folder")
        if path.is_relative_to(out):
            raise InputError(f"the input {given} lies in {out}, where results go: choose another folder for them")
        is_folder = path.is_dir() and not is_bag(path)
        here = dict(_below(path, out)) if is_folder else {path: _kind(path)}
        if not here:
            raise InputError(f"there is no image, video or bag in {given}")
        found |= here
        roots.append(path if is_folder else path.parent)
    root = Path(os.path.commonpath(roots))
    named = [(str(path.relative_to(root)), kind) for path, kind in sorted(found.items())]
    images, videos, bags = (tuple(n for n, k in named if k == kind) for kind in ("images", "video", "bag"))
    return Sources(root, images, videos, bags)


def is_bag(path: Path) -> bool:
    """Whether a folder is a bag: there is rosbag2's description in it."""
    try:
        with (path / "metadata.yaml").open("rb") as file:
            return b"rosbag2_bagfile_information" in file.read(1000)
    except OSError:
        return False


def cut(sources: Sources, *, block: int = BLOCK, sequences: bool = False) -> list[Shard]:
    """Cut the work into pieces: blocks of images, single videos, single bags.

    Args:
        sources: What was found.
        block: Images per piece; results do not depend on it.
        sequences: The images of each folder belong together, like the frames of a video, and stay in one piece.

    Returns:
        Shards with a `Piece` each, images first.
    """
    names: set[str] = set()
    pieces = []
    for start, files in _sequences(sources.images) if sequences else blocks(sources.images, block):
        name = os.path.dirname(files[0]) if sequences else f"images {start:08d}"
        pieces.append(Piece(_free(name, names), "images", sources.root, tuple(files), start))
    names |= {Path(file).parts[0] for file in sources.images}  # frames may be written beside copies of images
    kinds: tuple[tuple[Kind, tuple[str, ...]], ...] = (("video", sources.videos), ("bag", sources.bags))
    pieces += [Piece(_free(file, names), kind, sources.root, (file,)) for kind, files in kinds for file in files]
    return [Shard(piece.name, piece) for piece in pieces]


def twins(images: Sequence[str]) -> tuple[str, str] | None:
    """The first two images that differ only in their suffixes; CVAT, which leaves these out, refuses both."""
    seen: dict[str, str] = {}
    for image in images:
        if (other := seen.setdefault(os.path.splitext(image)[0], image)) != image:
            return other, image
    return None


def _below(folder: Path, out: Path) -> Iterator[tuple[Path, Kind]]:
    for where, folders, files in os.walk(folder):
        here = Path(where)
        kept = [name for name in folders if not name.startswith(".") and here / name != out]
        bags = [name for name in kept if is_bag(here / name)]
        folders[:] = [name for name in kept if name not in bags]
        yield from ((here / name, "bag") for name in bags)
        for name in files:
            if (kind := _kind_of_file(name)) and not name.startswith("."):
                yield here / name, kind


def _kind(path: Path) -> Kind:
    return "bag" if path.is_dir() else _kind_of_file(path.name) or "images"


def _kind_of_file(name: str) -> Kind | None:
    suffix = os.path.splitext(name)[1].lower()
    if suffix in IMAGE_SUFFIXES:
        return "images"
    if suffix in VIDEO_SUFFIXES:
        return "video"
    return "bag" if name.endswith(BAG_SUFFIXES) else None


def _sequences(images: Sequence[str]) -> Iterator[tuple[int, Sequence[str]]]:
    """The images of each folder, with the place of the first."""
    folders: dict[str, list[str]] = {}
    for name in images:
        folders.setdefault(os.path.dirname(name), []).append(name)
    start = 0
    for files in folders.values():
        yield start, files
        start += len(files)


def _free(name: str, taken: set[str]) -> str:
    """A file name made of a path, numbered where another path has made the same."""
    plain = re.sub(r"\W+", "_", name).strip("_")[:LONGEST] or "images"
    return free_name(plain, taken)
