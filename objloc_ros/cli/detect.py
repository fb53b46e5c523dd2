"""`objloc detect`: objects in photographs, folders and videos, as pictures and as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from objloc_ros.cli.detect_output import Outputs
from objloc_ros.cli.options import add_options, given_options
from objloc_ros.engine.discovery import METHODS
from objloc_ros.engine.heads import HEADS
from objloc_ros.engine.memory import Memory
from objloc_ros.engine.pipeline import Pipeline, Result, load_pipeline
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.ops.media import VideoReader, expand, is_video, read_image
from objloc_ros.types import Image

OPTIONS = {method: head.options for method, head in HEADS.items()}
"""What `--method` takes, with the options of each."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare inputs, model, output and the options of the methods."""
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="IMAGE", help="image, video, or folder of both (not its sub-folders)"
    )
    parser.add_argument(
        "--method",
        default="found",
        metavar="NAMES",
        help=f"one or more of {', '.join(OPTIONS)}, separated by commas (default: %(default)s)",
    )
    parser.add_argument(
        "--backbone", default="tiny", metavar="NAME", help="see `objloc weights list` (default: %(default)s)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    parser.add_argument(
        "--short-side",
        type=int,
        metavar="PIXELS",
        help="scale images down until their shorter side has this size",
    )
    parser.add_argument("--weights", type=Path, metavar="FILE", help="load the backbone from this file")
    parser.add_argument("--head-weights", type=Path, metavar="FILE", help="load FOUND's head from this file")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("objloc_out"),
        metavar="DIR",
        help="folder for NAME_overlay.png, NAME_mask.png, NAME_instances.png (16 bits, numbered as the detections), "
        "for videos NAME_overlay.mp4, and detections.json; a folder per method where there are several "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--temporal",
        action="store_true",
        help="in videos, let discovery methods keep objects from frame to frame, as the discovery node does",
    )
    parser.add_argument("--compare", action="store_true", help="also draw compare.png, a column per method")
    parser.add_argument("--json", action="store_true", help="print the content of detections.json, nothing else")
    add_options(parser, OPTIONS)


def run(args: argparse.Namespace) -> int:
    """Detect in every input; 1 if some of them could not be read.

    Raises:
        InputError: If a folder holds nothing to read or the output cannot be written.
        ParameterError: If a method is unknown or an option out of range.
        WeightsError: If weights are missing or refused.
    """
    methods = parse_methods(args.method)
    files = expand(args.inputs)
    pipeline = load_pipeline(
        methods,
        args.backbone,
        args.device,
        short_side=args.short_side,
        weights=args.weights,
        head_weights=args.head_weights,
    )
    for method in methods:
        pipeline.configure(method, **given_options(args, OPTIONS[method]))
    job = Job(pipeline, Outputs(args.out, pipeline, compare=args.compare), temporal=args.temporal, quiet=args.json)
    with job.outputs.open(), tqdm(total=len(files), unit="frame", disable=None, leave=False) as bar:
        for path in files:
            _try_file(job, path, bar)
    if args.json:
        print(json.dumps(job.outputs.document(), indent=1))
    else:
        print(f"results in {args.out}" + (f"; {job.failures} of {len(files)} files unusable" if job.failures else ""))
    return int(job.failures > 0)


def parse_methods(text: str) -> list[str]:
    """Split `lost,tokencut` and check every name.

    Raises:
        ParameterError: If a name is unknown or occurs twice.
    """
    methods = [name.strip() for name in text.split(",")]
    if len(set(methods)) != len(methods) or any(name not in OPTIONS for name in methods):
        raise ParameterError(f"method must be different ones of {', '.join(OPTIONS)}; got {text!r}")
    return methods


@dataclass
class Job:
    """One run of the command: what works, where results go, and how many files could not be used."""

    pipeline: Pipeline
    outputs: Outputs
    temporal: bool = False
    quiet: bool = False
    failures: int = 0

    def say(self, path: Path, about: dict[str, str]) -> None:
        """Print a line per method above the progress bar."""
        for method, text in about.items():
            if not self.quiet:
                tqdm.write(f"{path}: {text}" if len(about) == 1 else f"{path}: {method}: {text}")


def _try_file(job: Job, path: Path, bar: tqdm[Any]) -> None:
    """Process one input; one that cannot be used is reported and counted, the others go on."""
    try:
        if is_video(path):
            _detect_video(job, path, bar)
        else:
            _detect_image(job, path)
            bar.update()
    except InputError as error:
        job.failures += 1
        job.outputs.fail(path, str(error))
        bar.update()
        tqdm.write(f"objloc: {error}", file=sys.stderr)


def _detect_image(job: Job, path: Path) -> None:
    image = read_image(path)
    result = job.pipeline.run(image)
    job.outputs.image(path, image, result)
    job.say(path, {method: _objects(result[method].detections.scores) for method in job.pipeline.methods})


def _detect_video(job: Job, path: Path, bar: tqdm[Any]) -> None:
    reader = VideoReader(path)
    bar.total += max(0, reader.length - 1)
    methods = job.pipeline.methods
    memories = {method: Memory() for method in methods if method in METHODS and job.temporal}

    def results() -> Iterator[tuple[Image, Result]]:
        for image in reader:
            yield image, job.pipeline.follow(image, memories, methods)
            bar.update()

    counts = job.outputs.video(path, reader.fps, results())
    job.say(path, {m: f"{_count(len(n), 'frame')}, {_count(sum(n), 'object')}" for m, n in counts.items()})


def _objects(scores: Any) -> str:
    listed = " ".join(f"{score:.2f}" for score in scores)
    return _count(len(scores), "object") + (f" ({listed})" if listed else "")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
