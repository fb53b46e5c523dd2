"""Objects that were clustered, or found by a detector of clusters, against classes that people know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from objloc_ros.data.coco_document import DIFFICULT, Record, Truth, number_categories, read_truth, to_corners
from objloc_ros.data.voc_kitti_saliency import find_voc_annotations, read_voc_objects
from objloc_ros.errors import InputError
from objloc_ros.metrics import ClusterAP, ClusteredImage


def evaluate_clusters(truth: Truth, predictions: Sequence[Record], clusters: Mapping[Any, str]) -> dict[str, Any]:
    """Compute the average precision of clusters, assigned to the classes of the truth.

    Args:
        truth: True objects; crowds and objects flagged difficult are neither right nor wrong.
        predictions: Scored boxes, as from `read_predictions`, of the categories `clusters`.
        clusters: Their names by category id.

    Returns:
        The figures of `ClusterAP`, with the names of the clusters.

    Raises:
        InputError: A category is none of the clusters.
    """
    names = {category["id"]: str(category["name"]) for category in truth.document["categories"]}
    classes, places = ({number: place for place, number in enumerate(categories)} for categories in (names, clusters))
    truths, found = _group(truth.document["annotations"]), _group(predictions)
    metric = ClusterAP(list(names.values()), len(clusters))
    for number in truth.ids:
        objects, boxes = truths.get(number, []), found.get(number, [])
        metric.update(
            ClusteredImage(
                boxes=_stack_boxes(boxes),
                scores=np.array([record["score"] for record in boxes], np.float64),
                clusters=np.array([_find(places, record, "cluster") for record in boxes], np.int64),
                truth=_stack_boxes(objects),
                classes=np.array([_find(classes, record, "class") for record in objects], np.int64),
                difficult=np.array([bool(r.get(DIFFICULT) or r.get("iscrowd")) for r in objects], np.bool_),
            )
        )
    figures = metric.compute()
    labels = list(clusters.values())
    for about in filter(None, figures["classes"].values()):
        about["cluster"] = None if about["cluster"] is None else labels[about["cluster"]]
    return figures


def read_class_truth(path: Path, names: Sequence[str]) -> Truth:
    """Read the true objects of some images.

    Args:
        path: A COCO document; or a folder of PASCAL VOC: its annotations, a year of it or all of it.
        names: The `file_name` of each image.

    Returns:
        A truth of these images alone.

    Raises:
        InputError: There is no such truth, or it lacks an image.
    """
    if path.is_dir():
        return _read_voc(path, names)
    truth = read_truth(path)
    stems = {Path(name).stem for name in names}
    named = {image["id"]: Path(str(image.get("file_name"))).stem for image in truth.document["images"]}
    _check_complete(path, names, named.values())
    ids = tuple(number for number in truth.ids if named[number] in stems)
    chosen = set(ids)
    images = [image for image in truth.document["images"] if image["id"] in chosen]
    annotations = [record for record in truth.document["annotations"] if record["image_id"] in chosen]
    return Truth(path, {**truth.document, "images": images, "annotations": annotations}, ids)


def _read_voc(path: Path, names: Sequence[str]) -> Truth:
    files = {file.stem: file for folder in find_voc_annotations(path) for file in folder.glob("*.xml")}
    _check_complete(path, names, files)
    objects = [read_voc_objects(files[Path(name).stem]) for name in names]
    categories = number_categories(sorted({item.label for items in objects for item in items}))
    numbers = {category["name"]: category["id"] for category in categories}
    annotations = []
    for number, items in enumerate(objects, start=1):
        for item in items:
            x1, y1, x2, y2 = item.box
            record = {"image_id": number, "category_id": numbers[item.label], "bbox": [x1, y1, x2 - x1, y2 - y1]}
            annotations.append({**record, **dict.fromkeys(item.flags, 1)})
    images = [{"id": number, "file_name": name} for number, name in enumerate(names, start=1)]
    document = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    return Truth(path, document, tuple(range(1, len(names) + 1)))


def _check_complete(path: Path, names: Sequence[str], known: Iterable[str]) -> None:
    stems = set(known)
    missing = [name for name in names if Path(name).stem not in stems]
    if missing:
        raise InputError(
            f"{path} has no truth for {len(missing)} of the {len(names)} images, the first is {missing[0]}: is it that "
            "of other images?"
        )


def _group(records: Sequence[Record]) -> dict[Any, list[Record]]:
    by_image: dict[Any, list[Record]] = {}
    for record in records:
        by_image.setdefault(record["image_id"], []).append(record)
    return by_image


def _stack_boxes(records: Sequence[Record]) -> np.ndarray:
    return np.array([to_corners(record["bbox"]) for record in records], np.float64).reshape(-1, 4)


def _find(places: Mapping[Any, int], record: Record, what: str) -> int:
    number = record["category_id"]
    if number not in places:
        raise InputError(f"an object of image {record['image_id']!r} has the category_id {number!r}: no such {what}")
    return places[number]
