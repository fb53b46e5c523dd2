"""Where the truth of a camera's frames is: in topics of the bag, or in a COCO document keyed by stamp."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from objloc_ros.errors import InputError, ParameterError
from objloc_ros.evaluation.bag import decoded
from objloc_ros.evaluation.bag_match import Matches, match
from objloc_ros.evaluation.bag_reader import BagReader
from objloc_ros.evaluation.bag_survey import IMAGE_KINDS, Stamps, key_of, namespaces
from objloc_ros.evaluation.bag_truth import Classes, FrameTruth, of_detections, of_mask
from objloc_ros.evaluation.bag_truth_coco import CocoTruth

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

    def label_infos(self, bag: BagReader) -> list[str]:
        """Topics of the bag that name the values of the truth masks."""
        beside = [_beside(topic) for topic in self.names()] if not self.labels else []
        return [topic for topic in beside if bag.kinds.get(topic) == LABEL_INFO]

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


class TopicTruth:
    """The truth of one camera, read from a topic as far as the frames need it.

    The bag is opened once more for it, so that truth may have been recorded long before or after its frames. As long as
    it comes in their order, little of it is in memory at a time.

    Args:
        bag: Its path.
        topic: Truth topic.
        frames: Stamps of the camera.
        truths: Stamps of the topic.
        spec: Tells the slop.
        classes: Names of the values of masks, if they are classes.

    Raises:
        InputError: No frame has truth.
    """

    def __init__(
        self, bag: Path, topic: str, frames: Stamps, truths: Stamps, spec: TruthSpec, classes: Classes | None
    ) -> None:
        self.classes = classes
        self._bag, self._topic = bag, topic
        self.matches: Matches = match(frames.different, truths.different, spec.slop_ns, what=f"{topic} in bag {bag}")
        self.counts = {"messages": len(truths), **self.matches.counts(), "duplicate_stamps": truths.duplicates}
        self._waiting: dict[int, FrameTruth] = {}
        self._source: Iterator[tuple[int, FrameTruth]] = self._read()

    def at(self, key: int) -> FrameTruth | None:
        """The truth of the frame with this key, once; None if it has none.

        Raises:
            InputError: The bag is damaged or the truth is none.
        """
        wanted = self.matches.of(key)
        while wanted is not None and wanted not in self._waiting:
            number, truth = next(self._source)
            self._waiting[number] = truth
        return None if wanted is None else self._waiting.pop(wanted)

    def _read(self) -> Iterator[tuple[int, FrameTruth]]:
        done: set[int] = set()
        with BagReader(self._bag) as bag:
            for message in bag.messages([self._topic]):
                key = key_of(message)
                if self.matches.uses(key) and key not in done:
                    done.add(key)
                    with _named(self._topic, key):
                        yield key, self._truth(decoded(bag, message.kind, message.data))

    def _truth(self, message: Any) -> FrameTruth:
        if type(message).__name__ == "Detection2DArray":
            return of_detections(message)
        return of_mask(mask_of(message), self.classes)


class FileTruth:
    """The truth of one camera from a COCO document.

    Args:
        file: The document.
        bag: Path of the bag.
        camera: Topic of the frames.
        frames: Their stamps.
        spec: Tells the slop.

    Raises:
        InputError: No frame has truth.
    """

    classes: Classes | None = None

    def __init__(self, file: CocoTruth, bag: Path, camera: str, frames: Stamps, spec: TruthSpec) -> None:
        self._images = file.images(bag.name, camera)
        keys = np.array(sorted(self._images), np.int64)
        self.matches = match(frames.different, keys, spec.slop_ns, what=str(file.path))
        self.counts = {"messages": len(keys), **self.matches.counts(), "duplicate_stamps": 0}
        self._file = file

    def at(self, key: int) -> FrameTruth | None:
        """The truth of the frame with this key; None if it has none."""
        wanted = self.matches.of(key)
        return None if wanted is None else self._file.truth(self._images[wanted])


def mask_of(message: Any) -> npt.NDArray[np.integer]:
    """The values of a mask message as they are: mono8, 8UC1, mono16 or 16UC1, or a PNG of 8 or 16 bits.

    Raises:
        InputError: Another encoding, or sizes that contradict each other.
    """
    if not hasattr(message, "encoding"):
        pixels = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_UNCHANGED) if message.data else None
        if pixels is None or pixels.ndim != 2 or not bytes(message.data[:4]) == b"\x89PNG":
            raise InputError(
                f"a compressed mask must be a grey PNG, got {len(message.data)} bytes of {message.format!r}"
            )
        return np.asarray(pixels)
    kinds = {"mono8": np.uint8, "8UC1": np.uint8, "mono16": np.uint16, "16UC1": np.uint16}
    if message.encoding not in kinds:
        raise InputError(f"a mask must be {', '.join(kinds)}, got {message.encoding!r}")
    kind = np.dtype(kinds[message.encoding]).newbyteorder(">" if message.is_bigendian else "<")
    least = message.width * kind.itemsize
    if (
        not message.width
        or not message.height
        or message.step < least
        or len(message.data) < message.height * message.step
    ):
        raise InputError(
            f"a mask of {message.width}x{message.height} pixels, {message.encoding}, needs rows of {least} bytes; got "
            f"{len(message.data)} bytes in rows of {message.step}"
        )
    rows = np.frombuffer(message.data, np.uint8)[: message.height * message.step].reshape(message.height, message.step)
    return np.ascontiguousarray(rows[:, :least]).view(kind).astype(kinds[message.encoding])


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
            info = decoded(bag, message.kind, message.data)
            these = {int(one.class_id): one.class_name for one in info.class_map}
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


@contextmanager
def _named(topic: str, key: int) -> Iterator[None]:
    """Errors say which message they are about."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{topic} at {key / 1e9:.3f} s: {error}") from error
