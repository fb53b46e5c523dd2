"""`objloc bag`: recorded bags through the methods, and how right the answers are."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from objloc_ros.cli import bag_options
from objloc_ros.cli.bag_modes import BOTH, MODES, InTurn, chosen
from objloc_ros.cli.engine_options import run_shards
from objloc_ros.cli.evaluate_files import BELOW
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.evaluation.bags.reader import storage_files
from objloc_ros.evaluation.bags.report import broken_limits, table
from objloc_ros.evaluation.bags.survey import count_images
from objloc_ros.evaluation.limits import parse_limits
from objloc_ros.evaluation.run import claim
from objloc_ros.evaluation.shards import Outcome, Shard, free_name
from objloc_ros.ops.files import read_json, write_json

NOTE = ".source.json"
"""In the folder of a run, which bags its results are of."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare everything."""
    bag_options.add_arguments(parser)
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
    truth = bag_options.truth_of(args).file
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
        return count_images(path, args.topics or None, bag_options.truth_of(args).names())
    except InputError:
        return 0
