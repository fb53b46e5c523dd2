"""Truth of a bag's frames in a COCO document.

Each image says which frame it is by `stamp_ns`, the stamp of the frame's header in nanoseconds, or by a file name that
is nothing else (`1700000000123456789.png`). Where there is a `topic` or a `bag`, as in what `objloc prelabel` writes,
the image belongs to that camera and that bag alone. A `track_id` of an annotation, or of its `attributes`, is a name
that lasts from frame to frame; masks, polygons or run lengths (RLE), are used if all objects of an image have one.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import numpy.typing as npt

from objloc_ros.errors import InputError
from objloc_ros.evaluation.bags.match import match
from objloc_ros.evaluation.bags.survey import Stamps
from objloc_ros.evaluation.bags.truth import Box, Classes, FrameTruth
from objloc_ros.evaluation.coco_files import read_truth
from objloc_ros.evaluation.coco_masks import decode, to_rle, union
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
