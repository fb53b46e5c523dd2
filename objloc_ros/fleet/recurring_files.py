"""What `objloc recurring` writes: the ranking, the pre-labels with ranks as scores, and a contact sheet per group."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from objloc_ros.data.coco_document import PRELABELS
from objloc_ros.errors import InputError
from objloc_ros.fleet.objects import Fleet, FleetImage, FleetObject
from objloc_ros.fleet.recurring import FleetNodes, Recurring
from objloc_ros.io.contact_sheet import make_contact_sheet
from objloc_ros.io.drawing import draw_outline
from objloc_ros.io.files import read_json, write_atomically, write_json
from objloc_ros.io.media import read_image, write_image
from objloc_ros.types import Image

SHEET_CELLS = 24
"""Objects on a contact sheet, the best ones of the group."""

SHEET_COLUMNS = 6
CELL = (160, 200)
"""Height and width of a picture on it in pixels."""

MARGIN = 0.35
"""What is shown around an object, as a part of the sides of its box."""

SCORE_DIGITS = 6


def write_ranking(path: Path, info: dict[str, Any], fleet: Fleet, nodes: FleetNodes, recurring: Recurring) -> None:
    """Write the ranked objects as JSON, best first, an object per line; the file appears whole or not at all.

    Each has `prelabels` (the document), `object` (id of its annotation there), `image` (file name), `recording`,
    `score`, `rank` from 1 on, `group` from 1 on or null for an object alone; one that stands for a track also `track`
    and `seen`, the number of its objects.
    """
    seen = np.bincount(nodes.of_objects[nodes.of_objects >= 0], minlength=len(nodes.objects))
    with write_atomically(path) as scratch, scratch.open("w", encoding="utf-8") as file:
        file.write(f'{{\n"info": {json.dumps(info)},\n"objects": [')
        separator = "\n"
        for node in np.argsort(recurring.ranks):
            record = _describe_node(int(node), fleet, nodes, recurring)
            if "track" in record:
                record["seen"] = int(seen[node])
            file.write(separator + json.dumps(record))
            separator = ",\n"
        file.write("\n]\n}\n")
        file.flush()
        os.fsync(file.fileno())


def _describe_node(node: int, fleet: Fleet, nodes: FleetNodes, recurring: Recurring) -> dict[str, Any]:
    image, fleet_object = _find_object(node, fleet, nodes)
    record: dict[str, Any] = {
        "prelabels": str(fleet.documents[image.document]),
        "object": fleet_object.id,
        "image": image.name,
        "recording": image.recording,
        "score": float(recurring.scores[node]),
        "rank": int(recurring.ranks[node]),
        "group": int(recurring.groups[node]) or None,
    }
    return record if fleet_object.track is None else record | {"track": fleet_object.track}


def _find_object(node: int, fleet: Fleet, nodes: FleetNodes) -> tuple[FleetImage, FleetObject]:
    number = int(nodes.objects[node])
    return fleet.images[int(fleet.image_numbers[number])], fleet.objects[number]


def write_scored_prelabels(out: Path, fleet: Fleet, nodes: FleetNodes, recurring: Recurring) -> list[Path]:
    """Write each document again, with the ranks of its objects as scores.

    `score` is the part of the ranked objects that an object leaves behind or equals in rank: 1 for the best one, 1/n
    for the last; 0 for objects that were left out. `rank` and `group` are added to ranked objects, all else stays.

    Args:
        out: Folder; the document of a single input goes to `annotations/` in it, those of several to `annotations/` in
            numbered folders, so that each is read as pre-labels again.
        fleet: The objects.
        nodes: What was linked.
        recurring: The ranking.

    Returns:
        The written documents.

    Raises:
        InputError: A document has changed since it was read, or the folder cannot be written.
    """
    percentiles = (len(recurring.ranks) + 1 - recurring.ranks) / max(1, len(recurring.ranks))
    placed: list[dict[Any, int]] = [{} for _ in fleet.documents]
    for number, fleet_object in enumerate(fleet.objects):
        placed[fleet.images[int(fleet.image_numbers[number])].document][fleet_object.id] = number
    written = []
    for index, (path, places) in enumerate(zip(fleet.documents, placed, strict=True)):
        document = read_json(path)
        for place, annotation in enumerate(document["annotations"]):
            number = places.get(annotation.get("id", place + 1), -1)
            if number < 0:
                raise InputError(f"{path} has changed since it was read: start again")
            node = nodes.of_objects[number]
            annotation["score"] = round(float(percentiles[node]), SCORE_DIGITS) if node >= 0 else 0.0
            if node >= 0:
                annotation |= {"rank": int(recurring.ranks[node]), "group": int(recurring.groups[node]) or None}
        target = (out if len(fleet.documents) == 1 else out / f"{index + 1:03d}") / PRELABELS
        write_json(target, document)
        written.append(target)
    return written


def list_groups(groups: npt.NDArray[np.int64], ranks: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    """List the nodes of each group of two or more, best group and best node first."""
    order = np.lexsort((ranks, groups))
    order = order[groups[order] > 0]
    yield from np.split(order, np.flatnonzero(np.diff(groups[order])) + 1) if len(order) else ()


def write_sheets(
    folder: Path, fleet: Fleet, nodes: FleetNodes, recurring: Recurring, groups: Sequence[npt.NDArray[np.int64]]
) -> list[Path]:
    """Write a contact sheet per group: its best objects with what is around them, each under its rank and recording.

    Raises:
        InputError: An image cannot be read or the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("group_*.jpg"):  # of an earlier run with other options
        old.unlink()
    paths = []
    for number, members in enumerate(groups, 1):
        shown = [_find_object(int(node), fleet, nodes) for node in members[:SHEET_CELLS]]
        captions = [
            f"{recurring.ranks[node]}. {image.recording}" for node, (image, _) in zip(members, shown, strict=False)
        ]
        sheet = make_contact_sheet([cut_out(*pair) for pair in shown], captions, columns=SHEET_COLUMNS, cell=CELL)
        paths.append(folder / f"group_{number:04d}.jpg")
        write_image(paths[-1], sheet)
    return paths


def cut_out(image: FleetImage, fleet_object: FleetObject) -> Image:
    """Cut an object and what is around it out of its image, with a line around its mask: RGB uint8 [h, w, 3]."""
    pixels = draw_outline(read_image(image.file).copy(), fleet_object.decode_mask(image.size))
    (height, width), (x1, y1, x2, y2) = image.size, fleet_object.box
    dx, dy = MARGIN * (x2 - x1), MARGIN * (y2 - y1)
    top, left = max(0, int(y1 - dy)), max(0, int(x1 - dx))
    return pixels[top : max(top + 1, min(height, round(y2 + dy))), left : max(left + 1, min(width, round(x2 + dx)))]
