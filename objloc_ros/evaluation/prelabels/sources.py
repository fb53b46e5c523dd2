"""What there is to pre-label below the given files and folders, cut into pieces that can be done one by one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from objloc_ros.errors import InputError
from objloc_ros.evaluation.shards import Shard, blocks, free_name
from objloc_ros.ops.media import BAG_SUFFIXES, IMAGE_SUFFIXES, VIDEO_SUFFIXES

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
