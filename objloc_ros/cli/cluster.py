"""`objloc cluster`: kinds of objects among pre-labels, as labels that a detector with classes is trained on."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from objloc_ros.cli.evaluate_files import format_class_ap
from objloc_ros.cli.fleet import add_fleet_arguments, describe_fleet
from objloc_ros.data.coco_document import PRELABELS, read_predictions
from objloc_ros.errors import ParameterError
from objloc_ros.evaluation.clusters import evaluate_clusters, read_class_truth
from objloc_ros.fleet.clustering import cluster_objects, whiten
from objloc_ros.fleet.documents import name_images, write_objects
from objloc_ros.fleet.objects import Fleet
from objloc_ros.fleet.sheets import make_object_sheet
from objloc_ros.io.files import write_json
from objloc_ros.io.media import write_image
from objloc_ros.io.tables import text_table
from objloc_ros.version import __version__

MAX_SHOWN = 36
"""Objects on the sheet of a cluster: those nearest to its middle."""

SUMMARY = Path("clusters.json")
SHEETS = Path("sheets")

Labels = npt.NDArray[np.int64]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare inputs, the number of clusters and the truth."""
    add_fleet_arguments(parser)
    parser.add_argument("-k", type=int, default=20, metavar="N", help="number of clusters (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the clusters' starts (default: %(default)s)")
    parser.add_argument(
        "--truth",
        type=Path,
        metavar="PATH",
        help="classes that people know, a COCO document or a folder of PASCAL VOC: clusters are assigned to them and "
        "their average precision is measured",
    )


def run(args: argparse.Namespace) -> int:
    """Cluster, and write labels, sheets and figures.

    Returns:
        0; 1 if some images could not be used.

    Raises:
        InputError: Pre-labels or images are missing, there is no object, or the truth is that of other images.
        ParameterError: There are fewer objects than clusters, or another option is out of range.
        WeightsError: Weights are missing or refused.
    """
    if not 0 <= args.seed < 2**32:
        raise ParameterError(f"seed must be 0 to {2**32 - 1}, got {args.seed}")
    fleet, described = describe_fleet(args)
    if not 1 <= args.k <= described.usable.sum():
        raise ParameterError(f"-k must be at least 1 and at most the {described.usable.sum()} objects, got {args.k}")
    truth = None if args.truth is None else read_class_truth(args.truth, name_images(fleet)[1])
    rows = whiten(described.objects[described.usable])
    labels: Labels = np.full(len(fleet.objects), -1, np.int64)
    labels[described.usable] = cluster_objects(described.objects[described.usable], args.k, args.seed)
    names = [f"cluster_{number:02}" for number in range(1, int(labels.max()) + 2)]
    info = {"software": f"objloc_ros {__version__}", "clusters": args.k, "seed": args.seed, "describe": args.describe}
    document = args.out / PRELABELS
    images = write_objects(document, fleet, labels, names, info=info)
    for number, name in enumerate(tqdm(names, unit="sheet", disable=None, leave=False)):
        places = np.flatnonzero(labels == number)
        members = rows[np.searchsorted(np.flatnonzero(described.usable), places)]
        order = np.argsort(((members - members.mean(0)) ** 2).sum(1), kind="stable")[:MAX_SHOWN]
        _write_sheet(args.out / SHEETS / f"{name}.jpg", fleet, places[order])
    summary: dict[str, Any] = {"coco": str(document), "images": str(images), "objects": len(fleet.objects)}
    summary |= {"left_out": int((labels < 0).sum()), "clusters": _count_objects(fleet, labels, names)}
    if truth is not None:
        clusters = dict(enumerate(names, start=1))
        summary["truth"] = evaluate_clusters(truth, read_predictions(document, truth), clusters)
    write_json(args.out / SUMMARY, summary)
    print(json.dumps(summary, indent=1) if args.json else _format_summary(summary, args.out))
    return int(any(described.problems))


def _write_sheet(path: Path, fleet: Fleet, places: npt.NDArray[np.int64]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers = fleet.image_numbers[places].tolist()
    captions = [Path(fleet.images[number].name).name for number in numbers]
    write_image(path, make_object_sheet(fleet, places.tolist(), captions))


def _count_objects(fleet: Fleet, labels: Labels, names: list[str]) -> list[dict[str, Any]]:
    """Count the objects of each cluster, and the recordings that they are from."""
    recordings = np.array([image.recording for image in fleet.images])[fleet.image_numbers]
    return [
        {"name": name, "objects": int(own.sum()), "recordings": len(set(recordings[own].tolist()))}
        for name, own in ((name, labels == number) for number, name in enumerate(names))
    ]


def _format_summary(summary: dict[str, Any], out: Path) -> str:
    rows: list[tuple[object, ...]] = [("cluster", "objects", "recordings")]
    rows += [(about["name"], about["objects"], about["recordings"]) for about in summary["clusters"]]
    lines = [text_table(rows, left=1)]
    if "truth" in summary:
        lines += ["", format_class_ap(summary["truth"])]
    lines += ["", f"{summary['coco']}; sheets of what is in each cluster: {out / SHEETS}"]
    return "\n".join(
        [*lines, f"to train a detector of these: objloc train detector --labels {out} --images {summary['images']}"]
    )
