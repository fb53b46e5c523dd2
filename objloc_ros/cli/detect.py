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
from objloc_ros.engine.config import PipelineConfig
from objloc_ros.engine.labels import list_labels
from objloc_ros.engine.pipeline import Pipeline, build_pipeline
from objloc_ros.engine.results import HeadResult, Result
from objloc_ros.engine.video_tracker import VideoOptions, VideoTracker
from objloc_ros.errors import InputError
from objloc_ros.io.contact_sheet import fit_image, make_contact_sheet
from objloc_ros.io.media import VideoReader, VideoWriter, is_video, list_sources, read_image, write_image
from objloc_ros.io.sanitize import sanitize_line
from objloc_ros.jobs.shards import take_free_name
from objloc_ros.methods.options import SEGMENTATION
from objloc_ros.types import Detections, Image
from objloc_ros.version import __version__

CELL = (240, 320)
"""Height and width of a picture on the contact sheet, in pixels."""

MAX_ROWS = 60
"""Greatest number of images on the contact sheet: viewers do not open larger ones."""


class MethodOutput:
    """The pictures and records of one method, below one folder.

    Args:
        folder: Where the files go.
        method: The method.
        pipeline: Runs the method.
        config: What the pipeline is made of.
    """

    def __init__(self, folder: Path, method: str, pipeline: Pipeline, config: PipelineConfig) -> None:
        self.folder, self.method = folder, method
        info: dict[str, Any] = {
            "software": f"objloc_ros {__version__}",
            "method": method,
            "backbone": config.name_network(method),
            "short_side": pipeline.short_side(method),
            "options": asdict(pipeline.options[method]),
        }
        if pipeline.ignore:
            info["ignore"] = pipeline.ignore
        if pipeline.labels is not None and method in SEGMENTATION:
            info["labels"] = pipeline.labels.names()
        self.records = CocoRecords(info, list_labels(config, method))

    def draw(self, image: Image, result: HeadResult, file_name: str, **extra: Any) -> Image:
        """Record the detections of an image, and return the image with the result drawn in."""
        self.records.add(file_name, (image.shape[0], image.shape[1]), result.detections, **extra)
        return result.draw(image)

    def write(self, name: str, result: HeadResult, picture: Image) -> None:
        """Write the masks and the picture of an image."""
        for suffix, pixels in result.files().items():
            write_image(self.folder / f"{name}_{suffix}.png", pixels)
        write_image(self.folder / f"{name}_overlay.png", picture)

    def close(self) -> None:
        """Write the records."""
        (self.folder / "detections.json").write_text(json.dumps(self.records.document(), indent=1) + "\n")


class DetectOutputs:
    """The outputs of all methods, each in a folder of its own if there are several, and the contact sheet.

    Args:
        folder: Folder of all files.
        pipeline: Runs the methods.
        config: What the pipeline is made of.
        compare: Whether to draw the contact sheet.
    """

    def __init__(self, folder: Path, pipeline: Pipeline, config: PipelineConfig, *, compare: bool) -> None:
        self.folder, self.compare = folder, compare
        several = len(pipeline.methods) > 1
        self._outputs = [
            MethodOutput(folder / method if several else folder, method, pipeline, config)
            for method in pipeline.methods
        ]
        self._names: set[str] = set()
        self._cells: list[Image] = []
        self._captions: list[str] = []

    @contextmanager
    def open(self) -> Iterator[None]:
        """Make the folders; write records and contact sheet at the end of the block, even of an interrupted run."""
        try:
            for output in self._outputs:
                output.folder.mkdir(parents=True, exist_ok=True)
            try:
                yield
            finally:
                for output in self._outputs:
                    output.close()
                if self._cells:
                    sheet = make_contact_sheet(self._cells, self._captions, columns=len(self._outputs), cell=CELL)
                    write_image(self.folder / "compare.png", sheet)
        except OSError as error:
            raise InputError(f"cannot write to {self.folder}: {error.strerror}") from error

    def write_image(self, path: Path, image: Image, result: Result) -> None:
        """Write the results of an image."""
        name = self._choose_name(path)
        for output in self._outputs:
            own = result[output.method]
            picture = output.draw(image, own, str(path))
            output.write(name, own, picture)
            self._add_to_sheet(path, output.method, own.detections, picture)

    def write_video(
        self, path: Path, fps: float, frames: Iterator[tuple[Image, Result]]
    ) -> Mapping[str, Sequence[int]]:
        """Write the results of a video's frames, the first of which goes to the contact sheet.

        Returns:
            The number of objects in each frame, by method.
        """
        counts: dict[str, list[int]] = {output.method: [] for output in self._outputs}
        target = f"{self._choose_name(path)}_overlay.mp4"
        with ExitStack() as stack:
            writers = [stack.enter_context(VideoWriter(output.folder / target, fps)) for output in self._outputs]
            for number, (image, result) in enumerate(frames):
                for output, writer in zip(self._outputs, writers, strict=True):
                    own = result[output.method]
                    picture = output.draw(image, own, str(path), frame=number)
                    writer.write(picture)
                    counts[output.method].append(len(own.detections))
                    if number == 0:
                        self._add_to_sheet(path, output.method, own.detections, picture)
        return counts

    def fail(self, path: Path, reason: str) -> None:
        """Record a file that could not be used."""
        for output in self._outputs:
            output.records.fail(str(path), reason)

    def document(self) -> dict[str, Any]:
        """Return the records of the only method, or those of each method by its name."""
        documents = {output.method: output.records.document() for output in self._outputs}
        return documents if len(documents) > 1 else next(iter(documents.values()))

    def _choose_name(self, path: Path) -> str:
        """Choose a name for the outputs of a file, numbered where another file has the same."""
        return take_free_name(path.stem, self._names)

    def _add_to_sheet(self, path: Path, method: str, detections: Detections, picture: Image) -> None:
        if self.compare and len(self._cells) < MAX_ROWS * len(self._outputs):
            self._cells.append(fit_image(picture, CELL))
            scores = " ".join(f"{score:.2f}" for score in detections.scores)
            about = ", ".join(dict.fromkeys(detections.labels)) if method in SEGMENTATION else scores
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
    parser.add_argument(
        "--track",
        action="store_true",
        help="in videos, give each object an id that lasts from frame to frame: in the picture, and as track_id in "
        "detections.json",
    )
    parser.add_argument(
        "--compare", action="store_true", help="also draw compare.png, a contact sheet with a column per method"
    )
    parser.add_argument("--json", action="store_true", help="print the content of detections.json, nothing else")


def run(args: argparse.Namespace) -> int:
    """Detect in every input.

    Returns:
        0; 1 if some inputs could not be read.

    Raises:
        InputError: A folder holds nothing to read or the output cannot be written.
        ParameterError: A method is unknown or an option out of range.
        WeightsError: Weights are missing or refused.
    """
    config = parse_pipeline(args)
    files = list_sources(args.inputs)
    pipeline = build_pipeline(config)
    warn_of_unknown_words(pipeline, config.clip)
    outputs = DetectOutputs(args.out, pipeline, config, compare=args.compare)
    detection = DetectRun(pipeline, outputs, temporal=args.temporal, track=args.track, quiet=args.json)
    with detection.outputs.open(), tqdm(total=len(files), unit="frame", disable=None, leave=False) as bar:
        for path in files:
            _try_file(detection, path, bar)
    if args.json:
        print(json.dumps(detection.outputs.document(), indent=1))
    else:
        print(
            f"results in {args.out}"
            + (f"; {detection.failures} of {len(files)} files unusable" if detection.failures else "")
        )
    return int(detection.failures > 0)


@dataclass
class DetectRun:
    """One run of the command.

    Args:
        pipeline: Processes the images.
        outputs: Where results go.
        temporal: Whether discovery methods keep objects from frame to frame of a video.
        track: Whether objects of a video get ids.
        quiet: Whether to print no line per file.
        failures: Number of files that could not be used.
    """

    pipeline: Pipeline
    outputs: DetectOutputs
    temporal: bool = False
    track: bool = False
    quiet: bool = False
    failures: int = 0

    def print_summary(self, path: Path, summaries: dict[str, str]) -> None:
        """Print a line per method above the progress bar."""
        for method, text in summaries.items():
            if not self.quiet:
                tqdm.write(f"{path}: {text}" if len(summaries) == 1 else f"{path}: {method}: {text}")


def _try_file(run: DetectRun, path: Path, bar: tqdm[Any]) -> None:
    """Process one input; report and count one that cannot be used."""
    try:
        if is_video(path):
            _detect_video(run, path, bar)
        else:
            _detect_image(run, path)
            bar.update()
    except InputError as error:
        run.failures += 1
        run.outputs.fail(path, str(error))
        bar.update()
        tqdm.write(sanitize_line(f"objloc: {error}"), file=sys.stderr)


def _detect_image(run: DetectRun, path: Path) -> None:
    image = read_image(path)
    result = run.pipeline.run(image)
    run.outputs.write_image(path, image, result)
    run.print_summary(path, {method: _summarise(result[method]) for method in run.pipeline.methods})


def _detect_video(run: DetectRun, path: Path, bar: tqdm[Any]) -> None:
    reader = VideoReader(path)
    bar.total += max(0, reader.length - 1)
    tracked = run.pipeline.methods if run.track else ()
    tracker = VideoTracker(run.pipeline, options=VideoOptions(temporal=run.temporal), tracked=tracked)

    def results() -> Iterator[tuple[Image, Result]]:
        for image in reader:
            yield image, tracker(image)
            bar.update()

    counts = run.outputs.write_video(path, reader.fps, results())
    run.print_summary(
        path,
        {
            method: f"{_count(len(objects), 'frame')}, {_count(sum(objects), 'object')}"
            for method, objects in counts.items()
        },
    )


def _summarise(result: HeadResult) -> str:
    """Summarise the objects of a method, or the part of the image that each prompt covers."""
    if result.prompts is None:
        scores = " ".join(f"{score:.2f}" for score in result.detections.scores)
        return _count(len(result.detections), "object") + (f" ({scores})" if scores else "")
    shares = ", ".join(f"{prompt} {share:.0%}" for prompt, share in result.shares().items() if share > 0)
    return shares or "none of the prompts"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
