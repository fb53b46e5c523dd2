"""`objloc detect`: objects in photographs, folders and videos, as pictures and as one JSON document."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from objloc_ros import __version__
from objloc_ros.cli.options import add_options, given_options
from objloc_ros.engine.pipeline import Pipeline, load_pipeline
from objloc_ros.errors import InputError
from objloc_ros.evaluation.coco import CocoRecords
from objloc_ros.methods.found import FoundOptions
from objloc_ros.ops.drawing import overlay
from objloc_ros.ops.media import VideoReader, VideoWriter, expand, is_video, read_image, write_image
from objloc_ros.types import Detections, Image

METHODS: dict[str, type] = {"found": FoundOptions}
"""What `--method` takes, with the options of each."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare inputs, model, output and the options of the methods."""
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="IMAGE", help="image, video, or folder of both (not its sub-folders)"
    )
    parser.add_argument("--method", choices=METHODS, default="found", help="(default: %(default)s)")
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
        help="folder for NAME_overlay.png, NAME_mask.png, for videos NAME_overlay.mp4, and detections.json "
        "(default: %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="print the content of detections.json, nothing else")
    for method, options in METHODS.items():
        add_options(parser, options, f"options of {method}")


def run(args: argparse.Namespace) -> int:
    """Detect in every input; 1 if some of them could not be read.

    Raises:
        InputError: If a folder holds nothing to read or the output cannot be written.
        ParameterError: If an option is out of range.
        WeightsError: If weights are missing or refused.
    """
    files = expand(args.inputs)
    pipeline = load_pipeline(
        (args.method,),
        args.backbone,
        args.device,
        short_side=args.short_side,
        weights=args.weights,
        head_weights=args.head_weights,
    )
    pipeline.configure(args.method, **given_options(args, METHODS[args.method]))
    job = Job(pipeline, args.method, args.out, CocoRecords(_info(pipeline, args.method)), quiet=args.json)
    with _output(job), tqdm(total=len(files), unit="frame", disable=None, leave=False) as bar:
        for path in files:
            _try_file(job, path, bar)
    if args.json:
        print(json.dumps(job.records.document(), indent=1))
    else:
        print(f"results in {args.out}" + (f"; {job.failures} of {len(files)} files unusable" if job.failures else ""))
    return int(job.failures > 0)


@dataclass
class Job:
    """One run of the command: what works, where results go, and what has been counted so far."""

    pipeline: Pipeline
    method: str
    out: Path
    records: CocoRecords
    quiet: bool = False
    failures: int = 0
    _names: set[str] = field(default_factory=set)

    def detect(self, image: Image, file_name: str, **extra: Any) -> tuple[Detections, Image, Image]:
        """Run the pipeline on an image, record it, and return detections, mask and overlay."""
        result = self.pipeline.run(image)[self.method]
        mask = result.mask_u8()
        self.records.add(file_name, (image.shape[0], image.shape[1]), result.detections, **extra)
        return result.detections, mask, overlay(image, mask, result.detections)

    def target(self, path: Path) -> str:
        """Choose a name for the outputs of a file, numbered where another file has the same."""
        name, number = path.stem, 1
        while name in self._names:
            number += 1
            name = f"{path.stem}_{number}"
        self._names.add(name)
        return name

    def say(self, line: str) -> None:
        """Print a line of the report above the progress bar."""
        if not self.quiet:
            tqdm.write(line)


@contextmanager
def _output(job: Job) -> Iterator[None]:
    """Make the output folder, and write the records in any case: an interrupted run keeps what it has."""
    try:
        job.out.mkdir(parents=True, exist_ok=True)
        try:
            yield
        finally:
            (job.out / "detections.json").write_text(json.dumps(job.records.document(), indent=1) + "\n")
    except OSError as error:
        raise InputError(f"cannot write to {job.out}: {error.strerror}") from error


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
        job.records.fail(str(path), str(error))
        bar.update()
        tqdm.write(f"objloc: {error}", file=sys.stderr)


def _detect_image(job: Job, path: Path) -> None:
    image = read_image(path)
    found, mask, picture = job.detect(image, str(path))
    name = job.target(path)
    write_image(job.out / f"{name}_mask.png", mask)
    write_image(job.out / f"{name}_overlay.png", picture)
    scores = " ".join(f"{score:.2f}" for score in found.scores)
    job.say(f"{path}: {_count(len(found), 'object')}" + (f" ({scores})" if scores else ""))


def _detect_video(job: Job, path: Path, bar: tqdm[Any]) -> None:
    reader = VideoReader(path)
    bar.total += max(0, reader.length - 1)
    frames = objects = 0
    with VideoWriter(job.out / f"{job.target(path)}_overlay.mp4", reader.fps) as writer:
        for image in reader:
            found, _, picture = job.detect(image, str(path), frame=frames)
            writer.write(picture)
            frames += 1
            objects += len(found)
            bar.update()
    job.say(f"{path}: {_count(frames, 'frame')}, {_count(objects, 'object')}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _info(pipeline: Pipeline, method: str) -> dict[str, Any]:
    return {
        "software": f"objloc_ros {__version__}",
        "method": method,
        "backbone": pipeline.backbone_name,
        "short_side": pipeline.short_side,
        "options": asdict(pipeline.options[method]),
    }
