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
from objloc_ros.data.coco_document import HARD_FLAGS, read_truth, to_corners
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
        annotations = [annotation for records in self.annotations.values() for annotation in records]
        return bool(annotations) and all(annotation.get("segmentation") for annotation in annotations)

    def size(self, name: str) -> Size | None:
        """Return height and width of an image; None where the document does not say.

        Raises:
            InputError: If they are not whole numbers above 0.
        """
        image = self.images[name]
        sides = (image.get("height"), image.get("width"))
        if sides == (None, None):
            return None
        if not all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in sides):
            raise InputError(f"{self.path}: image {name!r} has the height and width {list(sides)}: must be above 0")
        return int(sides[0] or 0), int(sides[1] or 0)

    def objects(self, name: str, *, masks: bool) -> list[Object]:
        """Return the objects of an image, and its crowds, ignored; `InputError` if a mask is damaged."""
        return [
            Object(
                to_corners(annotation["bbox"]),
                self.categories.get(annotation["category_id"], "object"),
                bool(annotation.get("iscrowd")),
                tuple(flag for flag in HARD_FLAGS if annotation.get(flag)),
                self.mask(name, annotation) if masks else None,
            )
            for annotation in self.annotations[name]
        ]

    def mask(self, name: str, annotation: Record) -> Rle:
        """Return the mask of an annotation of an image.

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


def load_index(path: Path, chosen: Path | None = None) -> CocoIndex:
    """Read a document, or take what this process has read of it before, as long as the file is the same.

    Args:
        path: The document.
        chosen: A list of the images that are wanted, a line each: `train2014/COCO_train2014_000000000009.jpg`, of which
            the number counts, as in LOST's reading of COCO20k. All images by default.

    Raises:
        InputError: If a file cannot be read, is not such a document or list, or does not name its images; if the list
            has images that the document has not.
    """
    return _read(path, fingerprint(path), chosen, None if chosen is None else fingerprint(chosen))


def parse_name(path: Path, image: Record) -> str:
    """Return the file name of an image record; `InputError` if it has none."""
    name = image.get("file_name")
    if not isinstance(name, str) or not name:
        raise InputError(f"{path}: image {image['id']!r} has the file_name {name!r}: must be a name")
    return name


def parse_categories(path: Path, records: Any) -> dict[Any, str]:
    """Return the names of the categories by id, in the order of the ids; `InputError` if a record lacks either."""
    try:
        return {record["id"]: str(record["name"]) for record in sorted(records, key=lambda record: record["id"])}
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: categories must be a list of objects with an id and a name") from error


@lru_cache(maxsize=2)
def _read(path: Path, _: object, chosen: Path | None, __: object) -> CocoIndex:
    with _pause_garbage_collection():
        return _build_index(path, chosen)


def _build_index(path: Path, chosen: Path | None) -> CocoIndex:
    truth = read_truth(path)
    document = truth.document
    images = {image["id"]: image for image in document["images"]}
    if chosen is not None:
        images = _select_listed(path, images, chosen)
    names = {number: parse_name(path, image) for number, image in images.items()}
    if len(set(names.values())) != len(names):
        raise InputError(f"{path}: two images have the same file_name")
    annotations: dict[str, list[Record]] = {name: [] for name in names.values()}
    for annotation in document["annotations"]:
        if annotation["image_id"] in names:
            annotations[names[annotation["image_id"]]].append(annotation)
    categories = parse_categories(path, document["categories"])
    by_name = {names[number]: image for number, image in images.items()}
    info = document["info"] if isinstance(document["info"], dict) else {}
    return CocoIndex(path, by_name, annotations, categories, info)


@contextmanager
def _pause_garbage_collection() -> Iterator[None]:
    """Pause garbage collection: a document has no cycles, and looking for some takes longer than reading train2014."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _select_listed(path: Path, images: Mapping[Any, Record], chosen: Path) -> dict[Any, Record]:
    """Return the listed images, in the list's order."""
    numbers = [_parse_number(chosen, name) for name in read_names(chosen)]
    missing = [number for number in numbers if number not in images]
    if missing:
        raise InputError(
            f"{path} lacks {len(missing)} of the {len(numbers)} images of {chosen}: "
            f"{', '.join(map(str, missing[:3]))}{', ...' * (len(missing) > 3)}"
        )
    return {number: images[number] for number in numbers}


def _parse_number(chosen: Path, name: str) -> int:
    try:
        return int(Path(name).stem.rpartition("_")[2])
    except ValueError as error:
        raise InputError(
            f"{chosen} has {name!r}: expected names such as train2014/COCO_train2014_000000000009.jpg"
        ) from error


def fingerprint(path: Path) -> tuple[int, int]:
    """Return what changes when a file does; `InputError` if it cannot be read."""
    try:
        about = path.stat()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    return about.st_mtime_ns, about.st_size
