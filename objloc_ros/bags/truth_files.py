"""Truth of a bag's frames: from topics of the bag, or from a COCO document keyed by stamp.

Each image of a document says which frame it is by `stamp_ns`, the stamp of the frame's header in nanoseconds, or by a
file name that is nothing else (`1700000000123456789.png`). Where there is a `topic` or a `bag`, as in what `objloc
prelabel` writes, the image belongs to that camera and that bag alone. A `track_id` of an annotation, or of its
`attributes`, is a name that lasts from frame to frame; masks, polygons or run lengths (RLE), are used if all objects of
an image have one.
"""

from __future__ import annotations

import functools
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from objloc_ros.bags.reader import BagReader
from objloc_ros.bags.survey import IMAGE_KINDS, Stamps, match, namespaces
from objloc_ros.bags.truth import Box, Classes, FrameTruth, TopicTruth
from objloc_ros.bags.writer import decoded
from objloc_ros.data.coco_document import read_truth
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.io.rle import decode, to_rle, union
from objloc_ros.nodes.messages import names_of
from objloc_ros.types import Size

Record = Mapping[str, Any]


class CocoTruth:
    """A document, checked.

    Args:
        path: The file.

    Raises:
        InputError: It is no COCO document, or an image does not say when it was taken.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._document = read_truth(path).document
        self._stamps = [self._stamp(image) for image in self._document["images"]]
        self._objects: dict[Any, list[Record]] = {}
        for one in self._document["annotations"]:
            if not one.get("iscrowd"):
                self._objects.setdefault(one["image_id"], []).append(one)

    def images(self, bag: str, camera: str) -> dict[int, Record]:
        """The images of a camera by their stamps, nanoseconds.

        Args:
            bag: Name of the bag, without folders.
            camera: Topic.

        Raises:
            InputError: Two have the same stamp.
        """
        plain = camera.removesuffix("/compressed")
        found: dict[int, Record] = {}
        for stamp, image in zip(self._stamps, self._document["images"], strict=True):
            theirs = str(image.get("topic") or plain).removesuffix("/compressed")
            if theirs != plain or PurePath(str(image.get("bag") or bag)).name != bag:
                continue
            if stamp in found:
                raise InputError(
                    f"{self.path}: images {found[stamp]['id']!r} and {image['id']!r} have one stamp, {stamp}"
                )
            found[stamp] = image
        return found

    def truth(self, image: Record) -> FrameTruth:
        """What is true of an image.

        Raises:
            InputError: A mask is damaged, or has another size than its image.
        """
        objects = self._objects.get(image["id"], [])
        tracks = [one.get("track_id", (one.get("attributes") or {}).get("track_id")) for one in objects]
        lasting = None not in tracks and len(set(tracks)) == len(tracks)
        names: list[Hashable] = tracks if lasting else list(range(len(objects)))
        boxes = {name: _corners(one["bbox"]) for name, one in zip(names, objects, strict=True)}
        return FrameTruth(boxes, lasting, self._foreground(image, objects))

    def _foreground(self, image: Record, objects: list[Record]) -> npt.NDArray[np.bool_] | None:
        masks = [one.get("segmentation") for one in objects]
        if not masks or not all(masks):
            return None
        name = f"{self.path}: image {image['id']!r}"
        size = _size(image, masks)
        if size is None:
            raise InputError(f"{name} has masks, but no height and width")
        if any(isinstance(mask, dict) and mask.get("size") != list(size) for mask in masks):
            raise InputError(f"{name} has masks of other sizes than {size[1]}x{size[0]}")
        try:
            return decode(union([to_rle(mask, size) for mask in masks]))
        except InputError as error:
            raise InputError(f"{name}, an object: {error}") from error

    def _stamp(self, image: Record) -> int:
        stamp = image.get("stamp_ns", PurePath(str(image.get("file_name", ""))).stem)
        try:
            return int(stamp)
        except (TypeError, ValueError):
            raise InputError(
                f"{self.path}: image {image['id']!r} has no stamp_ns, and its file name {image.get('file_name')!r} is "
                "no number of nanoseconds"
            ) from None


class FileTruth:
    """The truth of one camera from a COCO document.

    Args:
        file: The document.
        bag: Path of the bag.
        camera: Topic of the frames.
        frames: Their stamps.
        slop_ns: Greatest difference of the stamps of a frame and its truth, nanoseconds.

    Raises:
        InputError: No frame has truth.
    """

    classes: Classes | None = None

    def __init__(self, file: CocoTruth, bag: Path, camera: str, frames: Stamps, slop_ns: int) -> None:
        self._images = file.images(bag.name, camera)
        keys = np.array(sorted(self._images), np.int64)
        self.matches = match(frames.different, keys, slop_ns, what=str(file.path))
        self.counts = {"messages": len(keys), **self.matches.counts(), "duplicate_stamps": 0}
        self._asked = np.zeros(len(self.matches.frames), bool)
        self._file = file

    def at(self, key: int) -> FrameTruth | None:
        """The truth of the frame with this key; None if it has none, or has been asked for before."""
        place = self.matches.of_frame(key)
        if place is None or self._asked[place]:
            return None
        self._asked[place] = True
        return self._file.truth(self._images[int(self.matches.truths[place])])

    def close(self) -> None:
        """Nothing is open: the document has been read."""


def _size(image: Record, masks: list[Any]) -> Size | None:
    """Height and width of an image, which run lengths say where the image does not."""
    given = [[image.get("height"), image.get("width")], *(mask.get("size") for mask in masks if isinstance(mask, dict))]
    for size in given:
        if isinstance(size, list) and len(size) == 2 and all(isinstance(side, int) and side > 0 for side in size):
            return size[0], size[1]
    return None


def _corners(box: list[float]) -> Box:
    x, y, width, height = box
    return x, y, x + width, y + height


DETECTIONS = "vision_msgs/msg/Detection2DArray"
LABEL_INFO = "vision_msgs/msg/LabelInfo"


@dataclass(frozen=True)
class TruthSpec:
    """Where to look for truth.

    Args:
        topics: (camera, topic) with an empty camera where the names must tell whose truth it is.
        file: COCO document.
        labels: Names of the values of truth masks, from 0 on; none takes those of a LabelInfo beside the masks.
        slop_ns: Greatest difference of the stamps of a frame and its truth, nanoseconds.

    Raises:
        ParameterError: Both are given, or something is out of range.
    """

    topics: tuple[tuple[str, str], ...] = ()
    file: Path | None = None
    labels: tuple[str, ...] = ()
    slop_ns: int = 0

    def __post_init__(self) -> None:
        if self.topics and self.file is not None:
            raise ParameterError("truth comes from topics or from a file, not from both")
        if self.slop_ns < 0:
            raise ParameterError(f"the greatest difference of stamps must not be negative, got {self.slop_ns / 1e6} ms")
        if self.labels:
            Classes(dict(enumerate(self.labels)))

    def names(self) -> list[str]:
        """The topics."""
        return [topic for _, topic in self.topics]

    def by_camera(self, bag: BagReader, cameras: Sequence[str]) -> dict[str, str]:
        """The truth topic of each camera that has one.

        Raises:
            InputError: A topic is not there, holds no truth, or could be that of several cameras.
        """
        bag.need(self.names())
        chosen: dict[str, str] = {}
        for camera, topic in self.topics:
            if bag.kinds[topic] not in (DETECTIONS, *IMAGE_KINDS):
                raise InputError(f"topic {topic} of bag {bag.path} holds {bag.kinds[topic]} messages: no truth")
            owner = camera or _owner(topic, cameras)
            if owner not in cameras:
                raise InputError(f"{topic} was to be the truth of {owner}, but the cameras are {', '.join(cameras)}")
            if owner in chosen:
                raise InputError(f"{chosen[owner]} and {topic} cannot both be the truth of {owner}")
            chosen[owner] = topic
        return chosen


Truth = TopicTruth | FileTruth


def open_truths(
    bag: BagReader, stamps: Mapping[str, Stamps], cameras: Sequence[str], spec: TruthSpec
) -> dict[str, Truth]:
    """The truth of each camera that has one.

    Args:
        bag: An open bag.
        stamps: Of all cameras and truth topics.
        cameras: Topics of images.
        spec: Where to look.

    Raises:
        InputError: There is truth, but no frame for it.
    """
    found: dict[str, Truth] = {}
    for camera, topic in spec.by_camera(bag, cameras).items():
        classes = read_classes(bag, topic, spec)
        found[camera] = TopicTruth(bag.path, topic, stamps[camera], stamps[topic], spec.slop_ns, classes)
    if spec.file is None:
        return found
    document, problems = _document(spec.file), []
    for camera in cameras:  # the document may be of some of them only
        try:
            found[camera] = FileTruth(document, bag.path, camera, stamps[camera], spec.slop_ns)
        except InputError as error:
            problems.append(error)
    if not found:
        raise problems[0]
    return found


def _document(path: Path) -> CocoTruth:
    """A COCO document, which is not read again for every bag and node."""
    changed_ns = path.stat().st_mtime_ns if path.exists() else 0
    return _document_of(path, changed_ns)


@functools.lru_cache(maxsize=1)
def _document_of(path: Path, changed_ns: int) -> CocoTruth:
    del changed_ns  # tells a file from itself before a change
    return CocoTruth(path)


def read_classes(bag: BagReader, topic: str, spec: TruthSpec) -> Classes | None:
    """The names of the values of a truth topic's masks; None where they are identities.

    Raises:
        InputError: The names change within the bag.
    """
    if bag.kinds[topic] == DETECTIONS:
        return None
    if spec.labels:
        return Classes(dict(enumerate(spec.labels)))
    beside = _beside(topic)
    names: Mapping[int, str] | None = None
    if bag.kinds.get(beside) == LABEL_INFO:
        for message in bag.messages([beside]):
            these = names_of(decoded(bag, message.kind, message.data))
            if names not in (None, these):
                raise InputError(f"{beside} in bag {bag.path} changes from {names} to {these}: truth needs one set")
            names = these
    return None if names is None else Classes(names, void=False)


def _beside(topic: str) -> str:
    return str(PurePosixPath(topic).parent / "label_info")


def _owner(topic: str, cameras: Sequence[str]) -> str:
    """The camera in whose namespace a truth topic lies."""
    spaces = namespaces(cameras)
    near = [camera for camera in cameras if topic.startswith(f"{spaces[camera]}/")]
    longest = max((len(spaces[camera]) for camera in near), default=0)
    near = [camera for camera in near if len(spaces[camera]) == longest]
    if len(cameras) == 1:
        return cameras[0]
    if len(near) != 1:
        raise InputError(
            f"{topic} may be the truth of {', '.join(near or cameras)}: say whose it is, {(near or cameras)[0]}={topic}"
        )
    return near[0]
