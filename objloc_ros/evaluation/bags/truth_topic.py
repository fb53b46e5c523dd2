"""Truth from a topic of the bag: boxes or masks, read as far as the frames need them."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from objloc_ros.errors import InputError
from objloc_ros.evaluation.bags.match import match
from objloc_ros.evaluation.bags.reader import BagReader
from objloc_ros.evaluation.bags.rosbag import decoded
from objloc_ros.evaluation.bags.survey import Stamps, key_of
from objloc_ros.evaluation.bags.truth import Classes, FrameTruth, of_detections, of_mask

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
