"""`objloc detect`: objects in photographs, folders and videos, as pictures and as JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from objloc_ros.cli.options import add_pipeline_options, parse_pipeline, warn_of_unknown_words
from objloc_ros.data.coco_document import CocoRecords
from objloc_ros.engine.heads.segmentation import METHODS as SEGMENTATION
from objloc_ros.engine.pipeline import Pipeline, build_pipeline
from objloc_ros.engine.results import HeadResult, Result
from objloc_ros.engine.video_tracker import VideoOptions, VideoTracker
from objloc_ros.errors import InputError
from objloc_ros.io.contact_sheet import fit_image, make_contact_sheet
from objloc_ros.io.media import VideoReader, VideoWriter, expand, is_video, read_image, write_image
from objloc_ros.jobs.shards import take_free_name
from objloc_ros.types import Detections, Image
from objloc_ros.version import __version__

CELL = (240, 320)
"""Height and width of a picture on the sheet in pixels."""

MOST_ROWS = 60
"""Images on the sheet; more would make a page that no viewer opens."""


class Output:
    """The pictures and records of one method, below one folder.

    Args:
        folder: Where they go.
        method: The method.
        pipeline: What runs it.
    """

    def __init__(self, folder: Path, method: str, pipeline: Pipeline) -> None:
        self.folder, self.method = folder, method
        info: dict[str, Any] = {
            "software": f"objloc_ros {__version__}",
            "method": method,
            "backbone": pipeline.backbone.name,
            "short_side": pipeline.backbone.short_side,
            "options": asdict(pipeline.options[method]),
        }
        if pipeline.labels is not None and method in SEGMENTATION:
            info["labels"] = pipeline.labels.names()
            self.records = CocoRecords(info, pipeline.labels.prompts)
        else:
            self.records = CocoRecords(info)

    def draw(self, image: Image, found: HeadResult, file_name: str, **extra: Any) -> Image:
        """Record what was found in an image, and return its picture with it drawn in."""
        self.records.add(file_name, (image.shape[0], image.shape[1]), found.detections, **extra)
        return found.draw(image)

    def write(self, name: str, found: HeadResult, picture: Image) -> None:
        """Write the masks and the picture of an image."""
        for suffix, pixels in found.files().items():
            write_image(self.folder / f"{name}_{suffix}.png", pixels)
        write_image(self.folder / f"{name}_overlay.png", picture)

    def close(self) -> None:
        """Write the records."""
        (self.folder / "detections.json").write_text(json.dumps(self.records.document(), indent=1) + "\n")


class Outputs:
    """The outputs of all methods, in folders of their own where there are several, and the sheet.

    Args:
        folder: Below which everything goes.
        pipeline: What runs the methods.
        compare: Whether to draw the sheet.
    """

    def __init__(self, folder: Path, pipeline: Pipeline, *, compare: bool) -> None:
        self.folder, self.compare = folder, compare
        several = len(pipeline.methods) > 1
        self._each = [Output(folder / m if several else folder, m, pipeline) for m in pipeline.methods]
        self._names: set[str] = set()
        self._cells: list[Image] = []
        self._captions: list[str] = []

    @contextmanager
    def open(self) -> Iterator[None]:
        """Make the folders, and write records and sheet in any case: an interrupted run keeps what it has."""
        try:
            for output in self._each:
                output.folder.mkdir(parents=True, exist_ok=True)
            try:
                yield
            finally:
                for output in self._each:
                    output.close()
                if self._cells:
                    sheet = make_contact_sheet(self._cells, self._captions, columns=len(self._each), cell=CELL)
                    write_image(self.folder / "compare.png", sheet)
        except OSError as error:
            raise InputError(f"cannot write to {self.folder}: {error.strerror}") from error

    def image(self, path: Path, image: Image, result: Result) -> None:
        """Take the results of an image."""
        name = self._target(path)
        for output in self._each:
            found = result[output.method]
            picture = output.draw(image, found, str(path))
            output.write(name, found, picture)
            self._compare(path, output.method, found.detections, picture)

    def video(self, path: Path, fps: float, frames: Iterator[tuple[Image, Result]]) -> Mapping[str, Sequence[int]]:
        """Take the results of a video's frames, the first frame for the sheet; returns the objects of each frame."""
        counts: dict[str, list[int]] = {output.method: [] for output in self._each}
        target = f"{self._target(path)}_overlay.mp4"
        with ExitStack() as stack:
            writers = [stack.enter_context(VideoWriter(output.folder / target, fps)) for output in self._each]
            for number, (image, result) in enumerate(frames):
                for output, writer in zip(self._each, writers, strict=True):
                    found = result[output.method]
                    picture = output.draw(image, found, str(path), frame=number)
                    writer.write(picture)
                    counts[output.method].append(len(found.detections))
                    if number == 0:
                        self._compare(path, output.method, found.detections, picture)
        return counts

    def fail(self, path: Path, reason: str) -> None:
        """Record a file that could not be used."""
        for output in self._each:
            output.records.fail(str(path), reason)

    def document(self) -> dict[str, Any]:
        """The records: of the one method, or of each by its name."""
        documents = {output.method: output.records.document() for output in self._each}
        return documents if len(documents) > 1 else next(iter(documents.values()))

    def _target(self, path: Path) -> str:
        """Choose a name for the outputs of a file, numbered where another file has the same."""
        return take_free_name(path.stem, self._names)

    def _compare(self, path: Path, method: str, found: Detections, picture: Image) -> None:
        if self.compare and len(self._cells) < MOST_ROWS * len(self._each):
            self._cells.append(fit_image(picture, CELL))
            scores = " ".join(f"{score:.2f}" for score in found.scores)
            about = ", ".join(dict.fromkeys(found.labels)) if method in SEGMENTATION else scores
            self._captions.append(f"{method}: {about or 'nothing'} ({path.name})")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare inputs, model, output and the options of the methods."""
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="IMAGE", help="image, video, or folder of both (not its sub-folders)"
    )
    add_pipeline_options(parser)
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
    config = parse_pipeline(args)
    files = expand(args.inputs)
    pipeline = build_pipeline(config)
    warn_of_unknown_words(pipeline, config.clip)
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
    tracker = VideoTracker(job.pipeline, options=VideoOptions(temporal=job.temporal), tracked=())

    def results() -> Iterator[tuple[Image, Result]]:
        for image in reader:
            yield image, tracker(image)
            bar.update()

    counts = job.outputs.video(path, reader.fps, results())
    job.say(path, {m: f"{_count(len(n), 'frame')}, {_count(sum(n), 'object')}" for m, n in counts.items()})


def _said(found: HeadResult) -> str:
    """The objects of a method, or how much of the image each prompt covers."""
    if found.prompts is None:
        return _objects(found.detections.scores)
    listed = ", ".join(f"{prompt} {share:.0%}" for prompt, share in found.shares().items() if share > 0)
    return listed or "none of the prompts"


def _objects(scores: Any) -> str:
    listed = " ".join(f"{score:.2f}" for score in scores)
    return _count(len(scores), "object") + (f" ({listed})" if listed else "")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
