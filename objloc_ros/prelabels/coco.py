"""Pre-labels as one COCO JSON document that CVAT and FiftyOne import, joined from parts without holding them in memory.

What the two importers require, by their own code:

- CVAT (through Datumaro's `coco_instances`): `iscrowd` must be an integer, and every category id above 0. A
  `segmentation` that is a dictionary becomes a mask whatever `iscrowd` says, with `counts` as text (compressed) or as
  a list (then `size` must be the image's); one that is a list becomes polygons; an empty list leaves a rectangle of
  `bbox`. A mask without a pixel stops the import. Entries of `attributes` become the label's attributes of the same
  names, where the task has declared them. An annotation whose attributes have `track_id` and `keyframe` becomes part
  of a track; but CVAT has no tracks of masks, so that masks come without `keyframe` (`track_id` is then an ordinary
  attribute), and tracks as rectangles in a document of their own. A folder or a zip file is recognised by
  `annotations/instances_*.json`. Images are told apart by `file_name` without its suffix; two of one name stop it.
- FiftyOne (`COCODetectionDataset` with `label_types=["segmentations"]`): takes the same three kinds of `segmentation`,
  whatever `iscrowd` says, and cuts the mask to the rounded `bbox`, which must therefore be tight; `score` becomes the
  confidence, further fields and `attributes` become attributes of the detection. `file_name` is below `data_path`,
  where every image must be.

Both therefore get compressed run lengths, `iscrowd` 0 (in COCO, 1 marks what an evaluation is to ignore) and tight
boxes of whole pixels.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from objloc_ros.data.coco_document import number_categories
from objloc_ros.io.files import write_atomically
from objloc_ros.prelabels.parts import read_records


@dataclass
class Totals:
    """What a document contains.

    Args:
        images: Number of labelled images.
        annotations: Number of objects in them.
        tracks: Number of tracked objects, each counted once.
        failures: Number of images and messages that could not be used.
    """

    images: int = 0
    annotations: int = 0
    tracks: int = 0
    failures: int = 0


def write_coco(
    parts: Sequence[Path],
    path: Path,
    *,
    info: dict[str, Any],
    categories: Sequence[str],
    as_tracks: bool = False,
) -> Totals:
    """Join the labels of parts to one document; it appears whole or not at all.

    Images, annotations and tracks are numbered from 1 in the order of the parts, so that the bytes do not depend on
    how and where the work was done. The parts are read three times; memory does not grow with the number of images.

    Args:
        parts: Folders with `labels.jsonl`, in the order of the inputs.
        path: The JSON file.
        info: How the labels were made; any JSON values.
        categories: Their names, in the order of their ids from 1 on.
        as_tracks: Write only tracked objects, as the rectangles of which CVAT makes tracks, instead of masks.

    Raises:
        InputError: A part cannot be read or the file cannot be written.
    """
    totals = Totals()
    ids = {name: number for number, name in enumerate(categories, start=1)}
    with write_atomically(path) as scratch, scratch.open("w", encoding="utf-8") as file:
        file.write(f'{{\n"info": {json.dumps(info)},\n"licenses": [],\n')
        _write_list(file, "categories", number_categories(categories))
        _write_list(file, "images", _make_images(parts, totals))
        _write_list(file, "annotations", _make_annotations(parts, ids, totals, as_tracks=as_tracks))
        _write_list(file, "failures", _read_failures(parts, totals), end="\n}\n")
        file.flush()
        os.fsync(file.fileno())
    return totals


def _make_images(parts: Sequence[Path], totals: Totals) -> Iterator[dict[str, Any]]:
    for record in _read_labelled(parts):
        totals.images += 1
        yield {"id": totals.images, **{name: value for name, value in record.items() if name != "objects"}}


def _make_annotations(
    parts: Sequence[Path], ids: dict[str, int], totals: Totals, *, as_tracks: bool
) -> Iterator[dict[str, Any]]:
    image = 0
    for part in parts:
        first_track = totals.tracks  # tracks are numbered from 1 in every part
        for record in _read_labelled([part]):
            image += 1
            for label in record["objects"]:
                track = first_track + label["track"] if "track" in label else None
                totals.tracks = max(totals.tracks, track or 0)
                if track is not None or not as_tracks:
                    totals.annotations += 1
                    numbers = {"id": totals.annotations, "image_id": image, "category_id": ids[label["label"]]}
                    yield numbers | (_make_rectangle(label, track) if as_tracks else _make_mask(label, track))


def _make_mask(label: dict[str, Any], track: int | None) -> dict[str, Any]:
    fields = {name: label[name] for name in ("segmentation", "bbox", "area")}
    fields |= {"iscrowd": 0, "score": label["score"]}
    return fields if track is None else fields | {"track_id": track, "attributes": {"track_id": track}}


def _make_rectangle(label: dict[str, Any], track: int | None) -> dict[str, Any]:
    fields = {"segmentation": [], "bbox": label["bbox"], "area": label["bbox"][2] * label["bbox"][3], "iscrowd": 0}
    return fields | {"score": label["score"], "attributes": {"track_id": track, "keyframe": True}}


def _read_failures(parts: Sequence[Path], totals: Totals) -> Iterator[dict[str, Any]]:
    for part in parts:
        for record in read_records(part):
            if "reason" in record:
                totals.failures += 1
                yield record


def _read_labelled(parts: Sequence[Path]) -> Iterator[dict[str, Any]]:
    return (record for part in parts for record in read_records(part) if "objects" in record)


def _write_list(file: IO[str], name: str, items: Iterable[dict[str, Any]], end: str = ",\n") -> None:
    """Write a member of the document, an item per line."""
    file.write(f'"{name}": [')
    separator = "\n"
    for item in items:
        file.write(separator + json.dumps(item))
        separator = ",\n"
    file.write(f"\n]{end}")
