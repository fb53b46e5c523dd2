"""`objloc prelabel`: labels for people to correct, from images, videos and bags, in the formats of their tools."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from objloc_ros.cli.options import Engine, add_engine_options, add_model_options, engine_of, model_of
from objloc_ros.errors import ParameterError
from objloc_ros.jobs.shards import Outcome, Shard, Work, run_here
from objloc_ros.prelabels.coco import Totals, merge
from objloc_ros.prelabels.recording import WritePart, labelled
from objloc_ros.prelabels.sources import BLOCK, SUFFIXES, count_frames, cut, find_sources, twins
from objloc_ros.prelabels.work import Keep, MakePrelabels, Track, claim, place_images


@dataclass(frozen=True)
class MakeExport:
    """Makes the work on a pair of folders, a part's and its images': a recording in a viewer's format.

    Args:
        format: "rerun" or "foxglove".
    """

    format: Literal["rerun", "foxglove"]

    @property
    def suffix(self) -> str:
        """Of the files."""
        return {"rerun": ".rrd", "foxglove": ".mcap"}[self.format]

    def __call__(self) -> Work:
        """Load the library."""
        write: WritePart
        if self.format == "rerun":
            from objloc_ros.prelabels.export_rerun import write
        else:
            from objloc_ros.prelabels.export_foxglove import write

        def work(folders: tuple[Path, Path], target: Path) -> None:
            write(target, labelled(*folders))

        return work

    def shard(self, part: Path, images: Path) -> Shard:
        """The work on one part whose images lie below a folder."""
        return Shard(part.name + self.suffix, (part, images))


EXPORTS = ("coco", "rerun", "foxglove")

COCO = Path("annotations", "instances_default.json")
"""Where CVAT looks for it, below the folder of the results."""

TRACKS = Path("tracks.json")
"""Rectangles of which CVAT makes tracks; its name keeps it apart when CVAT or Datumaro reads the whole folder."""

TRACK: dict[bool | None, Track] = {None: "video", True: "all", False: "none"}
KEEP: dict[bool | None, Keep] = {None: "frames", True: "all", False: "none"}


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
        "images/, rerun/ and foxglove/; the same command goes on where it was interrupted",
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
        help="follow objects from frame to frame, as the nodes do; with images, the images of each folder are the "
        "frames (default: in videos and bags)",
    )
    parser.add_argument(
        "--images",
        action=argparse.BooleanOptionalAction,
        help="write the images to DIR/images, copies of image files, too (default: the frames of videos and bags)",
    )
    parser.add_argument(
        "--image-format", default=SUFFIXES[0], choices=SUFFIXES, help="of written frames (default: %(default)s)"
    )
    parser.add_argument(
        "--block", type=int, default=BLOCK, metavar="N", help="images per piece of work (default: %(default)s)"
    )
    parser.add_argument("--threads", type=int, default=1, help="per piece of work (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print a summary as JSON, nothing else")
    add_engine_options(parser)
    add_model_options(parser, several=False)


def run(args: argparse.Namespace) -> int:
    """Pre-label everything; 1 if some of it could not be used.

    Raises:
        InputError: If there is nothing to label, the output cannot be written or the cluster cannot be joined.
        ParameterError: If an option is out of range.
        WeightsError: If weights are missing or refused.
    """
    recordings = [name for name in _exports(args.export) if name != "coco"]
    make, engine, plain_engine = _make(args), engine_of(args), engine_of(args, networks=False)
    if args.block < 1:
        raise ParameterError(f"block must be at least 1 image, got {args.block}")
    sources = find_sources(args.inputs, out=args.out)
    if recordings and make.keep == "none" and (sources.videos or sources.bags):
        raise ParameterError(f"a recording for {' and '.join(recordings)} needs the frames: leave --no-images out")
    shards = cut(sources, block=args.block, sequences=make.track == "all")
    parts = args.out / "parts"
    claim(parts, make, shards)
    outcome = _label(shards, make, parts, engine)
    failed = dict(outcome.failed)
    done = [shard for shard in shards if shard.name not in failed]
    place_images([parts / shard.name for shard in done], args.out / "images")
    totals = _join([parts / shard.name for shard in done], args.out, make)
    for name in recordings:
        failed |= _export(name, done, args.out, plain_engine).failed
    _report(args, totals, failed)
    if same := twins(sources.images):
        told = f"CVAT will refuse images that differ only in their suffixes, as {same[0]} and {same[1]} do"
        print(f"objloc: {told}", file=sys.stderr)
    return int(bool(failed) or totals.failures > 0)


def _exports(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if len(set(names)) != len(names) or any(name not in EXPORTS for name in names):
        raise ParameterError(f"export must be different ones of {', '.join(EXPORTS)}; got {text!r}")
    return names


def _make(args: argparse.Namespace) -> MakePrelabels:
    return MakePrelabels(
        model=model_of(args, several=False),
        topics=tuple(name.strip() for name in args.topics.split(",")) if args.topics else (),
        track=TRACK[args.tracks],
        keep=KEEP[args.images],
        suffix=args.image_format,
        threads=args.threads,
    )


def _label(shards: Sequence[Shard], make: MakePrelabels, parts: Path, engine: Engine) -> Outcome:
    """Label what is left to label, with a bar that counts frames."""
    left = [shard for shard in shards if not (parts / shard.name).exists()]
    counts = {shard.name: count_frames(shard.input, make.topics) for shard in left}
    with tqdm(total=sum(counts.values()), unit="frame", disable=None, leave=False) as bar:
        if engine is run_here:
            return engine(shards, replace(make, on_frame=bar.update), parts)
        return engine(shards, make, parts, on_done=lambda shard: bar.update(counts[shard.name]))


def _join(parts: Sequence[Path], out: Path, make: MakePrelabels) -> Totals:
    """Write the COCO documents; that of the tracks where there are any."""
    info, categories = make.about(), make.categories()
    totals = merge(parts, out / COCO, info=info, categories=categories)
    if totals.tracks:
        merge(parts, out / TRACKS, info=info, categories=categories, as_tracks=True)
    return totals


def _export(name: Any, done: Sequence[Shard], out: Path, engine: Engine) -> Outcome:
    """Write recordings, one per piece of work, with a bar that counts them."""
    make_export, shards = MakeExport(name), []
    for shard in done:
        images = shard.input.root if shard.input.kind == "images" else out / "images"
        shards.append(make_export.shard((out / "parts" / shard.name).resolve(), images.resolve()))
    with tqdm(total=len(shards), desc=name, unit="recording", disable=None, leave=False) as bar:
        return engine(shards, make_export, out / name, on_done=lambda shard: bar.update())


def _report(args: argparse.Namespace, totals: Totals, failed: dict[str, str]) -> None:
    if args.json:
        print(json.dumps({"coco": str(args.out / COCO), **asdict(totals), "failed": failed}, indent=1))
    else:
        tracks = f", {totals.tracks} tracks" if totals.tracks else ""
        unusable = f"; {totals.failures} images unusable" if totals.failures else ""
        print(f"{totals.annotations} objects in {totals.images} images{tracks}: {args.out / COCO}{unusable}")
    for name, reason in failed.items():
        print(f"objloc: {name}: {reason}", file=sys.stderr)
