"""Where the truth of the cameras' frames is: in topics of the bag, or in a COCO document keyed by stamp."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from objloc_ros.errors import InputError, ParameterError
from objloc_ros.evaluation.bags.reader import BagReader
from objloc_ros.evaluation.bags.rosbag import decoded
from objloc_ros.evaluation.bags.survey import IMAGE_KINDS, Stamps, namespaces
from objloc_ros.evaluation.bags.truth import Classes
from objloc_ros.evaluation.bags.truth_coco import CocoTruth, FileTruth
from objloc_ros.evaluation.bags.truth_topic import TopicTruth
from objloc_ros.nodes.labels import names_of

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
