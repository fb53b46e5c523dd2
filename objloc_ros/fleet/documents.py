"""Objects of a fleet as one COCO document, with labels and scores of their own: what a detector is trained on."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from objloc_ros.data.coco_document import Record, number_categories
from objloc_ros.errors import InputError
from objloc_ros.fleet.objects import Fleet, FleetImage, FleetObject
from objloc_ros.io.files import write_json
from objloc_ros.io.rle import count_pixels, to_rle


def write_objects(
    path: Path,
    fleet: Fleet,
    labels: npt.NDArray[np.integer],
    categories: Sequence[str],
    *,
    scores: npt.NDArray[np.floating] | None = None,
    info: Mapping[str, Any],
) -> Path:
    """Write a document of all images of a fleet and of its objects.

    Args:
        path: The document.
        fleet: The objects.
        labels: int [n], the place of each object's category; -1 leaves the object out.
        categories: Their names.
        scores: float [n] in place of the objects' own.
        info: How labels and scores were made; JSON values.

    Returns:
        The folder below which `file_name` is: what `--images` has to be.

    Raises:
        InputError: The document cannot be written, or a mask is damaged.
    """
    root, names = name_images(fleet)
    tracks: dict[tuple[int, int], int] = {}
    images: list[Record] = []
    annotations: list[Record] = []
    place = 0
    for number, (image, name) in enumerate(zip(fleet.images, names, strict=True), start=1):
        images.append(_describe_image(image, number, name))
        for fleet_object in image.objects:
            if labels[place] >= 0:
                score = fleet_object.score if scores is None else float(scores[place])
                record: Record = {"id": len(annotations) + 1, "image_id": number, "category_id": int(labels[place]) + 1}
                record |= _describe_object(fleet_object, image) | {"score": round(score, 6)}
                if fleet_object.track is not None:
                    track = tracks.setdefault((image.document, fleet_object.track), len(tracks) + 1)
                    record |= {"track_id": track, "attributes": {"track_id": track}}
                annotations.append(record)
            place += 1
    document = {"info": dict(info), "licenses": [], "categories": number_categories(categories)}
    write_json(path, document | {"images": images, "annotations": annotations})
    return root


def name_images(fleet: Fleet) -> tuple[Path, list[str]]:
    """Choose names that tell all images of a fleet apart.

    Returns:
        A folder, and the path of each image below it: the names that their documents have, where all images lie below
        one folder by these names, else paths below the folder that holds them all.
    """
    roots = {image.file.parents[len(Path(image.name).parts) - 1] for image in fleet.images}
    if len(roots) == 1:
        return roots.pop(), [image.name for image in fleet.images]
    root = Path(os.path.commonpath([image.file.parent for image in fleet.images]))
    return root, [image.file.relative_to(root).as_posix() for image in fleet.images]


def _describe_image(image: FleetImage, number: int, name: str) -> Record:
    record: Record = {"id": number, "file_name": name, "width": image.size[1], "height": image.size[0]}
    record |= {"topic": image.camera} if image.camera else {}
    return record | ({"stamp_ns": image.stamp_ns} if image.stamp_ns is not None else {})


def _describe_object(fleet_object: FleetObject, image: FleetImage) -> Record:
    x1, y1, x2, y2 = fleet_object.box
    bbox = [x1, y1, x2 - x1, y2 - y1]
    record: Record = {"segmentation": [], "bbox": bbox, "area": bbox[2] * bbox[3], "iscrowd": 0}
    if fleet_object.segmentation:
        try:
            mask = to_rle(fleet_object.segmentation, image.size)
        except InputError as error:
            raise InputError(f"annotation {fleet_object.id!r} of {image.name}: {error}") from error
        record |= {"segmentation": mask, "area": count_pixels(mask)}
    return record
