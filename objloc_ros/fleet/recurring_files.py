"""What `objloc recurring` writes: the ranking, the objects with ranks as scores, and a contact sheet per group."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from objloc_ros.fleet.documents import name_images, write_objects
from objloc_ros.fleet.objects import Fleet
from objloc_ros.fleet.recurring import FleetNodes, Recurring
from objloc_ros.fleet.sheets import make_object_sheet
from objloc_ros.io.files import write_atomically
from objloc_ros.io.media import write_image

SHEET_CELLS = 24
"""Objects on a contact sheet, the best ones of the group."""


def write_ranking(path: Path, info: dict[str, Any], fleet: Fleet, nodes: FleetNodes, recurring: Recurring) -> None:
    """Write the ranked objects as JSON, best first, an object per line; the file appears whole or not at all.

    Each has `object` and `image` (its annotation's id and its image's name in the document of `write_scored_objects`),
    `recording`, `score`, `rank` from 1 on, `group` from 1 on or null for an object alone, and `seen`: in how many
    images, more than one for a track.
    """
    linked = nodes.of_objects >= 0
    annotations = np.cumsum(linked)[nodes.objects]
    seen = np.bincount(nodes.of_objects[linked], minlength=len(nodes.objects))
    names = name_images(fleet)[1]
    numbers = fleet.image_numbers[nodes.objects]
    with write_atomically(path) as scratch, scratch.open("w", encoding="utf-8") as file:
        file.write(f'{{\n"info": {json.dumps(info)},\n"objects": [')
        separator = "\n"
        for node in np.argsort(recurring.ranks).tolist():
            record = {
                "object": int(annotations[node]),
                "image": names[numbers[node]],
                "recording": fleet.images[numbers[node]].recording,
                "score": float(recurring.scores[node]),
                "rank": int(recurring.ranks[node]),
                "group": int(recurring.groups[node]) or None,
                "seen": int(seen[node]),
            }
            file.write(separator + json.dumps(record))
            separator = ",\n"
        file.write("\n]\n}\n")
        file.flush()
        os.fsync(file.fileno())


def write_scored_objects(
    path: Path, info: dict[str, Any], fleet: Fleet, nodes: FleetNodes, recurring: Recurring
) -> Path:
    """Write the objects as a COCO document whose scores are rank percentiles: 1 for the best one, 1/n for the last.

    All objects of a track have its score; those that were left out are not in it.

    Returns:
        The folder below which `file_name` is.
    """
    categories = sorted({fleet_object.label for fleet_object in fleet.objects})
    places = {name: place for place, name in enumerate(categories)}
    labels = np.array([places[fleet_object.label] for fleet_object in fleet.objects])
    count = len(recurring.ranks)
    percentiles = (count + 1 - recurring.ranks) / count
    linked = nodes.of_objects >= 0
    scores = np.where(linked, percentiles[nodes.of_objects], 0.0)
    return write_objects(path, fleet, np.where(linked, labels, -1), categories, scores=scores, info=info)


def list_groups(recurring: Recurring) -> Iterator[npt.NDArray[np.int64]]:
    """List the nodes of each group of two or more, the best group and the best node first."""
    groups = recurring.groups
    order = np.lexsort((recurring.ranks, groups))
    order = order[groups[order] > 0]
    yield from np.split(order, np.flatnonzero(np.diff(groups[order])) + 1) if len(order) else ()


def write_sheets(
    folder: Path, fleet: Fleet, nodes: FleetNodes, recurring: Recurring, groups: Sequence[npt.NDArray[np.int64]]
) -> list[Path]:
    """Write a contact sheet per group: its best objects, each under its rank and recording.

    Raises:
        InputError: The folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("group_*.jpg"):  # of an earlier run with other options
        old.unlink()
    paths = []
    for number, members in enumerate(groups, 1):
        places = nodes.objects[members[:SHEET_CELLS]]
        recordings = [fleet.images[image].recording for image in fleet.image_numbers[places].tolist()]
        captions = [f"{rank}. {name}" for rank, name in zip(recurring.ranks[members], recordings, strict=False)]
        paths.append(folder / f"group_{number:04d}.jpg")
        write_image(paths[-1], make_object_sheet(fleet, places.tolist(), captions))
    return paths
