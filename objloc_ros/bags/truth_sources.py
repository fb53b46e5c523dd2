"""Where the truth of a camera's frames comes from: a topic of the bag, or a COCO document keyed by stamp.

Each image of a document says which frame it is by `stamp_ns`, the stamp of the frame's header in nanoseconds, or by a
file name that is only that number (`1700000000123456789.png`). An image with a `topic` or a `bag`, as `objloc prelabel`
writes them, belongs to that camera and that bag alone. A `track_id` of an annotation, or of its `attributes`, names an
object in all frames; masks, polygons or run lengths (RLE), are used if all objects of an image have one.
"""

from __future__ import annotations

import functools
from collections.abc import Generator, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from objloc_ros.bags.reader import BagReader, deserialize
from objloc_ros.bags.survey import IMAGE_KINDS, Stamps, choose_namespaces, match_stamps, parse_key
from objloc_ros.bags.truth import Classes, FrameTruth, decode_mask, locate_errors, parse_detections, parse_mask
from objloc_ros.data.coco_document import read_truth, to_corners
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.io.rle import decode, to_rle, union
from objloc_ros.nodes.messages import parse_label_info
from objloc_ros.types import Size

Record = Mapping[str, Any]
"""An image or an annotation of a COCO document."""

DETECTIONS_KIND = "vision_msgs/msg/Detection2DArray"
LABEL_INFO_KIND = "vision_msgs/msg/LabelInfo"

MAX_PENDING_TRUTHS = 60
"""Truths that are kept for frames still to come. There is a limit because frames that real time dropped are never asked
for, and their truths must not fill the memory."""


@dataclass(frozen=True)
class TruthSpec:
    """Where to look for truth.

    Args:
        topics: Pairs (camera, topic); an empty camera is found by the names.
        file: COCO document.
        labels: Names of the values of truth masks, from 0 on; if empty, those of a LabelInfo beside the masks.
        slop_ns: Greatest difference of the stamps of a frame and its truth, nanoseconds.

    Raises:
        ParameterError: Topics and a file are given, or a value is out of range.
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

    @property
    def topic_names(self) -> list[str]:
        """The topics, without their cameras."""
        return [topic for _, topic in self.topics]

    def assign_topics(self, bag: BagReader, cameras: Sequence[str]) -> dict[str, str]:
        """Find the truth topic of each camera that has one.

        Raises:
            InputError: A topic is missing, holds no truth, or could belong to several cameras.
        """
        bag.require_topics(self.topic_names)
        topics: dict[str, str] = {}
        for camera, topic in self.topics:
            if bag.kinds[topic] not in (DETECTIONS_KIND, *IMAGE_KINDS):
                raise InputError(f"topic {topic} of bag {bag.path} holds {bag.kinds[topic]} messages, not truth")
            owner = camera or _find_owner(topic, cameras)
            if owner not in cameras:
                raise InputError(f"{topic} cannot be the truth of {owner}: the cameras are {', '.join(cameras)}")
            if owner in topics:
                raise InputError(f"{topics[owner]} and {topic} cannot both be the truth of {owner}")
            topics[owner] = topic
        return topics


class TopicTruth:
    """The truth of one camera from a topic, read as far as the frames need it.

    The bag is opened once more for it, so that truth may have been recorded long before or after its frames. It must be
    in the order of the frames, except for `MAX_PENDING_TRUTHS` of them.

    Args:
        bag: Its path.
        topic: Truth topic.
        frames: Stamps of the camera.
        truths: Stamps of the topic.
        slop_ns: Greatest difference of the stamps of a frame and its truth, nanoseconds.
        classes: Names of the values of masks, if they are classes.

    Raises:
        InputError: No frame has truth.
    """

    def __init__(
        self, bag: Path, topic: str, frames: Stamps, truths: Stamps, slop_ns: int, classes: Classes | None
    ) -> None:
        self.classes = classes
        self._bag, self._topic = bag, topic
        self.matches = match_stamps(frames.unique_keys, truths.unique_keys, slop_ns, what=f"{topic} in bag {bag}")
        self.counts = {"messages": len(truths), **self.matches.count(), "duplicate_stamps": truths.duplicates}
        self._taken, self._read = np.zeros((2, len(self.matches.frames)), bool)
        self._pending: dict[int, FrameTruth] = {}
        self._source = self._read_truths()

    def take(self, key: int) -> FrameTruth | None:
        """Take the truth of the frame with this key; None if it has no truth, or it was taken before.

        Raises:
            InputError: The bag is damaged, or its truth is invalid or in another order than the frames.
        """
        pair = self.matches.find_frame(key)
        if pair is None or self._taken[pair]:
            return None
        self._taken[pair] = True
        while pair not in self._pending:
            if self._read[pair]:
                raise InputError(
                    f"{self._topic} is in another order than its frames, by more than {MAX_PENDING_TRUTHS} of them"
                )
            if len(self._pending) > MAX_PENDING_TRUTHS:
                del self._pending[next(iter(self._pending))]
            next_pair, truth = next(self._source)
            self._pending[next_pair] = truth
        return self._pending.pop(pair)

    def close(self) -> None:
        """Close the bag, in the thread that has taken truth."""
        self._source.close()

    def _read_truths(self) -> Generator[tuple[int, FrameTruth], None, None]:
        """Read the truth of each pair once: its index and the truth."""
        with BagReader(self._bag) as bag:
            for message in bag.messages([self._topic]):
                key = parse_key(message)
                pair = self.matches.find_truth(key)
                if pair is not None and not self._read[pair]:
                    self._read[pair] = True
                    with locate_errors(self._topic, key):
                        yield pair, self._parse(deserialize(bag, message.kind, message.data))

    def _parse(self, message: Any) -> FrameTruth:
        if type(message).__name__ == "Detection2DArray":
            return parse_detections(message)
        return parse_mask(decode_mask(message), self.classes)


class CocoDocument:
    """A COCO document whose images have stamps.

    Args:
        path: The file.

    Raises:
        InputError: The file is no COCO document, or an image does not say when it was taken.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._document = read_truth(path).document
        self._stamps = [self._parse_stamp(image) for image in self._document["images"]]
        self._objects: dict[Any, list[Record]] = {}
        for annotation in self._document["annotations"]:
            if not annotation.get("iscrowd"):
                self._objects.setdefault(annotation["image_id"], []).append(annotation)

    def select_images(self, bag: str, camera: str) -> dict[int, Record]:
        """Select the images of a camera, by their stamps in nanoseconds.

        Args:
            bag: Name of the bag, without folders.
            camera: Topic.

        Raises:
            InputError: Two have the same stamp.
        """
        plain = camera.removesuffix("/compressed")
        images: dict[int, Record] = {}
        for stamp, image in zip(self._stamps, self._document["images"], strict=True):
            topic = str(image.get("topic") or plain).removesuffix("/compressed")
            if topic != plain or PurePath(str(image.get("bag") or bag)).name != bag:
                continue
            if stamp in images:
                raise InputError(
                    f"{self.path}: images {images[stamp]['id']!r} and {image['id']!r} have one stamp, {stamp}"
                )
            images[stamp] = image
        return images

    def read_truth(self, image: Record) -> FrameTruth:
        """Read the truth of an image.

        Raises:
            InputError: A mask is damaged, or has another size than its image.
        """
        objects = self._objects.get(image["id"], [])
        tracks = [
            annotation.get("track_id", (annotation.get("attributes") or {}).get("track_id")) for annotation in objects
        ]
        tracked = None not in tracks and len(set(tracks)) == len(tracks)
        names: list[Hashable] = tracks if tracked else list(range(len(objects)))
        boxes = {name: to_corners(annotation["bbox"]) for name, annotation in zip(names, objects, strict=True)}
        return FrameTruth(boxes, tracked, self._decode_foreground(image, objects))

    def _decode_foreground(self, image: Record, objects: list[Record]) -> npt.NDArray[np.bool_] | None:
        masks = [annotation.get("segmentation") for annotation in objects]
        if not masks or not all(masks):
            return None
        name = f"{self.path}: image {image['id']!r}"
        size = _find_size(image, masks)
        if size is None:
            raise InputError(f"{name} has masks, but no height and width")
        if any(isinstance(mask, dict) and mask.get("size") != list(size) for mask in masks):
            raise InputError(f"{name} has masks of other sizes than {size[1]}x{size[0]}")
        try:
            return decode(union([to_rle(mask, size) for mask in masks]))
        except InputError as error:
            raise InputError(f"{name}, an object: {error}") from error

    def _parse_stamp(self, image: Record) -> int:
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
        document: The document.
        bag: Path of the bag.
        camera: Topic of the frames.
        frames: Their stamps.
        slop_ns: Greatest difference of the stamps of a frame and its truth, nanoseconds.

    Raises:
        InputError: No frame has truth.
    """

    classes: Classes | None = None

    def __init__(self, document: CocoDocument, bag: Path, camera: str, frames: Stamps, slop_ns: int) -> None:
        self._images = document.select_images(bag.name, camera)
        keys = np.array(sorted(self._images), np.int64)
        self.matches = match_stamps(frames.unique_keys, keys, slop_ns, what=str(document.path))
        self.counts = {"messages": len(keys), **self.matches.count(), "duplicate_stamps": 0}
        self._taken = np.zeros(len(self.matches.frames), bool)
        self._document = document

    def take(self, key: int) -> FrameTruth | None:
        """Take the truth of the frame with this key; None if it has no truth, or it was taken before."""
        pair = self.matches.find_frame(key)
        if pair is None or self._taken[pair]:
            return None
        self._taken[pair] = True
        return self._document.read_truth(self._images[int(self.matches.truths[pair])])

    def close(self) -> None:
        """Do nothing: the document has been read, and no file is open."""


def _find_size(image: Record, masks: list[Any]) -> Size | None:
    """Find height and width of an image: its own, or those of its run lengths; None if neither has them."""
    sizes = [[image.get("height"), image.get("width")], *(mask.get("size") for mask in masks if isinstance(mask, dict))]
    for size in sizes:
        if isinstance(size, list) and len(size) == 2 and all(isinstance(side, int) and side > 0 for side in size):
            return size[0], size[1]
    return None


Truth = TopicTruth | FileTruth


def open_truths(
    bag: BagReader, stamps: Mapping[str, Stamps], cameras: Sequence[str], spec: TruthSpec
) -> dict[str, Truth]:
    """Open the truth of each camera that has one.

    Args:
        bag: An open bag.
        stamps: Those of all cameras and truth topics.
        cameras: Topics of images.
        spec: Where to look.

    Raises:
        InputError: There is truth, but no frame for it.
    """
    truths: dict[str, Truth] = {}
    for camera, topic in spec.assign_topics(bag, cameras).items():
        classes = read_classes(bag, topic, spec)
        truths[camera] = TopicTruth(bag.path, topic, stamps[camera], stamps[topic], spec.slop_ns, classes)
    if spec.file is None:
        return truths
    document, problems = _load_document(spec.file), []
    for camera in cameras:  # the document may be of some of them only
        try:
            truths[camera] = FileTruth(document, bag.path, camera, stamps[camera], spec.slop_ns)
        except InputError as error:
            problems.append(error)
    if not truths:
        raise problems[0]
    return truths


def _load_document(path: Path) -> CocoDocument:
    """Load a COCO document; it is not read again for every bag and node."""
    changed_ns = path.stat().st_mtime_ns if path.exists() else 0
    return _load_document_version(path, changed_ns)


@functools.lru_cache(maxsize=1)
def _load_document_version(path: Path, changed_ns: int) -> CocoDocument:
    del changed_ns  # only a key of the cache: a file that has changed is read again
    return CocoDocument(path)


def read_classes(bag: BagReader, topic: str, spec: TruthSpec) -> Classes | None:
    """Read the names of the values of a truth topic's masks; None where the values are identities.

    Raises:
        InputError: The names change within the bag.
    """
    if bag.kinds[topic] == DETECTIONS_KIND:
        return None
    if spec.labels:
        return Classes(dict(enumerate(spec.labels)))
    info_topic = str(PurePosixPath(topic).parent / "label_info")
    names: Mapping[int, str] | None = None
    if bag.kinds.get(info_topic) == LABEL_INFO_KIND:
        for message in bag.messages([info_topic]):
            new = parse_label_info(deserialize(bag, message.kind, message.data))
            if names not in (None, new):
                raise InputError(f"{info_topic} in bag {bag.path} changes from {names} to {new}: truth needs one set")
            names = new
    return None if names is None else Classes(names, void=False)


def _find_owner(topic: str, cameras: Sequence[str]) -> str:
    """Find the camera in whose namespace a truth topic lies."""
    namespaces = choose_namespaces(cameras)
    near = [camera for camera in cameras if topic.startswith(f"{namespaces[camera]}/")]
    longest = max((len(namespaces[camera]) for camera in near), default=0)
    near = [camera for camera in near if len(namespaces[camera]) == longest]
    if len(cameras) == 1:
        return cameras[0]
    if len(near) != 1:
        raise InputError(
            f"{topic} may be the truth of {', '.join(near or cameras)}: say whose it is, {(near or cameras)[0]}={topic}"
        )
    return near[0]
