"""What is in a bag, before any of it is processed: its cameras, the stamps of all messages, and which stamps match.

The whole bag is read once, but only the headers of its messages: a bag that is cut off, or truth that belongs to other
images, is noticed before the work begins. 16 bytes per image stay in memory. Truth belongs to the frame whose stamp is
equal, or nearly so.
"""

from __future__ import annotations

import functools
from array import array
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from objloc_ros.bags.reader import BagReader, RawMessage
from objloc_ros.errors import InputError
from objloc_ros.nodes import METHOD_NODES
from objloc_ros.nodes.messages import serialized_stamp_ns

IMAGE_KINDS = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")

OWN_NODES = (*METHOD_NODES, "image_source")
OWN_OUTPUTS = ("mask", "instance_mask", "confidence", "overlay", "truth")
"""Images that this package's own nodes publish: no cameras, unless they are named."""

DEFAULT_PERIOD_NS = 1e8
"""Period of a camera with too few images to tell: that of 10 Hz, in nanoseconds."""

Keys = npt.NDArray[np.int64]
"""Stamps in nanoseconds."""


@dataclass
class Stamps:
    """The messages of one topic in the order of their recording.

    Args:
        kind: Type of the messages.
        keys: What frames, predictions and truth are matched by: the header's stamp, nanoseconds; the time of recording
            where the header has none.
        recorded: Times of recording, nanoseconds.
        unstamped: Messages without a stamp in their header.
        out_of_order: Messages with an earlier key than one before them.
    """

    kind: str
    keys: array[int] = field(default_factory=lambda: array("q"))
    recorded: array[int] = field(default_factory=lambda: array("q"))
    unstamped: int = 0
    out_of_order: int = 0

    _latest: int = -(2**63)

    def add(self, message: RawMessage) -> None:
        """Append the stamp of a message."""
        key = parse_key(message)
        self.unstamped += serialized_stamp_ns(message.data) == 0
        self.out_of_order += key < self._latest
        self._latest = max(key, self._latest)
        self.keys.append(key)
        self.recorded.append(message.recorded_ns)

    def __len__(self) -> int:
        return len(self.keys)

    @functools.cached_property
    def unique_keys(self) -> Keys:
        """The different keys in ascending order, int64 [n]; complete once all messages are added."""
        return np.unique(np.frombuffer(self.keys, np.int64) if self.keys else np.empty(0, np.int64))

    @property
    def duplicates(self) -> int:
        """Messages with the key of one before them."""
        return len(self.keys) - len(self.unique_keys)

    @property
    def period_ns(self) -> float:
        """Median time between two recordings, nanoseconds."""
        steps = np.diff(np.frombuffer(self.recorded, np.int64))
        steps = steps[steps > 0]
        return float(np.median(steps)) if len(steps) else DEFAULT_PERIOD_NS

    def count_anomalies(self) -> dict[str, int]:
        """Count what is unusual about the stamps."""
        return {"out_of_order": self.out_of_order, "duplicate_stamps": self.duplicates, "unstamped": self.unstamped}


def parse_key(message: RawMessage) -> int:
    """Read what a message is matched by, nanoseconds: see `Stamps.keys`.

    Raises:
        InputError: The message does not begin with a header.
    """
    try:
        return serialized_stamp_ns(message.data) or message.recorded_ns
    except InputError as error:
        raise InputError(f"topic {message.topic}: {error}") from error


def survey(bag: BagReader, topics: Collection[str]) -> dict[str, Stamps]:
    """Read the stamps of some topics, all of whose messages begin with a header.

    Raises:
        InputError: The bag is damaged, or holds another number of messages than it says.
    """
    stamps_by_topic = {topic: Stamps(bag.kinds[topic]) for topic in topics}
    for message in bag.messages(topics):
        stamps_by_topic[message.topic].add(message)
    for topic, stamps in stamps_by_topic.items():
        if len(stamps) != bag.counts[topic]:
            raise InputError(
                f"cannot read bag {bag.path}: it announces {bag.counts[topic]} messages of {topic}, its files hold "
                f"{len(stamps)}; `ros2 bag reindex` counts anew"
            )
    return stamps_by_topic


def choose_cameras(bag: BagReader, wanted: Sequence[str] | None = None, truth: Collection[str] = ()) -> list[str]:
    """Choose the image topics to process.

    Args:
        bag: An open bag.
        wanted: Full names; None for all images except truth, outputs of this package's own nodes, and `x/compressed`
            beside raw images `x`, which are the same pictures.
        truth: Topics that hold truth.

    Raises:
        InputError: There is no camera, or a wanted topic holds no images.
    """
    images = sorted(topic for topic, kind in bag.kinds.items() if kind in IMAGE_KINDS)
    if wanted is not None:
        bag.require_topics(wanted)
        for topic in wanted:
            if topic not in images:
                raise InputError(f"topic {topic} of bag {bag.path} holds {bag.kinds[topic]} messages, not images")
        return list(dict.fromkeys(wanted))
    cameras = [
        topic
        for topic in images
        if topic not in truth
        and not is_own_output(topic)
        and not (topic.endswith("/compressed") and topic.removesuffix("/compressed") in images)
    ]
    if not cameras:
        others = f"has {bag.format_topics()}" if bag.kinds else "is empty"
        raise InputError(f"bag {bag.path} has no camera: no topic of images beside truth and results; it {others}")
    return cameras


def count_images(path: Path, wanted: Sequence[str] | None = None, truth: Collection[str] = ()) -> int:
    """Count the images of the chosen cameras of a bag, as it announces them; for progress bars.

    Raises:
        InputError: The bag cannot be read, or see `choose_cameras`.
    """
    with BagReader(path) as bag:
        return sum(bag.counts[camera] for camera in choose_cameras(bag, wanted, truth))


def is_own_output(topic: str) -> bool:
    """Whether a topic is named as an output of this package's nodes, or of several methods of one node's kind."""
    parts = PurePosixPath(topic.removesuffix("/compressed")).parts
    if len(parts) < 3 or parts[-1] not in OWN_OUTPUTS:
        return False
    return any(parts[-2] == node or parts[-2].startswith(f"{node}_") for node in OWN_NODES)


def choose_namespaces(cameras: Sequence[str]) -> dict[str, str]:
    """Choose the namespace of each camera's results, that of nodes beside the camera: `/front` for `/front/image`.

    Cameras that would share a namespace (`/left`, `/right`) get their topics' names instead.
    """
    plain = [camera.removesuffix("/compressed") for camera in cameras]
    parents = [str(PurePosixPath(name).parent).rstrip("/") for name in plain]
    namespaces = {}
    for camera, name, parent in zip(cameras, plain, parents, strict=True):
        namespaces[camera] = parent if parents.count(parent) == 1 else name if plain.count(name) == 1 else camera
    return namespaces


@dataclass(frozen=True)
class Matches:
    """Pairs of a frame and its truth.

    Args:
        frames: Keys of frames with truth, ascending, int64 [n].
        truths: The key of each frame's truth, int64 [n].
        unmatched_frames: Number of frames without truth.
        unmatched_truths: Number of truths without a frame.
    """

    frames: Keys
    truths: Keys
    unmatched_frames: int
    unmatched_truths: int

    def find_frame(self, frame: int) -> int | None:
        """Find the index of the pair with this frame; None if the frame has no truth."""
        return _find(self.frames, frame)

    def find_truth(self, truth: int) -> int | None:
        """Find the index of the pair with this truth; None if no frame has it. Pairs are in the order of both."""
        return _find(self.truths, truth)

    def count(self) -> dict[str, int]:
        """Count the pairs, the frames without truth and the truths without a frame."""
        return {
            "matched": len(self.frames),
            "frames_without_truth": self.unmatched_frames,
            "truth_without_frame": self.unmatched_truths,
        }


def match_stamps(frames: Keys, truths: Keys, slop_ns: int = 0, *, what: str = "the truth") -> Matches:
    """Pair each frame with the nearest truth, if that truth has no nearer frame and both are near enough.

    Args:
        frames: Different keys, ascending.
        truths: Different keys, ascending.
        slop_ns: Greatest difference, nanoseconds.
        what: Name of the truth in error messages.

    Raises:
        InputError: There is no pair.
    """
    if not len(frames) or not len(truths):
        raise InputError(f"{what} holds {len(truths)} stamps of truth for {len(frames)} frames: nothing to compare")
    nearest = _find_nearest(truths, frames)
    mutual = _find_nearest(frames, truths)[nearest] == np.arange(len(frames))
    distance = np.abs(truths[nearest] - frames)
    matched = mutual & (distance <= slop_ns)
    if not matched.any():
        raise InputError(
            f"{what} has {len(truths)} stamps, but none is within {slop_ns / 1e6:g} ms of one of the {len(frames)} "
            f"frames' stamps; the nearest is {int(distance.min()) / 1e6:g} ms away"
        )
    pairs = int(matched.sum())
    return Matches(frames[matched], truths[nearest[matched]], len(frames) - pairs, len(truths) - pairs)


def _find(keys: Keys, key: int) -> int | None:
    index = int(np.searchsorted(keys, key))
    return index if index < len(keys) and keys[index] == key else None


def _find_nearest(values: Keys, wanted: Keys) -> npt.NDArray[np.intp]:
    """Find the index of the nearest of ascending `values` for each wanted value; of two as near, the earlier."""
    last = len(values) - 1
    right = np.clip(np.searchsorted(values, wanted), min(1, last), last)
    left = np.maximum(right - 1, 0)
    return np.where(np.abs(wanted - values[left]) <= np.abs(values[right] - wanted), left, right)
