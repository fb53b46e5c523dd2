"""`objloc prelabel`: labels of images, videos and bags for people to correct, in the formats of their tools."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from tqdm import tqdm

from objloc_ros.cli.options import Engine, add_engine_options, add_pipeline_options, choose_engine, parse_pipeline
from objloc_ros.data.coco_document import PRELABELS
from objloc_ros.errors import ParameterError
from objloc_ros.io.sanitize import sanitize_line
from objloc_ros.jobs.shards import Outcome, Shard, run_here
from objloc_ros.prelabels.coco import Totals, write_coco
from objloc_ros.prelabels.sources import BLOCK_IMAGES, SUFFIXES, count_frames, find_sources, find_twins, make_pieces
from objloc_ros.prelabels.work import (
    EXPORT_SUFFIXES,
    ExportFormat,
    ExportTask,
    KeepImages,
    LabelTask,
    TrackObjects,
    claim_parts,
    move_images,
)

EXPORTS = ("coco", *EXPORT_SUFFIXES)

TRACKS = Path("tracks.json")
"""Rectangles of which CVAT makes tracks; its name keeps it apart when CVAT or Datumaro reads the whole folder."""

TRACK: dict[bool | None, TrackObjects] = {None: "video", True: "all", False: "none"}
"""Values of --tracks."""

KEEP: dict[bool | None, KeepImages] = {None: "frames", True: "all", False: "none"}
"""Values of --images."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare inputs, outputs and what looks at the images."""
    parser.add_argument(
        "inputs", nargs="+", type=Path, metavar="INPUT", help="bag, video, image, or folder of them and of folders"
    )
    parser.add_argument(
        "--out",
        type=Path,
        required=True,
        metavar="DIR",
        help="folder for annotations/instances_default.json, tracks.json (rectangles that CVAT makes tracks of), "
        "images/, rerun/ and foxglove/; the same command continues an interrupted run",
    )
    parser.add_argument(
        "--export",
        default="coco",
        metavar="FORMATS",
        help=f"one or more of {', '.join(EXPORTS)}, separated by commas; coco is always written (default: %(default)s)",
    )
    parser.add_argument(
        "--topics", metavar="NAMES", help="image topics of bags, separated by commas (default: all cameras)"
    )
    parser.add_argument(
        "--tracks",
        action=argparse.BooleanOptionalAction,
        help="track objects from frame to frame, as the nodes do; with image files, those of each folder are the "
        "frames (default: in videos and bags)",
    )
    parser.add_argument(
        "--images",
        action=argparse.BooleanOptionalAction,
        help="write all images to DIR/images, image files as copies (default: the frames of videos and bags)",
    )
    parser.add_argument(
        "--image-format", default=SUFFIXES[0], choices=SUFFIXES, help="format of written frames (default: %(default)s)"
    )
    parser.add_argument(
        "--block", type=int, default=BLOCK_IMAGES, metavar="N", help="images per piece of work (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=1, help="threads per piece of work (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print a summary as JSON, nothing else")
    add_engine_options(parser)
    add_pipeline_options(parser, several=False)


def run(args: argparse.Namespace) -> int:
    """Pre-label all inputs.

    Returns:
        0; 1 if some of them could not be used.

    Raises:
        InputError: There is nothing to label, the output cannot be written or the cluster cannot be joined.
        ParameterError: An option is out of range.
        WeightsError: Weights are missing or refused.
    """
    recordings = _parse_exports(args.export)
    task, engine, plain_engine = _parse_task(args), choose_engine(args), choose_engine(args, networks=False)
    if args.block < 1:
        raise ParameterError(f"block must be at least 1 image, got {args.block}")
    sources = find_sources(args.inputs, out=args.out)
    if recordings and task.keep == "none" and (sources.videos or sources.bags):
        raise ParameterError(f"a recording for {' and '.join(recordings)} needs the frames: leave --no-images out")
    shards = make_pieces(sources, block=args.block, sequences=task.track == "all")
    totals, failed = label_pieces(shards, task, args.out, engine)
    done = [shard for shard in shards if shard.name not in failed]
    for name in recordings:
        failed |= _export(name, done, args.out, plain_engine).failed
    _print_summary(args, totals, failed)
    if twins := find_twins(sources.images):
        warning = f"CVAT will refuse images that differ only in their suffixes, as {twins[0]} and {twins[1]} do"
        print(sanitize_line(f"objloc: {warning}"), file=sys.stderr)
    return int(bool(failed) or totals.failures > 0)


def label_pieces(shards: Sequence[Shard], task: LabelTask, out: Path, engine: Engine) -> tuple[Totals, dict[str, str]]:
    """Label what is left to label, and write the COCO document and the frames.

    Args:
        shards: All pieces, see `make_pieces`.
        task: What labels them.
        out: Folder of the results.
        engine: Where to work.

    Returns:
        What the document contains, and the reason for each piece that failed.

    Raises:
        InputError: The output cannot be written, or holds labels that were made otherwise.
        WeightsError: Weights are missing or refused.
    """
    parts = out / "parts"
    claim_parts(parts, task, shards)
    outcome = _label(shards, task, parts, engine)
    done = [parts / shard.name for shard in shards if shard.name not in outcome.failed]
    move_images(done, out / "images")
    return _write_coco(done, out, task), dict(outcome.failed)


def _parse_exports(text: str) -> list[ExportFormat]:
    """Parse the formats of --export beside COCO, which is always written."""
    names = [name.strip() for name in text.split(",")]
    if len(set(names)) != len(names) or any(name not in EXPORTS for name in names):
        raise ParameterError(f"export must be different ones of {', '.join(EXPORTS)}; got {text!r}")
    return [name for name in EXPORT_SUFFIXES if name in names]


def _parse_task(args: argparse.Namespace) -> LabelTask:
    return LabelTask(
        config=parse_pipeline(args, several=False),
        topics=tuple(name.strip() for name in args.topics.split(",")) if args.topics else (),
        track=TRACK[args.tracks],
        keep=KEEP[args.images],
        suffix=args.image_format,
        threads=args.threads,
    )


def _label(shards: Sequence[Shard], task: LabelTask, parts: Path, engine: Engine) -> Outcome:
    """Label what is left to label, with a bar that counts frames."""
    left = [shard for shard in shards if not (parts / shard.name).exists()]
    counts = {shard.name: count_frames(shard.input, task.topics) for shard in left}
    with tqdm(total=sum(counts.values()), unit="frame", disable=None, leave=False) as bar:
        if engine is run_here:
            return engine(shards, replace(task, on_frame=bar.update), parts)
        return engine(shards, task, parts, on_done=lambda shard: bar.update(counts[shard.name]))


def _write_coco(parts: Sequence[Path], out: Path, task: LabelTask) -> Totals:
    """Write the COCO document, and that of the tracks if there are any."""
    info, categories = task.settings(), task.categories
    totals = write_coco(parts, out / PRELABELS, info=info, categories=categories)
    if totals.tracks:
        write_coco(parts, out / TRACKS, info=info, categories=categories, as_tracks=True)
    return totals


def _export(name: ExportFormat, done: Sequence[Shard], out: Path, engine: Engine) -> Outcome:
    """Write a recording per piece of work, with a bar that counts them."""
    task, shards = ExportTask(name), []
    for shard in done:
        images = shard.input.root if shard.input.kind == "images" else out / "images"
        shards.append(task.make_shard((out / "parts" / shard.name).resolve(), images.resolve()))
    with tqdm(total=len(shards), desc=name, unit="recording", disable=None, leave=False) as bar:
        return engine(shards, task, out / name, on_done=lambda shard: bar.update())


def _print_summary(args: argparse.Namespace, totals: Totals, failed: dict[str, str]) -> None:
    if args.json:
        print(json.dumps({"coco": str(args.out / PRELABELS), **asdict(totals), "failed": failed}, indent=1))
    else:
        tracks = f", {totals.tracks} tracks" if totals.tracks else ""
        unusable = f"; {totals.failures} images unusable" if totals.failures else ""
        print(f"{totals.annotations} objects in {totals.images} images{tracks}: {args.out / PRELABELS}{unusable}")
    for name, reason in failed.items():
        print(sanitize_line(f"objloc: {name}: {reason}"), file=sys.stderr)
