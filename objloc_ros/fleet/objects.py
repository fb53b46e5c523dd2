"""The objects of a fleet's pre-labels: which were seen where, when and by which camera.

They come from the COCO documents of `objloc prelabel`, as it wrote them or as people have corrected them. An object is
known by its place in `Fleet.objects`, the order of the documents, their images and the annotations of each.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from objloc_ros.data.coco_document import PRELABELS, Record, Truth, read_truth, to_corners
from objloc_ros.errors import InputError
from objloc_ros.io.files import find_duplicate
from objloc_ros.io.rle import decode, to_rle
from objloc_ros.types import Size

IMAGES = "images"
"""Below the folder of pre-labels: the frames of videos and bags, and copies of image files where they were kept."""


@dataclass(frozen=True, slots=True)
class FleetObject:
    """One annotation.

    Args:
        id: Of the annotation, in its document.
        label: Name of its category.
        box: (x1, y1, x2, y2) in pixels of the image, max side exclusive.
        score: That of the document; 1 where it has none, as of what people have drawn.
        track: Id that it has in other frames of its document, too; None if it was not followed.
        segmentation: As in the document: run lengths or polygons; empty for an object with a box only.
    """

    id: Any
    label: str
    box: tuple[float, float, float, float]
    score: float
    track: int | None
    segmentation: Any

    def decode_mask(self, size: Size) -> npt.NDArray[np.bool_]:
        """Decode its pixels, bool [H, W]; all of the box where it has no mask.

        Raises:
            InputError: The mask is damaged or of another size than the image.
        """
        if self.segmentation:
            return decode(to_rle(self.segmentation, size))
        mask = np.zeros(size, bool)
        x1, y1, x2, y2 = (max(0, round(side)) for side in self.box)
        mask[y1:y2, x1:x2] = True
        return mask


@dataclass(frozen=True, slots=True)
class FleetImage:
    """One image and the objects in it.

    Args:
        document: Index of its document among those of the fleet.
        id: In its document.
        name: `file_name` of the document.
        file: Where the picture is.
        size: Height and width in pixels.
        recording: Name of the bag, the video or the tracked folder of images that it belongs to, different for those of
            different documents; a single image is a recording of its own.
        camera: Topic in a bag; "" where nothing says which camera it was.
        stamp_ns: When it was taken, nanoseconds, on the clock of its recording; None if unknown.
        objects: In the order of the document.
    """

    document: int
    id: Any
    name: str
    file: Path
    size: Size
    recording: str
    camera: str
    stamp_ns: int | None
    objects: tuple[FleetObject, ...]


@dataclass(frozen=True)
class Fleet:
    """What several documents know.

    Args:
        documents: Their paths.
        backbones: What each was made with, by its name in the weights registry; None where the document does not say.
        images: All images, in order; some may have no objects.
    """

    documents: tuple[Path, ...]
    backbones: tuple[str | None, ...]
    images: tuple[FleetImage, ...]

    @cached_property
    def counts(self) -> npt.NDArray[np.int64]:
        """Number of objects of each image, int64 [I]."""
        return np.array([len(image.objects) for image in self.images], np.int64)

    @cached_property
    def objects(self) -> tuple[FleetObject, ...]:
        """All objects, image by image: n of them."""
        return tuple(fleet_object for image in self.images for fleet_object in image.objects)

    @cached_property
    def image_numbers(self) -> npt.NDArray[np.int64]:
        """Index of each object's image, int64 [n]."""
        return np.repeat(np.arange(len(self.images)), self.counts)


def read_fleet(prelabels: Sequence[Path], images: Sequence[Path] = ()) -> Fleet:
    """Read the objects of pre-labels.

    Args:
        prelabels: Folders that `objloc prelabel` has written, or COCO documents.
        images: Folders below which image files are that were not copied beside the labels; for all documents.

    Raises:
        InputError: A document is missing, damaged or given twice, or an image is in none of the folders.
    """
    documents = [_find_document(path) for path in prelabels]
    if (twice := find_duplicate(document.resolve() for document in documents)) is not None:
        raise InputError(f"the pre-labels {twice} were given twice: name each once")
    truths = [read_truth(document) for document in documents]
    backbones = tuple(_read_info(truth, "backbone") for truth in truths)
    owners = _count_owners(truths)
    fleet_images: list[FleetImage] = []
    for number, truth in enumerate(truths):
        folders = [*images, _find_root(documents[number]) / IMAGES]
        fleet_images += _read_images(truth, number, folders, owners)
    return Fleet(tuple(documents), backbones, tuple(fleet_images))


def _find_document(path: Path) -> Path:
    document = path / PRELABELS if path.is_dir() else path
    if not document.is_file():
        raise InputError(f"{path} holds no pre-labels: there is no {document}; make them with objloc prelabel")
    return document


def _find_root(document: Path) -> Path:
    """Find the folder of `objloc prelabel`'s results, or that of another document."""
    is_prelabel = document.parts[-len(PRELABELS.parts) :] == PRELABELS.parts
    return document.parent.parent if is_prelabel else document.parent


def _read_info(truth: Truth, name: str) -> str | None:
    info = truth.document["info"]
    value = info.get(name) if isinstance(info, dict) else None
    return value if isinstance(value, str) else None


def _name_recording(truth: Truth, image: Record) -> str:
    """Name the bag, the video, the tracked folder or the single image, as its own document does."""
    file_name = str(image["file_name"])
    folder = str(Path(file_name).parent) if _read_info(truth, "tracks") == "all" else file_name
    return str(image.get("bag") or image.get("video") or folder)


def _count_owners(truths: Sequence[Truth]) -> Counter[str]:
    """Count the documents that have a recording of a name; checks that images have names."""
    owners: Counter[str] = Counter()
    for truth in truths:
        for image in truth.document["images"]:
            if not isinstance(image.get("file_name"), str) or not image["file_name"]:
                raise InputError(f"{truth.path}: image {image['id']!r} has no file_name")
        owners.update({_name_recording(truth, image) for image in truth.document["images"]})
    return owners


def _read_images(truth: Truth, document: int, folders: Sequence[Path], owners: Counter[str]) -> list[FleetImage]:
    names = {category["id"]: str(category["name"]) for category in truth.document["categories"]}
    objects: dict[Any, list[FleetObject]] = defaultdict(list)
    for annotation in truth.document["annotations"]:
        objects[annotation["image_id"]].append(_read_object(annotation, names))
    images = []
    for image in truth.document["images"]:
        recording = _name_recording(truth, image)
        if owners[recording] > 1:
            recording = f"{_find_root(truth.path)}: {recording}"
        stamp = image.get("stamp_ns")
        images.append(
            FleetImage(
                document=document,
                id=image["id"],
                name=image["file_name"],
                file=_find_image(truth, image["file_name"], folders),
                size=_read_size(truth, image),
                recording=recording,
                camera=str(image.get("topic", "")),
                stamp_ns=stamp if isinstance(stamp, int) else None,
                objects=tuple(objects[image["id"]]),
            )
        )
    return images


def _read_object(annotation: Record, names: dict[Any, str]) -> FleetObject:
    attributes = annotation.get("attributes")
    track = annotation.get("track_id", attributes.get("track_id") if isinstance(attributes, dict) else None)
    return FleetObject(
        id=annotation["id"],
        label=names.get(annotation["category_id"], str(annotation["category_id"])),
        box=to_corners(annotation["bbox"]),
        score=float(annotation.get("score", 1.0)),
        track=track if isinstance(track, int) else None,
        segmentation=annotation.get("segmentation") or (),
    )


def _read_size(truth: Truth, image: Record) -> Size:
    size = image.get("height"), image.get("width")
    if not all(isinstance(side, int) and side > 0 for side in size):
        raise InputError(f"{truth.path}: image {image['id']!r} has the height and width {list(size)}: must be above 0")
    return int(image["height"]), int(image["width"])


def _find_image(truth: Truth, name: str, folders: Sequence[Path]) -> Path:
    for folder in folders:
        if (file := folder / name).is_file():
            return file.absolute()
    places = " or ".join(map(str, folders))
    raise InputError(f"{truth.path} names the image {name}, which is not in {places}: say where with --images DIR")
