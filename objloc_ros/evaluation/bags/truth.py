"""What is true of a frame: from Detection2DArrays, from masks, from COCO documents.

Masks come in three kinds. Of *identities*: 0 is the ground, every other value an object that keeps its value from frame
to frame. *Plain*: 255 in an 8-bit mask is an object's pixel, of no one object; such masks have no boxes. Of *classes*:
the values have names, from `vision_msgs/LabelInfo` or from the user.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

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
