"""`objloc convert`: any data set as one COCO JSON file, which other tools and `objloc evaluate coco_json` read."""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm import tqdm

from objloc_ros.cli.dataset_options import add_dataset_parsers, parse_dataset, warn_of_count
from objloc_ros.data import to_coco
from objloc_ros.io.files import write_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare a command per data set."""
    for dataset_parser in add_dataset_parsers(
        parser.add_subparsers(metavar="NAME", required=True), "this data set as COCO JSON"
    ):
        dataset_parser.add_argument(
            "--out", type=Path, required=True, metavar="FILE", help="the COCO document to write"
        )


def run(args: argparse.Namespace) -> int:
    """Convert a data set.

    Raises:
        InputError: The data set is incomplete or damaged; nothing is written.
        ParameterError: An option is out of range.
    """
    dataset, _ = parse_dataset(args)
    if args.limit is None:
        warn_of_count(dataset)
    else:
        dataset = dataset.first(args.limit)
    dataset.check()
    with tqdm(total=len(dataset.samples), unit="image", disable=None, leave=False) as bar:
        document = to_coco(dataset, args.root.absolute(), bar.update)
    write_json(args.out, document)
    print(f"{args.out}: {len(document['images'])} images, {len(document['annotations'])} annotations")
    print(f"the images are below {args.root}: objloc evaluate coco_json --root {args.root} --annotations {args.out}")
    return 0
