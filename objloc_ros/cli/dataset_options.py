"""Which data set, where it is, and how it is to be read: the options of every command about data sets."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from objloc_ros.errors import ParameterError
from objloc_ros.evaluation.datasets import DATASETS, Dataset, open_dataset, options_of
from objloc_ros.evaluation.datasets.coco_json import KINDS
from objloc_ros.evaluation.report.benchmarks import benchmark_of
from objloc_ros.evaluation.run import FILES

Given = tuple[tuple[str, Any], ...]

OPTIONS: Mapping[str, tuple[str, dict[str, Any]]] = {
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
"""The flag of each option of a data set, and what argparse has to know about it."""


def add_dataset(parser: argparse.ArgumentParser, name: str) -> None:
    """Declare the folder and the options of a data set."""
    images = "the folder that file_name is below" if name == "coco_json" else "the folder it was unpacked in"
    parser.add_argument("--root", type=Path, required=True, metavar="DIR", help=images)
    parser.add_argument("--limit", type=int, metavar="N", help="the first images only")
    for option in options_of(name):
        flag, about = OPTIONS[option]
        parser.add_argument(flag, dest=option, **about)
    parser.set_defaults(dataset=name)


def given_dataset(args: argparse.Namespace) -> tuple[Dataset, Given]:
    """Open the data set as the options say.

    Returns:
        All of it, and the options that were given.

    Raises:
        InputError: If the folder has another layout.
        ParameterError: If an option is out of range.
    """
    if args.limit is not None and args.limit < 1:
        raise ParameterError(f"limit must be at least 1, got {args.limit}")
    options = {name: getattr(args, name) for name in options_of(args.dataset) if getattr(args, name)}
    # Other processes may have another working directory.
    options |= {name: str(Path(options[name]).absolute()) for name in FILES if name in options}
    return open_dataset(args.dataset, args.root.absolute(), **options), tuple(options.items())


def note_count(dataset: Dataset) -> None:
    """Say on stderr if a data set has not as many images as the published one."""
    benchmark = benchmark_of(dataset.name, dataset.split)
    if benchmark is not None and benchmark.images not in (None, len(dataset.samples)):
        print(
            f"objloc: {benchmark.title} has {benchmark.images} images, there are {len(dataset.samples)} here",
            file=sys.stderr,
        )


def dataset_parsers(
    kinds: argparse._SubParsersAction[argparse.ArgumentParser], help_text: str
) -> Iterator[argparse.ArgumentParser]:
    """Declare a command for each data set, with its options; yields their parsers."""
    for name in DATASETS:
        parser = kinds.add_parser(name, help=help_text)
        add_dataset(parser, name)
        yield parser
