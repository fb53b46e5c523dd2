"""Any data set as a COCO document, which `coco_json` opens again with the same truth and metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from objloc_ros.data.base import Dataset, Object, Sample, check_size, format_size
from objloc_ros.data.coco_document import number_categories
from objloc_ros.data.coco_json import ABOUT, NO_CLASS, to_levels
from objloc_ros.errors import InputError
from objloc_ros.io.media import image_size
from objloc_ros.io.rle import Rle, area, encode
from objloc_ros.ops.regions import extent
from objloc_ros.types import UNLABELLED, Image, Size
from objloc_ros.version import __version__

Record = dict[str, Any]
Named = tuple[str, Record]
"""A category's name and the fields of an annotation."""


def to_coco(dataset: Dataset, root: Path, on_image: Callable[[], object] = lambda: None) -> Record:
    """Describe a data set.

    Args:
        dataset: The data set; `dataset.check()` has passed.
        root: The folder that images are named from; it must hold all of them.
        on_image: Called after each image.

    Returns:
        A COCO document. Boxes are annotations, with the masks and the flags "difficult" and "truncated" that they
        have; ignored regions are crowds. Maps are run lengths, as `coco_json` says.

    Raises:
        InputError: If an image or its truth cannot be read, they are of different sizes, or an image is not in `root`.
    """
    images: list[Record] = []
    named: list[tuple[int, str, Record]] = []
    for number, sample in enumerate(dataset.samples, start=1):
        size = image_size(sample.image)
        check_size(dataset, sample, size)
        images.append({"id": number, "file_name": _relative_name(root, sample), "width": size[1], "height": size[0]})
        named += [(number, name, fields) for name, fields in _describe_truth(dataset, sample, size)]
        on_image()
    categories = _list_categories(dataset, {name for _, name, _ in named})
    ids = {category["name"]: category["id"] for category in categories}
    about: Record = {"dataset": dataset.name, "split": dataset.split, "kind": dataset.kind}
    about |= {"convention": dataset.convention, "rounded": dataset.rounded}
    return {
        "info": {"description": f"{dataset.title}, by objloc_ros {__version__}", ABOUT: about},
        "licenses": [],
        "categories": categories,
        "images": images,
        "annotations": [
            {"id": i, "image_id": number, "category_id": ids[name], **fields}
            for i, (number, name, fields) in enumerate(named, start=1)
        ],
    }


def _describe_truth(dataset: Dataset, sample: Sample, size: Size) -> Iterable[Named]:
    if dataset.kind == "boxes":
        return [_describe_object(item) for item in dataset.objects(sample)]
    shown = dataset.mask(sample)
    if shown.shape != size:
        raise InputError(
            f"{sample.truth}: the map has {format_size(shown.shape)} pixels, the image {format_size(size)}"
        )
    return _describe_saliency(shown) if dataset.kind == "saliency" else _describe_classes(shown, dataset)


def _describe_object(item: Object) -> Named:
    x1, y1, x2, y2 = item.box
    # Rounding undoes what adding and subtracting did to the last digits of decimals.
    bbox = [x1, y1, round(x2 - x1, 6), round(y2 - y1, 6)]
    fields: Record = {"bbox": bbox, "area": round(bbox[2] * bbox[3], 6), "iscrowd": int(item.ignored)}
    fields["segmentation"] = [] if item.mask is None else item.mask
    if item.mask is not None:
        fields["area"] = area(item.mask)
    return item.label, {**fields, **dict.fromkeys(item.flags, 1)}


def _describe_saliency(shown: Image) -> Iterator[Named]:
    solid, more = to_levels(shown)
    if shown.any():
        yield "object", {**_describe_mask(encode(solid), shown > 0), **more}


def _describe_classes(shown: Image, dataset: Dataset) -> Iterator[Named]:
    for value in np.unique(shown[shown > 0]).tolist():
        where = shown == value
        if value == UNLABELLED:
            yield str(NO_CLASS["name"]), {**_describe_mask(encode(where), where), "iscrowd": 1, "ignore": 1}
        elif value < len(dataset.classes):
            yield dataset.classes[value], _describe_mask(encode(where), where)
        else:
            raise InputError(f"{dataset.name}: class ids must be below {len(dataset.classes)}, got {value}")


def _describe_mask(rle: Rle, where: npt.NDArray[np.bool_]) -> Record:
    """Fields of a mask, with the box around some pixels, at least one."""
    x1, y1, x2, y2 = extent(where) or (0, 0, 0, 0)
    return {"segmentation": rle, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": area(rle), "iscrowd": 0}


def _list_categories(dataset: Dataset, used: set[str]) -> list[Record]:
    names = dataset.classes[1:] or sorted(used) or ["object"]
    return number_categories(names) + ([NO_CLASS] if dataset.classes and NO_CLASS["name"] in used else [])


def _relative_name(root: Path, sample: Sample) -> str:
    try:
        return sample.image.relative_to(root).as_posix()
    except ValueError as error:
        raise InputError(f"the image {sample.image} is not below {root}") from error
