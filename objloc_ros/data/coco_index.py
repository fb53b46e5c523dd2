"""A COCO document by image name, read once per process."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from objloc_ros.data.base import Object, read_names
from objloc_ros.data.coco_document import HARD, read_truth
from objloc_ros.errors import InputError
from objloc_ros.io.rle import Rle, to_rle
from objloc_ros.types import Size

Record = dict[str, Any]


@dataclass(frozen=True)
class CocoIndex:
    """What a document says about its images.

    Args:
        path: The document.
        images: Its image records by file name, in its order or in that of a list.
        annotations: The annotations of each image, in the document's order.
        categories: Names of the categories by id, in the order of the ids.
        info: The member "info".
    """

    path: Path
    images: Mapping[str, Record]
    annotations: Mapping[str, Sequence[Record]]
    categories: Mapping[Any, str]
    info: Mapping[str, Any]

    @property
    def masks(self) -> bool:
        """Whether there are annotations, and every one has a mask."""
        each = [one for records in self.annotations.values() for one in records]
        return bool(each) and all(one.get("segmentation") for one in each)

    def size(self, name: str) -> Size | None:
        """Height and width of an image; None where the document does not say.

        Raises:
            InputError: If they are no whole numbers above 0.
        """
        image = self.images[name]
        sides = (image.get("height"), image.get("width"))
        if sides == (None, None):
            return None
        if not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in sides):
            raise InputError(f"{self.path}: image {name!r} has the height and width {list(sides)}: must be above 0")
        return int(sides[0] or 0), int(sides[1] or 0)

    def objects(self, name: str, *, masks: bool) -> list[Object]:
        """The objects of an image, and its crowds, ignored; `InputError` if a mask is none."""
        return [
            Object(
                _corners(one["bbox"]),
                self.categories.get(one["category_id"], "object"),
                bool(one.get("iscrowd")),
                tuple(flag for flag in HARD if one.get(flag)),
                self.mask(name, one) if masks else None,
            )
            for one in self.annotations[name]
        ]

    def mask(self, name: str, annotation: Record) -> Rle:
        """The mask of an annotation of an image.

        Raises:
            InputError: If it has none, or the document does not say how large the image is.
        """
        size = self.size(name)
        if size is None:
            raise InputError(f"{self.path}: image {name!r} has no height and width")
        try:
            return to_rle(annotation.get("segmentation"), size)
        except InputError as error:
            raise InputError(f"{self.path}: annotation {annotation['id']} of image {name!r}: {error}") from error


def coco_index(path: Path, chosen: Path | None = None) -> CocoIndex:
    """Read a document, or take what this process has read of it before, as long as the file is the same.

    Args:
        path: The document.
        chosen: A list of the images that are wanted, a line each: `train2014/COCO_train2014_000000000009.jpg`, of which
            the number counts, as in LOST's reading of COCO20k. All images by default.

    Raises:
        InputError: If a file cannot be read, is no such document or list, or does not name its images; if the list
            has images that the document has not.
    """
    return _read(path, stamp(path), chosen, None if chosen is None else stamp(chosen))


@lru_cache(maxsize=2)
def _read(path: Path, _: object, chosen: Path | None, __: object) -> CocoIndex:
    with _without_collection():
        return _index(path, chosen)


def _index(path: Path, chosen: Path | None) -> CocoIndex:
    truth = read_truth(path)
    document = truth.document
    images = {image["id"]: image for image in document["images"]}
    if chosen is not None:
        images = _chosen(path, images, chosen)
    names = {number: _name(path, image) for number, image in images.items()}
    if len(set(names.values())) != len(names):
        raise InputError(f"{path}: two images have the same file_name")
    annotations: dict[str, list[Record]] = {name: [] for name in names.values()}
    for one in document["annotations"]:
        if one["image_id"] in names:
            annotations[names[one["image_id"]]].append(one)
    categories = _categories(path, document["categories"])
    by_name = {names[number]: image for number, image in images.items()}
    info = document["info"] if isinstance(document["info"], dict) else {}
    return CocoIndex(path, by_name, annotations, categories, info)


@contextmanager
def _without_collection() -> Iterator[None]:
    """Nothing in a document is a cycle, and looking for some takes longer than reading train2014."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _chosen(path: Path, images: Mapping[Any, Record], chosen: Path) -> dict[Any, Record]:
    """The listed images, in the list's order."""
    numbers = [_number(chosen, name) for name in read_names(chosen)]
    missing = [number for number in numbers if number not in images]
    if missing:
        raise InputError(
            f"{path} lacks {len(missing)} of the {len(numbers)} images of {chosen}: "
            f"{', '.join(map(str, missing[:3]))}{', ...' * (len(missing) > 3)}"
        )
    return {number: images[number] for number in numbers}


def _number(chosen: Path, name: str) -> int:
    try:
        return int(Path(name).stem.rpartition("_")[2])
    except ValueError as error:
        raise InputError(
            f"{chosen} has {name!r}: expected names such as train2014/COCO_train2014_000000000009.jpg"
        ) from error


def _name(path: Path, image: Record) -> str:
    name = image.get("file_name")
    if not isinstance(name, str) or not name:
        raise InputError(f"{path}: image {image['id']!r} has the file_name {name!r}: must be a name")
    return name


def _categories(path: Path, records: Any) -> dict[Any, str]:
    try:
        return {one["id"]: str(one["name"]) for one in sorted(records, key=lambda one: one["id"])}
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: categories must be a list of objects with an id and a name") from error


def _corners(bbox: Sequence[float]) -> tuple[float, float, float, float]:
    x, y, width, height = bbox
    return x, y, x + width, y + height


def stamp(path: Path) -> tuple[int, int]:
    """What changes when a file does; `InputError` if there is none."""
    try:
        about = path.stat()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    return about.st_mtime_ns, about.st_size
