"""The truth of a frame, and how to read it from Detection2DArray and mask messages.

There are three kinds of masks. *Identities*: 0 is the background, every other value is an object that keeps its value
from frame to frame. *Plain*: 255 in an 8-bit mask is a pixel of some object; such masks have no boxes. *Classes*: the
values have names, from `vision_msgs/LabelInfo` or from the user.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from objloc_ros.errors import InputError, ParameterError
from objloc_ros.types import UNLABELLED

BACKGROUND = "background"
"""Name of the class of pixels without an object, which predictions leave unlabelled."""

PIXELS = {"mono8": np.uint8, "8UC1": np.uint8, "mono16": np.uint16, "16UC1": np.uint16}
"""Type of a mask's values, by the encoding of its message."""

Box = tuple[float, float, float, float]
"""(x1, y1, x2, y2) in pixels, max side exclusive."""


@dataclass(frozen=True)
class Classes:
    """The classes of a truth mask.

    Args:
        names: Name of each value.
        void: Whether 255 marks pixels that do not count, as in VOC; otherwise 255 is the background, as in this
            package's own masks.

    Raises:
        ParameterError: Two values have the same name, or there is no name.
    """

    names: Mapping[int, str]
    void: bool = True

    def __post_init__(self) -> None:
        names = [normalise_name(name) for name in self.names.values()]
        if not names or len(set(names)) != len(names):
            raise ParameterError(f"classes need different names, got {list(self.names.values())}")

    @functools.cached_property
    def order(self) -> list[str]:
        """Names of the rows of a confusion matrix: the background, then the others in the order of their values."""
        names = [normalise_name(self.names[value]) for value in sorted(self.names)]
        return [BACKGROUND, *(name for name in names if name != BACKGROUND)]

    def index_mask(self, mask: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
        """Replace each value of a mask by its index in `order`, UNLABELLED where it does not count: uint8 [H, W].

        Raises:
            InputError: A value has no name; 0 is the background if it has none.
        """
        indices = self._indices
        values = np.flatnonzero(np.bincount(mask.ravel()))
        if unknown := [int(value) for value in values if int(value) not in indices]:
            raise InputError(f"the truth has the class id {unknown[0]}, but names are known of {sorted(self.names)}")
        table: npt.NDArray[np.uint8] = np.zeros(int(values.max(initial=0)) + 1, np.uint8)
        for value in values:
            table[value] = indices[int(value)]
        return table[mask]

    @functools.cached_property
    def _indices(self) -> dict[int, int]:
        """Index in `order` of each value that a mask may have."""
        indices = {value: self.order.index(normalise_name(name)) for value, name in self.names.items()}
        indices.setdefault(0, 0)
        return indices | {UNLABELLED: UNLABELLED if self.void else 0}


@dataclass(frozen=True)
class FrameTruth:
    """The objects that are visible in one frame.

    Args:
        boxes: Box of each object by its name; None where only pixels are known.
        tracked: Whether an object has the same name in other frames.
        foreground: bool [H, W], the pixels of all objects; None where only boxes are known.
        classes: uint8 [H, W], indices in `Classes.order`, 255 where a pixel does not count; None without classes.
    """

    boxes: Mapping[Hashable, Box] | None = None
    tracked: bool = False
    foreground: npt.NDArray[np.bool_] | None = None
    classes: npt.NDArray[np.uint8] | None = None


def parse_detections(message: Any) -> FrameTruth:
    """Read a Detection2DArray; its ids are tracks if every detection has an id and none occurs twice.

    Raises:
        InputError: A box has no finite corners or a negative size.
    """
    names = [detection.id for detection in message.detections]
    tracked = bool(names) and all(names) and len(set(names)) == len(names)
    boxes = [parse_box(detection.bbox, "a true box") for detection in message.detections]
    keys: Sequence[Hashable] = names if tracked else range(len(boxes))
    return FrameTruth(dict(zip(keys, boxes, strict=True)), tracked or not names)


def parse_mask(mask: npt.NDArray[np.integer], classes: Classes | None = None) -> FrameTruth:
    """Read a mask.

    Args:
        mask: uint8 or uint16 [H, W].
        classes: Names of its values, if they are classes.

    Raises:
        InputError: A value has no name.
    """
    if classes is not None:
        indices = classes.index_mask(mask)  # uint8 [H, W]
        return FrameTruth(foreground=(indices != 0) & (indices != UNLABELLED), classes=indices)
    if mask.dtype == np.uint8 and (mask == 255).any():
        return FrameTruth(foreground=mask != 0)
    return FrameTruth(find_boxes(mask), True, mask != 0)


def find_boxes(identities: npt.NDArray[np.integer]) -> dict[Hashable, Box]:
    """Find the box of each value above 0 of a map [H, W]."""
    slices = dict(enumerate(ndimage.find_objects(identities.astype(np.int32)), start=1))
    return {
        value: (float(box[1].start), float(box[0].start), float(box[1].stop), float(box[0].stop))
        for value, box in slices.items()
        if box is not None
    }


def normalise_name(name: str) -> str:
    """Write a class's name in lower case, without surplus spaces."""
    return " ".join(name.lower().split())


def parse_box(bbox: Any, what: str = "a box") -> Box:
    """Read the corners of a vision_msgs/BoundingBox2D.

    Raises:
        InputError: A corner is not finite or a size is negative; the message calls the box `what`.
    """
    x, y = bbox.center.position.x, bbox.center.position.y
    box = (x - bbox.size_x / 2, y - bbox.size_y / 2, x + bbox.size_x / 2, y + bbox.size_y / 2)
    if not all(math.isfinite(side) for side in box) or bbox.size_x < 0 or bbox.size_y < 0:
        raise InputError(
            f"{what} must have finite numbers and no negative size, got centre ({x}, {y}), "
            f"size ({bbox.size_x}, {bbox.size_y})"
        )
    return box


def decode_mask(message: Any) -> npt.NDArray[np.integer]:
    """Read the values of a mask message: mono8, 8UC1, mono16 or 16UC1, or a PNG of 8 or 16 bits.

    Returns:
        uint8 or uint16 [H, W].

    Raises:
        InputError: The encoding is another, or sizes contradict each other.
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
    row_bytes = width * kind.itemsize
    if not row_bytes or not height or step < row_bytes or size < height * step:
        raise InputError(
            f"a mask of {width}x{height} pixels, {message.encoding}, needs rows of {row_bytes} bytes; got {size} bytes "
            f"in rows of {step}"
        )
    rows = np.frombuffer(message.data, np.uint8)[: height * step].reshape(height, step)[:, :row_bytes]
    pixels = np.ascontiguousarray(rows).view(kind.newbyteorder(">" if message.is_bigendian else "<"))
    return pixels.astype(kind)


@contextmanager
def locate_errors(topic: str, key: int) -> Iterator[None]:
    """Let errors say which message they are about."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{topic} at {key / 1e9:.3f} s: {error}") from error
