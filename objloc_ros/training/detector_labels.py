"""Labels that a detector learns from: COCO documents as `objloc prelabel` writes them, and as tools export them.

What the tools do to them:

- CVAT exports polygons as polygons, and every mask as uncompressed run lengths with `iscrowd` 1, which therefore does
  not tell crowds from objects. Rectangles have an empty `segmentation`.
- FiftyOne exports polygons, or run lengths with `iscrowd` as it was read.
- Neither keeps the order of images or ids, and neither has a score for what people have drawn: it counts as 1.

Everything is checked before anything is learned; messages name the annotation at fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from objloc_ros.data.coco_document import PRELABELS, Record, Truth, number_categories, read_truth, to_corners
from objloc_ros.data.coco_index import parse_categories, parse_name
from objloc_ros.errors import InputError
from objloc_ros.io.files import find_duplicate, is_number, write_json
from objloc_ros.io.media import read_image_size
from objloc_ros.io.rle import Rle, count_pixels, decode, find_box, to_rle
from objloc_ros.training.found_data import list_image_files
from objloc_ros.types import Size

DOCUMENTS = (str(PRELABELS), "annotations/instances_*.json", "labels.json")
"""Where a folder has its document: `objloc prelabel` and CVAT, CVAT with a named subset, FiftyOne."""

ROUNDING_PX = 1.0
"""How far a box or a polygon may reach beyond its image, in pixels: tools round."""

NO_TRACK = -1
"""Track of an object that belongs to none."""


@dataclass(frozen=True)
class ImageLabels:
    """The objects of one image.

    Args:
        file: The picture.
        name: What the document calls it.
        size: Height and width in pixels.
        rles: The mask of each object; None where people gave only a box.
        boxes: float64 [n, 4] as (x1, y1, x2, y2), max side exclusive; tight around the masks.
        categories: int64 [n], places in the classes.
        scores: float64 [n] in [0, 1].
        tracks: int64 [n], track ids, `NO_TRACK` for objects without.
    """

    file: Path
    name: str
    size: Size
    rles: tuple[Rle | None, ...]
    boxes: npt.NDArray[np.float64]
    categories: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float64]
    tracks: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rles)

    @property
    def box_only(self) -> npt.NDArray[np.bool_]:
        """Which objects have no mask, bool [n]."""
        return np.array([rle is None for rle in self.rles], np.bool_)

    @property
    def masks(self) -> npt.NDArray[np.bool_]:
        """The pixels of each object, bool [n, H, W], decoded each time; of objects without a mask those of the box."""
        masks = np.zeros((len(self.rles), *self.size), np.bool_)
        for mask, rle, box in zip(masks, self.rles, self.boxes, strict=True):
            if rle is not None:
                mask[:] = decode(rle)
            else:
                x1, y1 = np.floor(box[:2]).astype(int)
                x2, y2 = np.ceil(box[2:]).astype(int)
                mask[y1:y2, x1:x2] = True
        return masks

    def select(self, places: Sequence[int] | npt.NDArray[np.intp]) -> ImageLabels:
        """Return the objects at some places, in their order."""
        rows = np.asarray(places, np.intp)
        arrays = {name: getattr(self, name)[rows] for name in ("boxes", "categories", "scores", "tracks")}
        return replace(self, rles=tuple(self.rles[row] for row in rows), **arrays)

    def append(self, other: ImageLabels) -> ImageLabels:
        """Return these objects and then those of other labels of the same image."""
        names = ("boxes", "categories", "scores", "tracks")
        arrays = {name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in names}
        return replace(self, rles=self.rles + other.rles, **arrays)


@dataclass(frozen=True)
class Labels:
    """The labels of a training.

    Args:
        document: Where they came from.
        classes: Names of the categories, in the order of their ids.
        images: One element per image, in the document's order, those that it does not mention last, by name.
        left_out: Number of images that were left out: without labels, or unreadable and not in the document.
        crowds: Number of annotations with `iscrowd`, left out or not.
    """

    document: Path
    classes: tuple[str, ...]
    images: tuple[ImageLabels, ...]
    left_out: int = 0
    crowds: int = 0

    @property
    def count(self) -> int:
        """Number of objects."""
        return sum(len(image) for image in self.images)


def read_labels(
    document: Path, images: Path, *, empty_ok: bool = False, skip_crowds: bool = False, none_ok: bool = False
) -> Labels:
    """Read and check the labels of a training.

    Args:
        document: COCO document, or the folder that `objloc prelabel`, CVAT or FiftyOne has written.
        images: Folder below which the images lie, by their `file_name`.
        empty_ok: Whether images without labels show no object, those that the document does not mention, too; they are
            left out otherwise, as nobody may have looked at them.
        skip_crowds: Whether annotations with `iscrowd` are left out, as COCO's own crowds should be.
        none_ok: Whether there may be no label at all.

    Raises:
        InputError: There is no document or no label; a labelled image is missing; or an annotation has an invalid box,
            mask, score, id or category. The message says which, and what to do.
    """
    path = find_document(document)
    truth = read_truth(path)
    names = {image["id"]: parse_name(path, image) for image in truth.document["images"]}
    if (name := find_duplicate(names.values())) is not None:
        raise InputError(f"{path}: two images have the file_name {name!r}: keep one of them")
    kept = _group_annotations(truth, skip_crowds=skip_crowds)
    crowds = sum(bool(record.get("iscrowd")) for record in truth.document["annotations"])
    if not (none_ok or any(kept.values())):
        raise InputError(
            f"{path}: there are no labels, in {len(names)} images: make some with objloc prelabel or --teacher"
            + (f", or leave --skip-crowds out: all {crowds} have iscrowd" if crowds else "")
        )
    wanted = {number: name for number, name in names.items() if empty_ok or kept[number]}
    _check_files(path, images, tuple(wanted.values()))
    categories = _parse_categories(truth)
    sizes = {image["id"]: (image.get("height"), image.get("width")) for image in truth.document["images"]}
    labelled = []
    for number, name in wanted.items():
        size = _read_size(path, images / name, name, sizes[number])
        labelled.append(_parse_image(path, images / name, name, size, kept[number], list(categories)))
    others = _list_unmentioned(images, names.values())
    if empty_ok:
        empty = (_make_empty(file, str(file.relative_to(images))) for file in others)
        labelled += [image for image in empty if image is not None]
    left_out = len(names) + len(others) - len(labelled)
    return Labels(path, tuple(categories.values()), tuple(labelled), left_out, crowds)


def write_labels(path: Path, labels: Labels, info: Mapping[str, Any]) -> None:
    """Write labels as a COCO document that `read_labels` reads, and CVAT and FiftyOne import.

    Raises:
        InputError: The file cannot be written.
    """
    annotations: list[Record] = []
    for number, image in enumerate(labels.images, start=1):
        for place in range(len(image)):
            about = {"id": len(annotations) + 1, "image_id": number}
            annotations.append(about | _describe(image, place))
    images = [
        {"id": number, "file_name": image.name, "width": image.size[1], "height": image.size[0]}
        for number, image in enumerate(labels.images, start=1)
    ]
    document = {"info": dict(info), "licenses": [], "categories": number_categories(labels.classes)}
    write_json(path, document | {"images": images, "annotations": annotations})


def find_document(path: Path) -> Path:
    """Find the COCO document of a folder; a file is its own.

    Raises:
        InputError: There is none, or more than one.
    """
    if not path.is_dir():
        return path
    for pattern in DOCUMENTS:
        found = sorted(path.glob(pattern))
        if len(found) > 1:
            raise InputError(f"{path} holds {len(found)} documents, {found[0].name} and {found[1].name}: name one file")
        if found:
            return found[0]
    raise InputError(f"{path} has no labels: there is no {' or '.join(DOCUMENTS)}")


def _group_annotations(truth: Truth, *, skip_crowds: bool) -> dict[Any, list[tuple[str, Record]]]:
    """Group annotations by the id of their image, each with the words for its place in the document."""
    grouped: dict[Any, list[tuple[str, Record]]] = {number: [] for number in truth.ids}
    annotations = truth.document["annotations"]
    if (number := find_duplicate([record["id"] for record in annotations])) is not None:
        places = [place for place, record in enumerate(annotations) if record["id"] == number]
        raise InputError(
            f"{truth.path}: annotations[{places[0]}] and annotations[{places[1]}] have the same id {number!r}: "
            "export the labels again, or number them"
        )
    for place, record in enumerate(annotations):
        if not (skip_crowds and record.get("iscrowd")):
            grouped[record["image_id"]].append((f"{truth.path}: annotations[{place}]", record))
    return grouped


def _parse_categories(truth: Truth) -> dict[Any, str]:
    """Return the names of the categories by id, in the order of the ids."""
    records = truth.document["categories"]
    categories = parse_categories(truth.path, records)
    if len(categories) != len(records):
        number = find_duplicate([record["id"] for record in records])
        raise InputError(f"{truth.path}: two categories have the id {number!r}: number them")
    if (name := find_duplicate(categories.values())) is not None:
        raise InputError(f"{truth.path}: two categories are called {name!r}: rename one or join them")
    return categories


def _check_files(path: Path, images: Path, names: Sequence[str]) -> None:
    missing = [name for name in names if not (images / name).is_file()]
    if missing:
        listed = ", ".join(missing[:3]) + ", ..." * (len(missing) > 3)
        raise InputError(
            f"{path}: {len(missing)} of {len(names)} labelled images are not below {images}: {listed}. "
            "Name the folder that their file_name begins in (--images); objloc prelabel --images makes one"
        )


def _list_unmentioned(images: Path, names: Iterable[str]) -> list[Path]:
    mentioned = {images / name for name in names}
    return [file for file in list_image_files(images) if file not in mentioned]


def _make_empty(file: Path, name: str) -> ImageLabels | None:
    """Return the labels of an image that shows no object; None if it has no header of an image."""
    try:
        size = read_image_size(file)
    except InputError:
        return None
    nothing = np.zeros(0, np.int64)
    return ImageLabels(file, name, size, (), np.zeros((0, 4)), nothing, np.zeros(0), nothing)


def _read_size(path: Path, file: Path, name: str, stated: tuple[Any, Any]) -> Size:
    """Read the size of an image, and compare it with what the document says, if it says one."""
    size = read_image_size(file)
    if stated not in ((None, None), size):
        raise InputError(
            f"{path}: image {name!r} has height and width {list(stated)}, the file {file} {list(size)}: "
            "the labels are of another picture, or of one that was resized afterwards"
        )
    return size


def _parse_image(
    path: Path, file: Path, name: str, size: Size, records: Sequence[tuple[str, Record]], categories: Sequence[Any]
) -> ImageLabels:
    masks = [_parse_mask(f"{where} of image {name!r}", record, size) for where, record in records]
    boxes = [_choose_box(where, record, mask, size) for (where, record), mask in zip(records, masks, strict=True)]
    numbers = [_parse_category(where, record, categories) for where, record in records]
    scores = [_parse_score(where, record) for where, record in records]
    tracks = [_parse_track(record) for _, record in records]
    return ImageLabels(
        file,
        name,
        size,
        tuple(masks),
        np.array(boxes, np.float64).reshape(-1, 4),
        np.array(numbers, np.int64),
        np.array(scores, np.float64),
        np.array(tracks, np.int64),
    )


def _parse_mask(where: str, record: Record, size: Size) -> Rle | None:
    """Return the mask of an annotation; None if it has none."""
    segmentation = record.get("segmentation")
    if not segmentation:
        return None
    try:
        mask = to_rle(segmentation, size)
    except InputError as error:
        raise InputError(f"{where}: {error}. Export it for the picture as it is, or delete it") from error
    if isinstance(segmentation, list):
        sides = np.concatenate([np.reshape(part, (-1, 2)) for part in segmentation])
        _check_inside(where, [*sides.min(axis=0).tolist(), *sides.max(axis=0).tolist()], size)
    if not count_pixels(mask):
        raise InputError(f"{where}: its mask has no pixel: draw it again, or delete it")
    return mask


def _choose_box(where: str, record: Record, mask: Rle | None, size: Size) -> tuple[float, float, float, float]:
    """Return the box around a mask, or the annotation's own where it has no mask."""
    x1, y1, x2, y2 = box = to_corners(record["bbox"] if mask is None else find_box(mask))
    _check_inside(where, box, size)
    clipped = max(x1, 0.0), max(y1, 0.0), min(x2, float(size[1])), min(y2, float(size[0]))
    if clipped[2] <= clipped[0] or clipped[3] <= clipped[1]:
        raise InputError(f"{where}: its box {record['bbox']} has no area in the image: draw it again, or delete it")
    return clipped


def _check_inside(where: str, corners: Sequence[float], size: Size) -> None:
    x1, y1, x2, y2 = corners
    beyond = max(-x1, -y1, x2 - size[1], y2 - size[0])
    if beyond > ROUNDING_PX:
        raise InputError(
            f"{where}: it reaches {beyond:g} pixels beyond its image of {size[1]}x{size[0]} "
            f"(from {x1:g}, {y1:g} to {x2:g}, {y2:g}): check that it belongs to this image, and clip it"
        )


def _parse_category(where: str, record: Record, categories: Sequence[Any]) -> int:
    number = record["category_id"]
    if number not in categories:
        known = ", ".join(map(str, categories[:5])) + ", ..." * (len(categories) > 5)
        raise InputError(f"{where}: there is no category {number!r} among {known}: list it under categories")
    return categories.index(number)


def _parse_score(where: str, record: Record) -> float:
    score = record.get("score")
    if score is None:
        return 1.0
    if not is_number(score) or not 0 <= score <= 1:
        raise InputError(f"{where}: its score {score!r} must be a number in [0, 1]; what people have drawn needs none")
    return float(score)


def _parse_track(record: Record) -> int:
    """Return the track of an annotation; tools keep what `objloc prelabel` wrote only among the attributes."""
    attributes = record.get("attributes")
    track = record.get("track_id", attributes.get("track_id") if isinstance(attributes, dict) else None)
    return track if isinstance(track, int) and not isinstance(track, bool) and track >= 0 else NO_TRACK


def _describe(image: ImageLabels, place: int) -> Record:
    """Describe an object as the members of an annotation."""
    rle = image.rles[place]
    x1, y1, x2, y2 = image.boxes[place].tolist()
    described: Record = {
        "category_id": int(image.categories[place]) + 1,
        "segmentation": [] if rle is None else rle,
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1) if rle is None else count_pixels(rle),
        "iscrowd": 0,
        "score": float(image.scores[place]),
    }
    track = int(image.tracks[place])
    return described if track == NO_TRACK else described | {"track_id": track, "attributes": {"track_id": track}}
