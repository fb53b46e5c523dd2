"""Command-line options of the commands that read a data set."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from objloc_ros.data import DATASETS, Dataset, list_options, open_dataset
from objloc_ros.data.coco_json import KINDS
from objloc_ros.errors import ParameterError
from objloc_ros.evaluation.report.published import find_benchmark
from objloc_ros.evaluation.run import FILE_OPTIONS

DatasetOptions = tuple[tuple[str, Any], ...]
"""Options of a data set that were given: names and values."""


DATASET_FLAGS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "split": ("--split", {"help": "list of images, such as train, or several: trainval+test (default: the papers')"}),
    "no_hard": ("--no-hard", {"action": "store_true", "help": "leave out difficult and truncated objects"}),
    "chosen": ("--list", {"metavar": "FILE", "help": "the images (default: coco_20k_filenames.txt in DIR)"}),
    "annotations": ("--annotations", {"metavar": "FILE", "required": True, "help": "the COCO document"}),
    "kind": ("--kind", {"choices": KINDS, "help": "what the truth is (default: as the document says, else boxes)"}),
    "convention": (
        "--convention",
        {
            "choices": ("mmseg", "clip_diy"),
            "help": "mmseg: mIoU at full size, absent classes left out; clip_diy: at a shorter side of 448, absent "
            "classes count as 0 (default: the data set's, else that of the method's paper)",
        },
    ),
}
"""The flag of each option of a data set, and its arguments for argparse."""


def add_dataset(parser: argparse.ArgumentParser, name: str) -> None:
    """Declare the folder and the options of a data set."""
    images = "folder below which file_name is" if name == "coco_json" else "folder in which it was unpacked"
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help=images)
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N images")
    for option in list_options(name):
        flag, about = DATASET_FLAGS[option]
        parser.add_argument(flag, dest=option, **about)
    parser.set_defaults(dataset=name)


def parse_dataset(args: argparse.Namespace) -> tuple[Dataset, DatasetOptions]:
    """Open the data set that the options describe.

    Returns:
        The whole data set, and its options that were given.

    Raises:
        InputError: The folder has another layout.
        ParameterError: An option is out of range.
    """
    if args.limit is not None and args.limit < 1:
        raise ParameterError(f"limit must be at least 1, got {args.limit}")
    options = {name: getattr(args, name) for name in list_options(args.dataset) if getattr(args, name)}
    # Other processes may have another working directory.
    options |= {name: str(Path(options[name]).absolute()) for name in FILE_OPTIONS if name in options}
    return open_dataset(args.dataset, args.root.absolute(), **options), tuple(options.items())


def warn_of_count(dataset: Dataset) -> None:
    """Warn on stderr if a data set has another number of images than the published one."""
    benchmark = find_benchmark(dataset.name, dataset.split)
    if benchmark is not None and benchmark.images not in (None, len(dataset.samples)):
        print(
            f"objloc: {benchmark.title} has {benchmark.images} images, there are {len(dataset.samples)} here",
            file=sys.stderr,
        )


def add_dataset_parsers(
    kinds: argparse._SubParsersAction[argparse.ArgumentParser], help_text: str
) -> Iterator[argparse.ArgumentParser]:
    """Declare a command for each data set, with its options; yields their parsers."""
    for name in DATASETS:
        parser = kinds.add_parser(name, help=help_text)
        add_dataset(parser, name)
        yield parser
