"""`objloc bag`: methods on every frame of recorded bags, and how good their predictions are."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from objloc_ros.bags.lockstep import Lockstep
from objloc_ros.bags.reader import list_storage_files
from objloc_ros.bags.realtime import Realtime
from objloc_ros.bags.score import find_broken_limits, format_table
from objloc_ros.bags.settings import DISCOVERY_VIDEO, PromptSet, number_sets, read_sweep
from objloc_ros.bags.survey import count_images
from objloc_ros.bags.truth_sources import TruthSpec
from objloc_ros.cli.evaluate_files import BELOW
from objloc_ros.cli.missing import RUN_LENGTHS, require
from objloc_ros.cli.options import (
    add_engine_options,
    add_flags,
    add_pipeline_options,
    collect_options,
    parse_limits,
    parse_methods,
    parse_pipeline,
    run_shards,
)
from objloc_ros.engine.video_tracker import VideoOptions
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.evaluation.run import claim
from objloc_ros.io.files import read_json, write_json
from objloc_ros.io.sanitize import sanitize_line
from objloc_ros.jobs.shards import Outcome, Shard, take_free_name
from objloc_ros.methods.options import SEGMENTATION

SOURCES = ".source.json"
"""In the folder of a run: which bags its results are of."""

PACES = ("lockstep", "realtime")
BOTH = "both"


@dataclass(frozen=True)
class BagTask:
    """Processes a bag at one pace or several, one after the other: the `ShardTask` of a bag.

    Args:
        paces: How the bag is processed at each pace.
    """

    paces: tuple[Lockstep | Realtime, ...]

    def settings(self) -> dict[str, Any]:
        """What the results depend on, as JSON values, by pace."""
        return {pace.pace: pace.settings() for pace in self.paces}

    def with_progress(self, on_frame: Callable[[], Any]) -> BagTask:
        """Make an equal task that calls `on_frame` after each frame."""
        return BagTask(tuple(replace(pace, on_frame=on_frame) for pace in self.paces))

    def load(self) -> list[Any]:
        """Load what each pace needs."""
        return [pace.load() for pace in self.paces]

    def run(self, loaded: Sequence[Any], path: Path, target: Path) -> None:
        """Process a bag and write its results into a folder."""
        for pace, own in zip(self.paces, loaded, strict=True):
            pace.run(own, path, target)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare all options."""
    _add_bag_options(parser)
    group = parser.add_argument_group("pace")
    group.add_argument(
        "--pace",
        choices=(*PACES, BOTH),
        default="lockstep",
        help="lockstep: process every frame, however long it takes; realtime: play the bag to the nodes, processes "
        "of their own; both: one after the other, reported apart (default: %(default)s)",
    )
    group.add_argument("--rate", type=float, metavar="N", help="speed of playback, times real time (default: 1)")
    group.add_argument(
        "--late-ms", type=float, metavar="MS", help="an older prediction counts as late (default: the camera's period)"
    )


def _add_bag_options(parser: argparse.ArgumentParser) -> None:
    """Declare bags, outputs, truth, limits, and the methods."""
    parser.add_argument(
        "bags",
        nargs="+",
        type=Path,
        metavar="BAG",
        help="folder of a bag, or its .mcap or .db3 file; only read",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("objloc_bag"),
        metavar="DIR",
        help="folder with one for each bag: lockstep.json, timing.json, outputs (a bag), overlay_NODE.mp4, and in real "
        "time realtime.json and a folder of the same; the same command continues an interrupted run (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--topics",
        nargs="+",
        default=[],
        metavar="TOPIC",
        help="images to read (default: all cameras of each bag)",
    )
    parser.add_argument("--overlay", action="store_true", help="also draw the predictions, as a topic and as videos")
    parser.add_argument("--no-outputs", action="store_true", help="write only the report, not the predictions")
    parser.add_argument("--threads", type=int, default=1, help="threads per bag, in lockstep (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the reports instead of the table")
    _add_truth(parser)
    _add_limits(parser)
    group = parser.add_argument_group("options of the discovery methods over time, as of the discovery node")
    add_flags(group, VideoOptions, max_objects=DISCOVERY_VIDEO.max_objects)
    add_engine_options(parser)
    add_pipeline_options(parser, sets=True)
    parser.add_argument(
        "--sweep",
        type=Path,
        metavar="FILE",
        help="sets of prompts to try, each a row of the results: lines of `name: text, text`, or YAML",
    )


def _add_truth(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("truth")
    group.add_argument(
        "--truth",
        nargs="+",
        default=[],
        metavar="[CAMERA=]TOPIC",
        help="Detection2DArray or masks in the bag (0 is background, other values are objects, 255 in 8 bits is any "
        "object)",
    )
    group.add_argument(
        "--ground-truth",
        type=Path,
        metavar="FILE",
        help="COCO document whose images have a stamp_ns, or a file name that is the stamp in nanoseconds",
    )
    group.add_argument(
        "--truth-labels",
        metavar="NAMES",
        help="the masks hold classes: names of the values 0, 1, ... separated by commas; 255 does not count (default: "
        "the names of a LabelInfo beside the masks, if there is one)",
    )
    group.add_argument(
        "--slop-ms",
        type=float,
        default=0.0,
        help="greatest difference of stamps (default: %(default)s, equal stamps)",
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("limits")
    for name, word in (("under", "below"), ("over", "above")):
        group.add_argument(
            f"--fail-{name}",
            action="append",
            default=[],
            metavar="METRIC=NUMBER",
            help=f"exit with status {BELOW} if the metric is {word} the number on any camera; may be repeated",
        )


def run(args: argparse.Namespace) -> int:
    """Process what is left of the bags, print the results of all of them, and compare these with the limits.

    Returns:
        0; 1 if some bags could not be used; 4 if a metric is beyond its limit.

    Raises:
        InputError: No bag could be used, or the output cannot be written.
        ParameterError: An option is out of range, or the folder is that of another run.
        WeightsError: Weights are missing or refused.
    """
    if args.truth or args.ground_truth is not None:
        require(RUN_LENGTHS)
    least, most = parse_limits(args.fail_under), parse_limits(args.fail_over)
    task, truth = parse_task(args), parse_truth(args).file
    shards = make_shards(args.bags, args.out)
    outputs = {"outputs": not args.no_outputs, "overlay": args.overlay, "ground_truth": truth and _identify(truth)}
    claim(args.out, task.settings() | outputs)
    _claim_bags(args.out, shards)
    outcome = _process(args, task, shards)
    folders = [args.out / shard.name for shard in shards if shard.name not in outcome.failed]
    if not folders:
        raise InputError(f"none of {len(shards)} bags could be used")
    by_pace = {pace.pace: [read_json(folder / pace.report_name) for folder in folders] for pace in task.paces}
    reports = [report for pace_reports in by_pace.values() for report in pace_reports]
    tables = "\n\n".join(f"{pace}\n{format_table(pace_reports)}" for pace, pace_reports in by_pace.items())
    print(json.dumps(reports, indent=1) if args.json else f"{tables}\n\nreports in {args.out}")
    broken = find_broken_limits(reports, least, most)
    for text in broken:
        print(sanitize_line(f"objloc: {text}"), file=sys.stderr)
    return BELOW if broken else int(bool(outcome.failed))


def parse_task(args: argparse.Namespace) -> BagTask:
    """Parse how bags are processed.

    Raises:
        InputError: The sweep cannot be read.
        ParameterError: An option is out of range or contradicts another.
    """
    for option, value in (("rate", args.rate), ("late-ms", args.late_ms)):
        if args.pace == "lockstep" and value is not None:
            raise ParameterError(f"--{option} is for --pace realtime: in lockstep every frame takes its time")
    if args.pace != "lockstep" and args.engine != "local":
        raise ParameterError("real time needs a machine that does nothing else: it is for --engine local")
    common = _parse_common(args)
    paces: list[Lockstep | Realtime] = []
    if args.pace != "realtime":
        paces.append(Lockstep(**common, threads=args.threads))
    if args.pace != "lockstep":
        paces.append(Realtime(**common, rate=1.0 if args.rate is None else args.rate, late_ms=args.late_ms))
    return BagTask(tuple(paces))


def _parse_common(args: argparse.Namespace) -> dict[str, Any]:
    """Parse what lockstep and real time have in common: the arguments of `BagSettings`.

    Raises:
        InputError: The sweep cannot be read.
        ParameterError: An option is out of range or contradicts another.
    """
    sets, args = _parse_sets(args), argparse.Namespace(**vars(args))
    args.prompts = ",".join(sets[0].prompts) if sets else None  # for the check whether the methods need prompts
    video = replace(DISCOVERY_VIDEO, **collect_options(args, VideoOptions))
    if args.n_masks is None:
        args.n_masks = video.max_objects
    return {
        "config": parse_pipeline(args),
        "sets": tuple(sets),
        "topics": tuple(args.topics),
        "truth": parse_truth(args),
        "video": video,
        "outputs": not args.no_outputs,
        "overlay": args.overlay,
    }


def parse_truth(args: argparse.Namespace) -> TruthSpec:
    """Parse where the truth is.

    Raises:
        ParameterError: Options contradict each other.
    """
    pairs = [text.rpartition("=")[::2] for text in args.truth]
    labels = [name.strip() for name in (args.truth_labels or "").split(",")] if args.truth_labels else []
    if labels and not args.truth:
        raise ParameterError("--truth-labels names the values of the masks of --truth, which is missing")
    if not math.isfinite(args.slop_ms * 1e6):
        raise ParameterError(f"--slop-ms must be a finite number, got {args.slop_ms}")
    file = None if args.ground_truth is None else args.ground_truth.absolute()
    return TruthSpec(tuple(pairs), file, tuple(labels), round(args.slop_ms * 1e6))


def _parse_sets(args: argparse.Namespace) -> list[PromptSet]:
    if args.sweep is not None and args.prompts:
        raise ParameterError("prompts come from --prompts or from --sweep, not from both")
    if args.sweep is not None:
        if not any(method in SEGMENTATION for method in parse_methods(args.method)):
            raise ParameterError(f"--sweep is for {', '.join(SEGMENTATION)}, not for {args.method}")
        return read_sweep(args.sweep)
    return number_sets([PromptSet.parse(text) for text in args.prompts]) if args.prompts else []


def make_shards(bags: Sequence[Path], out: Path) -> list[Shard]:
    """Make a shard per bag, named after it; bags of one name are numbered.

    Raises:
        InputError: A bag lies in the folder of the results.
    """
    names: set[str] = set()
    shards = []
    for given in bags:
        path = given.resolve()
        if path.is_relative_to(out.resolve()):
            raise InputError(f"the bag {given} lies in {out}, where results go: choose another folder for them")
        shards.append(Shard(take_free_name(path.name.lstrip(".") or "bag", names), path))
    return shards


def _claim_bags(out: Path, shards: Sequence[Shard]) -> None:
    """Write down which bags the results are of, so that a bag that has changed does not count as done.

    Raises:
        ParameterError: There are results of another bag of that name, or of this one before it was changed.
    """
    file = out / SOURCES
    before: dict[str, Any] = read_json(file) if file.exists() else {}
    now = {shard.name: _identify(shard.input) for shard in shards}
    for name, identity in now.items():
        if before.get(name, identity) != identity and (out / name).exists():
            raise ParameterError(f"{out / name} holds results of {before[name]}, not of {identity}: remove it first")
    write_json(file, before | now)


def _identify(path: Path) -> dict[str, Any]:
    """Return what tells a bag or a file of truth from others, and from itself before a change, as JSON values."""
    statuses = [file.stat() for file in (list_storage_files(path) if path.exists() else []) if file.is_file()]
    return {
        "path": str(path),
        "bytes": sum(status.st_size for status in statuses),
        "changed_ns": max((status.st_mtime_ns for status in statuses), default=0),
    }


def _process(args: argparse.Namespace, task: BagTask, shards: Sequence[Shard]) -> Outcome:
    """Process the bags, with a bar that counts frames where this process does the work."""
    if args.engine != "local":  # the longest bag first, so that none is left for the end
        shards = sorted(shards, key=lambda shard: -_identify(shard.input)["bytes"])
        return run_shards(args, shards, task, args.out, unit="bag")
    left = [shard.input for shard in shards if not (args.out / shard.name).exists()]
    total = len(task.paces) * sum(_count_frames(path, args) for path in left)
    with tqdm(total=total, unit="frame", disable=None, leave=False, position=1) as bar:
        return run_shards(args, shards, task.with_progress(bar.update), args.out, unit="bag")


def _count_frames(path: Path, args: argparse.Namespace) -> int:
    """Count the frames of a bag as it announces them; 0 where it cannot be read, which the task will report."""
    try:
        return count_images(path, args.topics or None, parse_truth(args).topic_names)
    except InputError:
        return 0
