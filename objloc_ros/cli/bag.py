"""`objloc bag`: recorded bags through the methods, and how right the answers are."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from tqdm import tqdm

from objloc_ros.bags import lockstep, realtime
from objloc_ros.bags.lockstep import Lockstep
from objloc_ros.bags.predictions import FollowOptions
from objloc_ros.bags.reader import storage_files
from objloc_ros.bags.realtime import Realtime
from objloc_ros.bags.score import broken_limits, table
from objloc_ros.bags.settings import PromptSet, number_sets, read_sweep
from objloc_ros.bags.survey import count_images
from objloc_ros.bags.truth_files import TruthSpec
from objloc_ros.cli.evaluate_files import BELOW
from objloc_ros.cli.options import (
    add_engine_options,
    add_model_options,
    model_of,
    parse_limits,
    parse_methods,
    run_shards,
)
from objloc_ros.engine.heads.segmentation import METHODS as SEGMENTATION
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.evaluation.run import claim
from objloc_ros.io.files import read_json, write_json
from objloc_ros.jobs.shards import Outcome, Shard, Work, free_name


def _add_bag_options(parser: argparse.ArgumentParser) -> None:
    """Declare bags, outputs, truth, limits, and what looks at the frames."""
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
        "time realtime.json and a folder of the same; the same command goes on where it was interrupted (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--topics", nargs="+", default=[], metavar="TOPIC", help="images to read (default: all cameras of each bag)"
    )
    parser.add_argument("--overlay", action="store_true", help="also draw the answers, as a topic and as films")
    parser.add_argument("--no-outputs", action="store_true", help="write the report only, not the answers")
    parser.add_argument("--threads", type=int, default=1, help="per bag, in lockstep (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the reports instead of the table")
    _add_truth(parser)
    _add_limits(parser)
    group = parser.add_argument_group("options of the discovery methods over time, as of the discovery node")
    group.add_argument(
        "--temporal",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="keep objects from frame to frame (default: %(default)s)",
    )
    group.add_argument("--max-objects", type=int, default=3, help="in one frame (default: %(default)s)")
    group.add_argument("--min-score", type=float, default=0.0, help="least score (default: %(default)s)")
    add_engine_options(parser)
    add_model_options(parser, sets=True)
    parser.add_argument(
        "--sweep",
        type=Path,
        metavar="FILE",
        help="sets of prompts to try, a row of results for each: lines of `name: text, text`, or YAML",
    )


def _add_truth(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("truth")
    group.add_argument(
        "--truth",
        nargs="+",
        default=[],
        metavar="[CAMERA=]TOPIC",
        help="Detection2DArray or masks in the bag (0 ground, other values objects, 255 in 8 bits just object)",
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
        help="the masks hold classes: names of 0, 1, ... separated by commas, 255 does not count (default: as a "
        "LabelInfo beside the masks says, if there is one)",
    )
    group.add_argument(
        "--slop-ms", type=float, default=0.0, help="greatest difference of stamps (default: %(default)s, the same)"
    )


def _add_limits(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("limits")
    for name, word in (("under", "below"), ("over", "above")):
        group.add_argument(
            f"--fail-{name}",
            action="append",
            default=[],
            metavar="METRIC=NUMBER",
            help=f"exit with status {BELOW} if it is {word} this on any camera; may be repeated",
        )


def lockstep_of(args: argparse.Namespace) -> Lockstep:
    """What the options ask for.

    Raises:
        InputError: The sweep cannot be read.
        ParameterError: An option is out of range or contradicts another.
    """
    return Lockstep(**common_of(args), threads=args.threads)


def common_of(args: argparse.Namespace) -> dict[str, Any]:
    """What the options say of lockstep and real time alike: the arguments of `BagSettings`.

    Raises:
        InputError: The sweep cannot be read.
        ParameterError: An option is out of range or contradicts another.
    """
    sets, args = _sets(args), argparse.Namespace(**vars(args))
    args.prompts = ",".join(sets[0].prompts) if sets else None  # the model's own check: are prompts called for?
    if args.n_masks is None:
        args.n_masks = args.max_objects
    return {
        "model": model_of(args),
        "sets": tuple(sets),
        "topics": tuple(args.topics),
        "truth": truth_of(args),
        "follow": FollowOptions(args.temporal, args.max_objects, args.min_score),
        "outputs": not args.no_outputs,
        "overlay": args.overlay,
    }


def truth_of(args: argparse.Namespace) -> TruthSpec:
    """Where the options say that the truth is.

    Raises:
        ParameterError: They contradict each other.
    """
    pairs = [text.rpartition("=")[::2] for text in args.truth]
    labels = [name.strip() for name in (args.truth_labels or "").split(",")] if args.truth_labels else []
    if labels and not args.truth:
        raise ParameterError("--truth-labels names the values of the masks of --truth, which is missing")
    if not math.isfinite(args.slop_ms * 1e6):
        raise ParameterError(f"--slop-ms must be a finite number, got {args.slop_ms}")
    file = None if args.ground_truth is None else args.ground_truth.absolute()
    return TruthSpec(tuple(pairs), file, tuple(labels), round(args.slop_ms * 1e6))


def _sets(args: argparse.Namespace) -> list[PromptSet]:
    if args.sweep is not None and args.prompts:
        raise ParameterError("prompts come from --prompts or from --sweep, not from both")
    if args.sweep is not None:
        if not any(method in SEGMENTATION for method in parse_methods(args.method)):
            raise ParameterError(f"--sweep is for {', '.join(SEGMENTATION)}, not for {args.method}")
        return read_sweep(args.sweep)
    return number_sets([PromptSet.parse(text) for text in args.prompts]) if args.prompts else []


def realtime_of(args: argparse.Namespace) -> Realtime:
    """What the options ask for.

    Raises:
        InputError: The sweep cannot be read.
        ParameterError: An option is out of range or contradicts another.
    """
    if args.engine != "local":
        raise ParameterError("real time needs a machine that does nothing else: it is for --engine local")
    return Realtime(**common_of(args), rate=1.0 if args.rate is None else args.rate, late_ms=args.late_ms)


class Maker(Protocol):
    """Makes the work of one mode: a frozen dataclass, picklable, with a field `on_frame` that is not compared."""

    def __call__(self) -> Work:
        """The work of a bag: it writes into a folder, which may be there already."""

    def settings(self) -> dict[str, Any]:
        """What the results depend on, as JSON values."""


class Mode(NamedTuple):
    """One way.

    Args:
        make: What the options of the command ask for.
        report: File name of its report, in the folder of a bag's results.
    """

    make: Callable[[argparse.Namespace], Maker]
    report: str


MODES: dict[str, Mode] = {
    "lockstep": Mode(lockstep_of, lockstep.REPORT),
    "realtime": Mode(realtime_of, realtime.REPORT),
}

BOTH = "both"


@dataclass(frozen=True)
class InTurn:
    """Goes through a bag in several ways, one after the other.

    Args:
        makers: Of each way, by its name.
    """

    makers: tuple[tuple[str, Maker], ...]

    def __call__(self) -> Work:
        """Load what each way needs."""
        works = [make() for _, make in self.makers]

        def work(path: Path, target: Path) -> None:
            for one in works:
                one(path, target)

        return work

    def settings(self) -> dict[str, Any]:
        """Those of each way."""
        return {name: make.settings() for name, make in self.makers}

    def with_progress(self, on_frame: Callable[[], Any]) -> InTurn:
        """The same, which tells of each frame."""
        return InTurn(tuple((name, replace(make, on_frame=on_frame)) for name, make in self.makers))  # type: ignore[type-var]


def chosen(args: argparse.Namespace) -> InTurn:
    """The ways that were asked for.

    Raises:
        ParameterError: An option is out of range or contradicts another.
    """
    for option, value in (("rate", args.rate), ("late-ms", args.late_ms)):
        if args.pace == "lockstep" and value is not None:
            raise ParameterError(f"--{option} is for --pace realtime: in lockstep every frame takes its time")
    names = tuple(MODES) if args.pace == BOTH else (args.pace,)
    return InTurn(tuple((name, MODES[name].make(args)) for name in names))


NOTE = ".source.json"
"""In the folder of a run, which bags its results are of."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare everything."""
    _add_bag_options(parser)
    group = parser.add_argument_group("pace")
    group.add_argument(
        "--pace",
        choices=(*MODES, BOTH),
        default="lockstep",
        help="lockstep: every frame, however long each takes; realtime: the bag is played to the nodes, each a process "
        "of its own; both, reported apart (default: %(default)s)",
    )
    group.add_argument("--rate", type=float, metavar="N", help="times real time (default: 1)")
    group.add_argument(
        "--late-ms", type=float, metavar="MS", help="an older answer is late (default: the camera's period)"
    )


def run(args: argparse.Namespace) -> int:
    """Work on what is left of the bags, print what all of them say, and compare it with the limits.

    Returns:
        0; 1 if some bags could not be used; 4 if a metric is beyond its limit.

    Raises:
        InputError: No bag could be used, or the output cannot be written.
        ParameterError: An option is out of range, or the folder is that of another run.
        WeightsError: Weights are missing or refused.
    """
    least, most = parse_limits(args.fail_under), parse_limits(args.fail_over)
    make = chosen(args)
    truth = truth_of(args).file
    shards = shards_of(args.bags, args.out)
    of_run = {"outputs": not args.no_outputs, "overlay": args.overlay, "ground_truth": truth and _identity(truth)}
    claim(args.out, make.settings() | of_run)
    _claim_bags(args.out, shards)
    outcome = _work(args, make, shards)
    folders = [args.out / shard.name for shard in shards if shard.name not in outcome.failed]
    if not folders:
        raise InputError(f"none of {len(shards)} bags could be used")
    by_mode = {mode: [read_json(folder / MODES[mode].report) for folder in folders] for mode, _ in make.makers}
    reports = [one for each in by_mode.values() for one in each]
    tables = "\n\n".join(f"{mode}\n{table(each)}" for mode, each in by_mode.items())
    print(json.dumps(reports, indent=1) if args.json else f"{tables}\n\nreports in {args.out}")
    broken = broken_limits(reports, least, most)
    for text in broken:
        print(f"objloc: {text}", file=sys.stderr)
    return BELOW if broken else int(bool(outcome.failed))


def shards_of(bags: Sequence[Path], out: Path) -> list[Shard]:
    """A piece of work per bag, named after it; bags of one name are numbered.

    Raises:
        InputError: A bag lies in the folder of the results.
    """
    names: set[str] = set()
    shards = []
    for given in bags:
        path = given.resolve()
        if path.is_relative_to(out.resolve()):
            raise InputError(f"the bag {given} lies in {out}, where results go: choose another folder for them")
        shards.append(Shard(free_name(path.name.lstrip(".") or "bag", names), path))
    return shards


def _claim_bags(out: Path, shards: Sequence[Shard]) -> None:
    """Write down which bags the results are of, so that a bag that has changed is not taken for done.

    Raises:
        ParameterError: There are results of another bag of that name, or of this one as it was before.
    """
    note = out / NOTE
    before: dict[str, Any] = read_json(note) if note.exists() else {}
    now = {shard.name: _identity(shard.input) for shard in shards}
    for name, identity in now.items():
        if before.get(name, identity) != identity and (out / name).exists():
            raise ParameterError(f"{out / name} holds results of {before[name]}, not of {identity}: remove it first")
    write_json(note, before | now)


def _identity(path: Path) -> dict[str, Any]:
    """What tells a bag, or a file of truth, from others and from itself before a change, as JSON values."""
    found = [file.stat() for file in (storage_files(path) if path.exists() else []) if file.is_file()]
    return {
        "path": str(path),
        "bytes": sum(each.st_size for each in found),
        "changed_ns": max((each.st_mtime_ns for each in found), default=0),
    }


def _work(args: argparse.Namespace, make: InTurn, shards: Sequence[Shard]) -> Outcome:
    """Do it, with a bar that counts frames where this process does the work."""
    if args.engine != "local":  # the longest first, so that none is left for the end
        shards = sorted(shards, key=lambda shard: -_identity(shard.input)["bytes"])
        return run_shards(args, shards, make, args.out, unit="bag")
    left = [shard.input for shard in shards if not (args.out / shard.name).exists()]
    total = len(make.makers) * sum(_count(path, args) for path in left)
    with tqdm(total=total, unit="frame", disable=None, leave=False, position=1) as bar:
        return run_shards(args, shards, make.with_progress(bar.update), args.out, unit="bag")


def _count(path: Path, args: argparse.Namespace) -> int:
    """Frames of a bag as it announces them; 0 where it cannot be read, which the work will say."""
    try:
        return count_images(path, args.topics or None, truth_of(args).names())
    except InputError:
        return 0
