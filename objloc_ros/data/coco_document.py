"""COCO-style documents of truth and of predictions: written, and checked before anything is computed from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from objloc_ros.errors import InputError
from objloc_ros.io.files import find_duplicate, is_number, read_json
from objloc_ros.io.rle import Rle, to_rle
from objloc_ros.types import Detections, Size

PRELABELS = Path("annotations", "instances_default.json")
"""Below the folder of `objloc prelabel`'s results; CVAT looks for it there."""


class CocoRecords:
    """Collects the detections of one run.

    Args:
        info: What made them (version, method, backbone, options); any JSON values.
        categories: Labels that the detections may have; further ones are added as they come.
    """

    def __init__(self, info: dict[str, Any], categories: Sequence[str] = ("object",)) -> None:
        self._info = info
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []
        self._categories = {name: number for number, name in enumerate(categories, start=1)}
        self._failures: list[dict[str, str]] = []

    def add(self, file_name: str, size: Size, detections: Detections, **extra: Any) -> None:
        """Record one image and what was found in it.

        Args:
            file_name: The image, or the video that it is a frame of.
            size: Height and width in pixels.
            detections: Boxes in pixels of the image.
            extra: Further fields of the image record.
        """
        image = {"id": len(self._images) + 1, "file_name": file_name, "width": size[1], "height": size[0], **extra}
        self._images.append(image)
        ids = (None,) * len(detections) if detections.ids is None else detections.ids
        columns = (detections.boxes, detections.scores, detections.labels, ids)
        for box, score, label, track in zip(*columns, strict=True):
            x1, y1, x2, y2 = (round(float(value), 2) for value in box)
            bbox = [x1, y1, round(x2 - x1, 2), round(y2 - y1, 2)]
            self._annotations.append(
                {
                    "id": len(self._annotations) + 1,
                    "image_id": image["id"],
                    "category_id": self._categories.setdefault(label, len(self._categories) + 1),
                    "bbox": bbox,
                    "area": round(bbox[2] * bbox[3], 2),
                    "iscrowd": 0,
                    "score": round(float(score), 4),
                }
                | ({} if track is None else {"track_id": int(track)})
            )

    def fail(self, file_name: str, reason: str) -> None:
        """Record a file that could not be used."""
        self._failures.append({"file_name": file_name, "reason": reason})

    def document(self) -> dict[str, Any]:
        """Return the COCO-style document.

        `images` (id, file_name, width, height), `annotations` (image_id, category_id, bbox as [x, y, width, height]
        in pixels, area of the box, score, and track_id where objects are tracked), `categories`; and beyond COCO
        `info` and `failures`.
        """
        return {
            "info": self._info,
            "images": self._images,
            "annotations": self._annotations,
            "categories": number_categories(self._categories),
            "failures": self._failures,
        }


Record = dict[str, Any]
DIFFICULT = "difficult"
"""Flag of VOC's objects that average precision leaves out, as in LOST's evaluation of its detector."""

HARD_FLAGS = (DIFFICULT, "truncated")
"""Flags of VOC that `no_hard` goes by."""


@dataclass(frozen=True)
class Truth:
    """The true objects of a data set.

    Args:
        path: Where they came from.
        document: COCO document with images, annotations and categories.
        ids: The images' ids, in their order.
    """

    path: Path
    document: Record
    ids: tuple[Any, ...]

    def boxes(self, *, no_hard: bool = False, rounded: bool = False) -> dict[Any, npt.NDArray[np.float64]]:
        """Return boxes [n, 4] per image id as (x1, y1, x2, y2), without crowds.

        Args:
            no_hard: Leave out objects with a flag "difficult" or "truncated", and images that have no other.
            rounded: Round each side to whole pixels, halves to even, as LOST does with COCO.
        """
        boxes: dict[Any, list[list[float]]] = {number: [] for number in self.ids}
        hard = set()
        for annotation in self.document["annotations"]:
            if annotation.get("iscrowd"):
                continue
            if no_hard and any(annotation.get(flag) for flag in HARD_FLAGS):
                hard.add(annotation["image_id"])
                continue
            box = to_corners(annotation["bbox"])
            boxes[annotation["image_id"]].append([round(side) for side in box] if rounded else list(box))
        return {
            number: np.array(rows, np.float64).reshape(-1, 4)
            for number, rows in boxes.items()
            if rows or number not in hard
        }

    def without_difficult(self) -> Truth:
        """Return the truth without objects flagged difficult, with all images."""
        annotations = [record for record in self.document["annotations"] if not record.get(DIFFICULT)]
        return replace(self, document={**self.document, "annotations": annotations})


def read_truth(path: Path) -> Truth:
    """Read a COCO document of true objects.

    Raises:
        InputError: If the file is not such a document; the image or annotation at fault is named.
    """
    document = read_json(path)
    if not isinstance(document, dict) or not all(isinstance(document.get(k), list) for k in ("images", "annotations")):
        raise InputError(f"{path}: a ground truth must be a COCO document with lists images and annotations")
    ids = tuple(_get_field(path, "images", i, image, "id") for i, image in enumerate(document["images"]))
    if not ids:
        raise InputError(f"{path}: there are no images")
    if len(set(ids)) != len(ids):
        raise InputError(f"{path}: two images have the id {find_duplicate(ids)!r}")
    known = set(ids)
    annotations = [_parse_annotation(path, i, record, known) for i, record in enumerate(document["annotations"])]
    categories = document.get("categories") or [{"id": 1, "name": "object"}]
    return Truth(path, {"info": {}, **document, "annotations": annotations, "categories": categories}, ids)


def read_predictions(path: Path, truth: Truth, *, masks: bool = False) -> list[Record]:
    """Read scored objects and bring them to the truth's image ids.

    Args:
        path: A list of COCO results, or a document with images and scored annotations, such as `objloc detect` writes;
            the images of the latter are matched by file name, without folder and suffix.
        truth: What they are for.
        masks: Whether each must have a mask (`segmentation`, RLE) instead of a box.

    Raises:
        InputError: If an object has no score, an invalid box or mask, or an image that the truth has not.
    """
    document = read_json(path)
    if isinstance(document, dict) and isinstance(document.get("annotations"), list):
        numbers = _match_by_name(path, document.get("images", []), truth)
        records = document["annotations"]
    elif isinstance(document, list):
        numbers, records = {number: number for number in truth.ids}, document
    else:
        raise InputError(f"{path}: predictions must be a list of COCO results or a document with annotations")
    sizes = _collect_sizes(truth) if masks else None
    return [_parse_prediction(path, i, record, numbers, sizes) for i, record in enumerate(records)]


def read_categories(path: Path, predictions: Sequence[Record]) -> dict[Any, str]:
    """Read the names of the categories of predictions by their ids, in their order; ids where the file has no names.

    Args:
        path: What `read_predictions` has read.
        predictions: What it has returned.

    Raises:
        InputError: Two categories have one id, or an object has another.
    """
    document = read_json(path)
    records = document.get("categories") if isinstance(document, dict) else None
    used = {record["category_id"] for record in predictions}
    if not records:
        return {number: str(number) for number in sorted(used, key=str)}
    names = {
        _get_field(path, "categories", place, record, "id"): str(record.get("name", record["id"]))
        for place, record in enumerate(records)
    }
    if len(names) != len(records):
        raise InputError(f"{path}: two categories have one id")
    if used - names.keys():
        raise InputError(f"{path}: there is no category {sorted(used - names.keys(), key=str)[0]!r}")
    return names


def add_masks(truth: Truth, predictions: Sequence[Record]) -> Record:
    """Return the truth's document with the mask of every object as run lengths, and the size of every image.

    Args:
        truth: The document.
        predictions: Scored masks, which say how large images are that nothing else does.

    Raises:
        InputError: If an object has no mask, a damaged one, or one of another size than its image.
    """
    sizes, path = _collect_sizes(truth), truth.path
    annotations = [
        {**record, "segmentation": _parse_rle(path, f"annotations[{i}]", record, number, sizes[number])}
        for i, record in enumerate(truth.document["annotations"])
        for number in [record["image_id"]]
    ]
    for prediction in predictions:
        sizes[prediction["image_id"]] = sizes[prediction["image_id"]] or _read_own_size(prediction)
    found = {number: size for number, size in sizes.items() if size is not None}
    images = [
        {**image, **dict(zip(("height", "width"), found.get(image["id"], ()), strict=False))}
        for image in truth.document["images"]
    ]
    return {**truth.document, "images": images, "annotations": annotations}


def select_best_boxes(predictions: Sequence[Record]) -> dict[Any, list[float]]:
    """Select the box (x1, y1, x2, y2) of highest score per image; of equal ones the first."""
    best: dict[Any, Record] = {}
    for prediction in predictions:
        number = prediction["image_id"]
        if number not in best or prediction["score"] > best[number]["score"]:
            best[number] = prediction
    return {number: list(to_corners(prediction["bbox"])) for number, prediction in best.items()}


def to_corners(bbox: Sequence[float]) -> tuple[float, float, float, float]:
    """Return COCO's box (x, y, width, height) as (x1, y1, x2, y2)."""
    x, y, width, height = bbox
    return x, y, x + width, y + height


def number_categories(names: Iterable[str]) -> list[Record]:
    """Return the category records of some names, numbered from 1."""
    return [{"id": number, "name": name} for number, name in enumerate(names, start=1)]


def _parse_annotation(path: Path, place: int, record: Any, known: set[Any]) -> Record:
    number = _get_field(path, "annotations", place, record, "image_id")
    if number not in known:
        raise InputError(f"{path}: annotations[{place}] is for image {number!r}, which is not listed")
    box = _parse_box(path, f"annotations[{place}]", record, number)
    whole = {"id": place + 1, "category_id": 1, "area": box[2] * box[3], **record, "bbox": box}
    return {**whole, "iscrowd": int(_is_crowd(record))}


def _is_crowd(record: Record) -> bool:
    """Whether an annotation is a crowd. CVAT sets iscrowd for every mask, and means it where an attribute says so."""
    attributes = record.get("attributes")
    if isinstance(attributes, dict):
        return bool(attributes.get("is_crowd"))
    return bool(record.get("iscrowd"))


def _parse_prediction(
    path: Path, place: int, record: Any, numbers: Mapping[Any, Any], sizes: Mapping[Any, Size | None] | None
) -> Record:
    theirs = _get_field(path, "prediction", place, record, "image_id")
    if theirs not in numbers:
        raise InputError(f"{path}: prediction[{place}] is for image {theirs!r}, which the ground truth has not")
    score = _get_field(path, "prediction", place, record, "score")
    if not is_number(score):
        raise InputError(f"{path}: prediction[{place}] of image {theirs!r} has the score {score!r}: no finite number")
    number = numbers[theirs]
    parsed = {"image_id": number, "category_id": record.get("category_id", 1), "score": float(score)}
    if sizes is not None:
        return {**parsed, "segmentation": _parse_mask(path, f"prediction[{place}]", record, theirs, sizes[number])}
    box = _parse_box(path, f"prediction[{place}]", record, theirs)
    if min(box[2:]) <= 0:
        raise InputError(
            f"{path}: prediction[{place}] of image {theirs!r} has the box {box}: its width and height must be > 0"
        )
    return {**parsed, "bbox": box}


def _parse_box(path: Path, where: str, record: Record, number: Any) -> list[float]:
    box = record.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(is_number(side) for side in box):
        raise InputError(f"{path}: {where} of image {number!r} has the box {box!r}: expected four finite numbers")
    if min(box[2:]) < 0:
        raise InputError(
            f"{path}: {where} of image {number!r} has the box {box}: [x, y, width, height] with a negative size, "
            "swapped or as corners"
        )
    return [float(side) for side in box]


def _parse_mask(path: Path, where: str, record: Record, number: Any, size: Size | None) -> Rle:
    mask = record.get("segmentation")
    if not isinstance(mask, dict) or not isinstance(mask.get("size"), list) or "counts" not in mask:
        raise InputError(f"{path}: {where} of image {number!r} has no RLE mask (segmentation: size, counts)")
    if size is not None and list(size) != mask["size"]:
        raise InputError(
            f"{path}: {where} of image {number!r} has a mask of {mask['size']} rows and columns, the image {list(size)}"
        )
    return _parse_rle(path, where, record, number, size)


def _parse_rle(path: Path, where: str, record: Record, number: Any, size: Size | None) -> Rle:
    """The mask of an object; where nothing says how large its image is, run lengths say it themselves."""
    size = size or _read_own_size(record)
    if size is None:
        raise InputError(f"{path}: {where} of image {number!r}: neither the image nor a mask says its height and width")
    try:
        return to_rle(record.get("segmentation"), size)
    except InputError as error:
        raise InputError(f"{path}: {where} of image {number!r}: {error}") from error


def _collect_sizes(truth: Truth) -> dict[Any, Size | None]:
    """Height and width of each image, by its record or else by its first mask of run lengths; None if neither says."""
    sizes: dict[Any, Size | None] = {}
    for image in truth.document["images"]:
        stated = [image.get("height"), image.get("width")]
        sizes[image["id"]] = None if None in stated else _parse_size(stated)
        if None not in stated and sizes[image["id"]] is None:
            raise InputError(f"{truth.path}: image {image['id']!r} has the height and width {stated}: must be above 0")
    for record in truth.document["annotations"]:
        sizes[record["image_id"]] = sizes[record["image_id"]] or _read_own_size(record)
    return sizes


def _read_own_size(record: Record) -> Size | None:
    mask = record.get("segmentation")
    return _parse_size(mask.get("size")) if isinstance(mask, dict) else None


def _parse_size(sides: Any) -> Size | None:
    """Two whole numbers above 0, or None."""
    if not isinstance(sides, list) or len(sides) != 2:
        return None
    whole = all(isinstance(side, int) and not isinstance(side, bool) and side > 0 for side in sides)
    return (sides[0], sides[1]) if whole else None


def _match_by_name(path: Path, images: Any, truth: Truth) -> dict[Any, Any]:
    """The truth's id for each id of the predictions' images; ids themselves where the truth names no files.

    Names are compared without their suffixes, and without their folders where no two images of the truth differ in the
    folder alone.
    """
    named = [image for image in truth.document["images"] if isinstance(image.get("file_name"), str)]
    by_path = {str(Path(image["file_name"]).with_suffix("")): image["id"] for image in named}
    by_stem: dict[str, list[Any]] = {}
    for image in named:
        by_stem.setdefault(Path(image["file_name"]).stem, []).append(image["id"])
    matched = {}
    for place, image in enumerate(images):
        theirs = _get_field(path, "images", place, image, "id")
        if not named:
            matched[theirs] = theirs
            continue
        name = str(_get_field(path, "images", place, image, "file_name"))
        found = by_stem.get(Path(name).stem, [])
        exact = by_path.get(str(Path(name).with_suffix("")))
        if exact is None and len(found) != 1:
            what = f"{len(found)} images of the name of" if found else "no image"
            raise InputError(f"{path}: the ground truth has {what} {name!r}")
        matched[theirs] = found[0] if exact is None else exact
    return matched


def _get_field(path: Path, where: str, place: int, record: Any, name: str) -> Any:
    if not isinstance(record, dict) or name not in record:
        raise InputError(f"{path}: {where}[{place}] has no {name}")
    return record[name]
