"""The options of `objloc bag`, and what they ask for."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from objloc_ros.cli.engine_options import add_engine_options
from objloc_ros.cli.evaluate_files import BELOW
from objloc_ros.cli.model_options import add_model_options, model_of, parse_methods
from objloc_ros.engine.segmentation import METHODS as SEGMENTATION
from objloc_ros.errors import ParameterError
from objloc_ros.evaluation.bags.follow import FollowOptions
from objloc_ros.evaluation.bags.lockstep import Lockstep
from objloc_ros.evaluation.bags.runs import PromptSet, number_sets, read_sweep
from objloc_ros.evaluation.bags.truth_source import TruthSpec


def add_arguments(parser: argparse.ArgumentParser) -> None:
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
