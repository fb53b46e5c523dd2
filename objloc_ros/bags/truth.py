"""What is true of a frame: from Detection2DArrays, from masks, from COCO documents.

Masks come in three kinds. Of *identities*: 0 is the ground, every other value an object that keeps its value from frame
to frame. *Plain*: 255 in an 8-bit mask is an object's pixel, of no one object; such masks have no boxes. Of *classes*:
the values have names, from `vision_msgs/LabelInfo` or from the user.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Generator, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from objloc_ros.bags.reader import BagReader
from objloc_ros.bags.survey import Stamps, key_of, match
from objloc_ros.bags.writer import decoded
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.types import UNLABELLED

BACKGROUND = "background"
"""Name of the class of what is nothing in particular; what the answers leave unlabelled."""

Box = tuple[float, float, float, float]
"""(x1, y1, x2, y2) in pixels, max side exclusive."""


@dataclass(frozen=True)
class Classes:
    """The classes of a truth mask.

    Args:
        names: Name of each value.
        void: Whether 255 marks pixels that do not count, as in VOC; otherwise it is the background, as in this
            package's own masks.

    Raises:
        ParameterError: Two values have the same name, or there is none.
    """

    names: Mapping[int, str]
    void: bool = True

    def __post_init__(self) -> None:
        plain = [plain_name(name) for name in self.names.values()]
        if not plain or len(set(plain)) != len(plain):
            raise ParameterError(f"classes need different names, got {list(self.names.values())}")

    @functools.cached_property
    def order(self) -> list[str]:
        """The names that a confusion matrix counts by: the background, then the others in the order of their values."""
        named = [plain_name(self.names[value]) for value in sorted(self.names)]
        return [BACKGROUND, *(name for name in named if name != BACKGROUND)]

    def numbered(self, mask: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
        """Places in `order` for each pixel of a mask, UNLABELLED where it does not count: uint8 [H, W].

        Raises:
            InputError: A value has no name; 0 is the background if it has none.
        """
        places = self._places
        values = np.flatnonzero(np.bincount(mask.ravel()))
        if unknown := [int(value) for value in values if int(value) not in places]:
            raise InputError(f"the truth has the class id {unknown[0]}, but names are known of {sorted(self.names)}")
        table: npt.NDArray[np.uint8] = np.zeros(int(values.max(initial=0)) + 1, np.uint8)
        for value in values:
            table[value] = places[int(value)]
        return table[mask]

    @functools.cached_property
    def _places(self) -> dict[int, int]:
        """The place in `order` of each value that a mask may have."""
        places = {value: self.order.index(plain_name(name)) for value, name in self.names.items()}
        places.setdefault(0, 0)
        return places | {UNLABELLED: UNLABELLED if self.void else 0}


@dataclass(frozen=True)
class FrameTruth:
    """What is to be seen in one frame.

    Args:
        objects: Box of each object by a name; None where only pixels are known.
        lasting: Whether the names are the same in other frames.
        foreground: bool [H, W], the pixels of all objects; None where only boxes are known.
        classes: uint8 [H, W], places in `Classes.order`, 255 where it does not count; None without classes.
    """

    objects: Mapping[Hashable, Box] | None = None
    lasting: bool = False
    foreground: npt.NDArray[np.bool_] | None = None
    classes: npt.NDArray[np.uint8] | None = None


def of_detections(message: Any) -> FrameTruth:
    """Read a Detection2DArray; ids are names that last if every detection has one, and none occurs twice.

    Raises:
        InputError: A box has no finite corners or a negative size.
    """
    names = [detection.id for detection in message.detections]
    lasting = bool(names) and all(names) and len(set(names)) == len(names)
    boxes = [corners_of(detection.bbox, "a true box") for detection in message.detections]
    keys: Sequence[Hashable] = names if lasting else range(len(boxes))
    return FrameTruth(dict(zip(keys, boxes, strict=True)), lasting or not names)


def of_mask(mask: npt.NDArray[np.integer], classes: Classes | None = None) -> FrameTruth:
    """Read a mask.

    Args:
        mask: uint8 or uint16 [H, W].
        classes: Names of its values, if they are classes.

    Raises:
        InputError: A value has no name.
    """
    if classes is not None:
        places = classes.numbered(mask)
        return FrameTruth(foreground=(places != 0) & (places != UNLABELLED), classes=places)
    if mask.dtype == np.uint8 and (mask == 255).any():
        return FrameTruth(foreground=mask != 0)
    return FrameTruth(boxes_of(mask), True, mask != 0)


def boxes_of(identities: npt.NDArray[np.integer]) -> dict[Hashable, Box]:
    """The box of each value above 0 of a map [H, W]."""
    slices = ndimage.find_objects(identities.astype(np.int32))
    found = {value: each for value, each in enumerate(slices, start=1) if each is not None}
    return {value: (float(x.start), float(y.start), float(x.stop), float(y.stop)) for value, (y, x) in found.items()}


def plain_name(name: str) -> str:
    """A class's name without regard to case and surplus spaces."""
    return " ".join(name.lower().split())


def corners_of(bbox: Any, what: str = "a box") -> Box:
    """The corners of a vision_msgs/BoundingBox2D.

    Raises:
        InputError: They are not finite, or a size is negative; `what` says of what.
    """
    x, y = bbox.center.position.x, bbox.center.position.y
    box = (x - bbox.size_x / 2, y - bbox.size_y / 2, x + bbox.size_x / 2, y + bbox.size_y / 2)
    if not all(math.isfinite(side) for side in box) or bbox.size_x < 0 or bbox.size_y < 0:
        raise InputError(
            f"{what} must have finite numbers and no negative size, got centre ({x}, {y}), "
            f"size ({bbox.size_x}, {bbox.size_y})"
        )
    return box


WAITING = 60
"""Truths that are kept for frames still to come, at most: frames that are never asked for, because real time dropped
them, must not fill the memory."""

PIXELS = {"mono8": np.uint8, "8UC1": np.uint8, "mono16": np.uint16, "16UC1": np.uint16}
"""Types of the values of masks."""


class TopicTruth:
    """The truth of one camera, read from a topic as far as the frames need it.

    The bag is opened once more for it, so that truth may have been recorded long before or after its frames; it must be
    in their order, but for `WAITING` of them.

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
        self.matches = match(frames.different, truths.different, slop_ns, what=f"{topic} in bag {bag}")
        self.counts = {"messages": len(truths), **self.matches.counts(), "duplicate_stamps": truths.duplicates}
        self._asked, self._read = np.zeros((2, len(self.matches.frames)), bool)
        self._waiting: dict[int, FrameTruth] = {}
        self._source = self._messages()

    def at(self, key: int) -> FrameTruth | None:
        """The truth of the frame with this key; None if it has none, or has been asked for before.

        Raises:
            InputError: The bag is damaged, the truth is none, or it is in another order than the frames.
        """
        place = self.matches.of_frame(key)
        if place is None or self._asked[place]:
            return None
        self._asked[place] = True
        while place not in self._waiting:
            if self._read[place]:
                raise InputError(f"{self._topic} is in another order than its frames, by more than {WAITING} of them")
            if len(self._waiting) > WAITING:
                del self._waiting[next(iter(self._waiting))]
            number, truth = next(self._source)
            self._waiting[number] = truth
        return self._waiting.pop(place)

    def close(self) -> None:
        """Close the bag, in the thread that has asked for truth."""
        self._source.close()

    def _messages(self) -> Generator[tuple[int, FrameTruth], None, None]:
        """The truths that frames have, each once."""
        with BagReader(self._bag) as bag:
            for message in bag.messages([self._topic]):
                key = key_of(message)
                place = self.matches.of_truth(key)
                if place is not None and not self._read[place]:
                    self._read[place] = True
                    with named(self._topic, key):
                        yield place, self._truth(decoded(bag, message.kind, message.data))

    def _truth(self, message: Any) -> FrameTruth:
        if type(message).__name__ == "Detection2DArray":
            return of_detections(message)
        return of_mask(mask_of(message), self.classes)


def mask_of(message: Any) -> npt.NDArray[np.integer]:
    """The values of a mask message as they are: mono8, 8UC1, mono16 or 16UC1, or a PNG of 8 or 16 bits.

    Raises:
        InputError: Another encoding, or sizes that contradict each other.
    """
    if not hasattr(message, "encoding"):
        pixels = cv2.imdecode(np.frombuffer(message.data, np.uint8), cv2.IMREAD_UNCHANGED) if message.data else None
        if pixels is None or pixels.ndim != 2 or bytes(message.data[:4]) != b"\x89PNG":
            got = f"{len(message.data)} bytes of {message.format!r}"
            raise InputError(f"a compressed mask must be a grey PNG, got {got}")
        return np.asarray(pixels)
    if message.encoding not in PIXELS:
        raise InputError(f"a mask must be {', '.join(PIXELS)}, got {message.encoding!r}")
    kind = np.dtype(PIXELS[message.encoding])
    width, height, step, size = message.width, message.height, message.step, len(message.data)
    least = width * kind.itemsize
    if not least or not height or step < least or size < height * step:
        raise InputError(
            f"a mask of {width}x{height} pixels, {message.encoding}, needs rows of {least} bytes; got {size} bytes in "
            f"rows of {step}"
        )
    rows = np.frombuffer(message.data, np.uint8)[: height * step].reshape(height, step)[:, :least]
    pixels = np.ascontiguousarray(rows).view(kind.newbyteorder(">" if message.is_bigendian else "<"))
    return pixels.astype(kind)


@contextmanager
def named(topic: str, key: int) -> Iterator[None]:
    """Errors say which message they are about."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{topic} at {key / 1e9:.3f} s: {error}") from error
