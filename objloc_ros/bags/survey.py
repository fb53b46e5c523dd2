"""What is in a bag, before any of it is processed: its cameras, its truth, and every stamp.

The whole bag is read once, but only the headers of its messages: a bag that is cut off somewhere, or truth that belongs
to other images, is noticed before the work begins. What stays in memory is 16 bytes per image. Truth belongs to the
frame whose stamp is equal, or nearly so.
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
from objloc_ros.nodes.messages import stamp_ns

IMAGE_KINDS = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")

OWN_NODES = ("found", "discovery", "segmentation", "image_source")
OWN_OUTPUTS = ("mask", "instance_mask", "confidence", "overlay", "truth")
"""Images that this package's own nodes publish: no cameras, unless they are named."""


@dataclass
class Stamps:
    """The messages of one topic in the order of their recording.

    Args:
        kind: Type of the messages.
        keys: What frames, answers and truth are matched by: the header's stamp, nanoseconds; the time of recording
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
        """Note a message."""
        key = key_of(message)
        self.unstamped += stamp_ns(message.data) == 0
        self.out_of_order += key < self._latest
        self._latest = max(key, self._latest)
        self.keys.append(key)
        self.recorded.append(message.recorded_ns)

    def __len__(self) -> int:
        return len(self.keys)

    @functools.cached_property
    def different(self) -> Keys:
        """The different keys in ascending order, int64 [n]; ask for it when all messages are noted."""
        return np.unique(np.frombuffer(self.keys, np.int64) if self.keys else np.empty(0, np.int64))

    @property
    def duplicates(self) -> int:
        """Messages with the key of one before them."""
        return len(self.keys) - len(self.different)

    @property
    def period_ns(self) -> float:
        """Median time between two recordings, nanoseconds; that of 10 Hz where there are too few to tell."""
        steps = np.diff(np.frombuffer(self.recorded, np.int64))
        steps = steps[steps > 0]
        return float(np.median(steps)) if len(steps) else 1e8

    def oddities(self) -> dict[str, int]:
        """What is unusual about the stamps, counted."""
        return {"out_of_order": self.out_of_order, "duplicate_stamps": self.duplicates, "unstamped": self.unstamped}


def key_of(message: RawMessage) -> int:
    """What a message is matched by, nanoseconds.

    Raises:
        InputError: It does not begin with a header.
    """
    try:
        return stamp_ns(message.data) or message.recorded_ns
    except InputError as error:
        raise InputError(f"topic {message.topic}: {error}") from error


def survey(bag: BagReader, topics: Collection[str]) -> dict[str, Stamps]:
    """Read the stamps of some topics, all of whose messages begin with a header.

    Raises:
        InputError: The bag is damaged, or holds another number of messages than it says.
    """
    found = {topic: Stamps(bag.kinds[topic]) for topic in topics}
    for message in bag.messages(topics):
        found[message.topic].add(message)
    for topic, stamps in found.items():
        if len(stamps) != bag.counts[topic]:
            raise InputError(
                f"cannot read bag {bag.path}: it announces {bag.counts[topic]} messages of {topic}, its files hold "
                f"{len(stamps)}; `ros2 bag reindex` counts anew"
            )
    return found


def choose_cameras(bag: BagReader, wanted: Sequence[str] | None = None, truth: Collection[str] = ()) -> list[str]:
    """The image topics to work on.

    Args:
        bag: An open bag.
        wanted: Full names; None for all images but truth, what this package's own nodes publish, and `x/compressed`
            beside raw images `x`, which are the same pictures.
        truth: Topics that hold truth.

    Raises:
        InputError: There is none, or one that was asked for holds no images.
    """
    images = sorted(topic for topic, kind in bag.kinds.items() if kind in IMAGE_KINDS)
    if wanted is not None:
        bag.need(wanted)
        for topic in wanted:
            if topic not in images:
                raise InputError(f"topic {topic} of bag {bag.path} holds {bag.kinds[topic]} messages, not images")
        return list(dict.fromkeys(wanted))
    cameras = [
        topic
        for topic in images
        if topic not in truth
        and not is_own(topic)
        and not (topic.endswith("/compressed") and topic.removesuffix("/compressed") in images)
    ]
    if not cameras:
        others = f"has {bag.listed()}" if bag.kinds else "is empty"
        raise InputError(f"bag {bag.path} has no camera, that is no topic of images but truth or results; it {others}")
    return cameras


def count_images(path: Path, wanted: Sequence[str] | None = None, truth: Collection[str] = ()) -> int:
    """How many images the chosen cameras of a bag have, as it announces; for progress bars.

    Raises:
        InputError: It cannot be read, or as `choose_cameras` says.
    """
    with BagReader(path) as bag:
        return sum(bag.counts[camera] for camera in choose_cameras(bag, wanted, truth))


def is_own(topic: str) -> bool:
    """Whether a topic is named as an output of this package's nodes, or of several methods of one node's kind."""
    parts = PurePosixPath(topic.removesuffix("/compressed")).parts
    if len(parts) < 3 or parts[-1] not in OWN_OUTPUTS:
        return False
    return any(parts[-2] == node or parts[-2].startswith(f"{node}_") for node in OWN_NODES)


def namespaces(cameras: Sequence[str]) -> dict[str, str]:
    """The namespace of each camera's results, as nodes beside the camera have it: `/front` for `/front/image`.

    Cameras that would share one (`/left`, `/right`) get their topics' names instead.
    """
    plain = [camera.removesuffix("/compressed") for camera in cameras]
    parents = [str(PurePosixPath(name).parent).rstrip("/") for name in plain]
    chosen = {}
    for camera, name, parent in zip(cameras, plain, parents, strict=True):
        chosen[camera] = parent if parents.count(parent) == 1 else name if plain.count(name) == 1 else camera
    return chosen


Keys = npt.NDArray[np.int64]
"""Stamps in nanoseconds."""


@dataclass(frozen=True)
class Matches:
    """Pairs of a frame and its truth.

    Args:
        frames: Keys of frames with truth, ascending, int64 [n].
        truths: The key of each one's truth, int64 [n].
        alone: Frames without truth.
        unused: Truths without a frame.
    """

    frames: Keys
    truths: Keys
    alone: int
    unused: int

    def of_frame(self, frame: int) -> int | None:
        """The place of the pair with this frame; None if the frame has no truth."""
        return _place(self.frames, frame)

    def of_truth(self, truth: int) -> int | None:
        """The place of the pair with this truth; None if no frame has it. Pairs are in the order of both."""
        return _place(self.truths, truth)

    def counts(self) -> dict[str, int]:
        """Stamps with both, without truth, and without a frame."""
        return {"matched": len(self.frames), "frames_without_truth": self.alone, "truth_without_frame": self.unused}


def match(frames: Keys, truths: Keys, slop_ns: int = 0, *, what: str = "the truth") -> Matches:
    """Pair frames with truth: each with its nearest, if that has no nearer frame, and if they are near enough.

    Args:
        frames: Different keys, ascending.
        truths: Different keys, ascending.
        slop_ns: Greatest difference, nanoseconds.
        what: The truth's name for messages.

    Raises:
        InputError: There is not a single pair.
    """
    if not len(frames) or not len(truths):
        raise InputError(f"{what} holds {len(truths)} stamps of truth for {len(frames)} frames: nothing to compare")
    nearest = _nearest(truths, frames)
    mutual = _nearest(frames, truths)[nearest] == np.arange(len(frames))
    distance = np.abs(truths[nearest] - frames)
    kept = mutual & (distance <= slop_ns)
    if not kept.any():
        raise InputError(
            f"{what} has {len(truths)} stamps, but none is within {slop_ns / 1e6:g} ms of one of the {len(frames)} "
            f"frames' stamps; the nearest is {int(distance.min()) / 1e6:g} ms away"
        )
    matched = int(kept.sum())
    return Matches(frames[kept], truths[nearest[kept]], len(frames) - matched, len(truths) - matched)


def _place(keys: Keys, wanted: int) -> int | None:
    place = int(np.searchsorted(keys, wanted))
    return place if place < len(keys) and keys[place] == wanted else None


def _nearest(values: Keys, wanted: Keys) -> npt.NDArray[np.intp]:
    """Place of the nearest of ascending `values` for each wanted one, of two equally near ones the earlier."""
    most = len(values) - 1
    right = np.clip(np.searchsorted(values, wanted), min(1, most), most)
    left = np.maximum(right - 1, 0)
    return np.where(np.abs(wanted - values[left]) <= np.abs(values[right] - wanted), left, right)
