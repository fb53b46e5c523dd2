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
from objloc_ros.cli.model_options import add_model_options, model_of, warn_of_unknown_words
from objloc_ros.engine.discovery import METHODS
from objloc_ros.engine.memory import Memory
from objloc_ros.engine.pipeline import Pipeline
from objloc_ros.engine.results import HeadResult, Result, SemanticResult
from objloc_ros.errors import InputError
from objloc_ros.ops.media import VideoReader, expand, is_video, read_image
from objloc_ros.types import Image


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare inputs, model, output and the options of the methods."""
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="IMAGE", help="image, video, or folder of both (not its sub-folders)"
    )
    add_model_options(parser)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("objloc_out"),
        metavar="DIR",
        help="folder for NAME_overlay.png, NAME_mask.png, NAME_instances.png (16 bits, numbered as the detections), "
        "NAME_labels.png (8 bits, the prompts' ids, 255 unlabelled), for videos NAME_overlay.mp4, and detections.json; "
        "a folder per method where there are several (default: %(default)s)",
    )
    parser.add_argument(
        "--temporal",
        action="store_true",
        help="in videos, let discovery methods keep objects from frame to frame, as the discovery node does",
    )
    parser.add_argument("--compare", action="store_true", help="also draw compare.png, a column per method")
    parser.add_argument("--json", action="store_true", help="print the content of detections.json, nothing else")


def run(args: argparse.Namespace) -> int:
    """Detect in every input; 1 if some of them could not be read.

    Raises:
        InputError: If a folder holds nothing to read or the output cannot be written.
        ParameterError: If a method is unknown or an option out of range.
        WeightsError: If weights are missing or refused.
    """
    model = model_of(args)
    files = expand(args.inputs)
    pipeline = model.load()
    warn_of_unknown_words(pipeline, model)
    job = Job(pipeline, Outputs(args.out, pipeline, compare=args.compare), temporal=args.temporal, quiet=args.json)
    with job.outputs.open(), tqdm(total=len(files), unit="frame", disable=None, leave=False) as bar:
        for path in files:
            _try_file(job, path, bar)
    if args.json:
        print(json.dumps(job.outputs.document(), indent=1))
    else:
        print(f"results in {args.out}" + (f"; {job.failures} of {len(files)} files unusable" if job.failures else ""))
    return int(job.failures > 0)


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
    job.say(path, {method: _said(result[method]) for method in job.pipeline.methods})


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


def _said(found: HeadResult) -> str:
    """The objects of a method, or how much of the image each prompt covers."""
    if not isinstance(found, SemanticResult):
        return _objects(found.detections.scores)
    shares = {prompt: float((found.classes == number).mean()) for number, prompt in found.labels.names().items()}
    listed = ", ".join(f"{prompt} {share:.0%}" for prompt, share in shares.items() if share > 0)
    return listed or "none of the prompts"


def _objects(scores: Any) -> str:
    listed = " ".join(f"{score:.2f}" for score in scores)
    return _count(len(scores), "object") + (f" ({listed})" if listed else "")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
