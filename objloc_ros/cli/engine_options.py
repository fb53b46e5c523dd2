"""Where long work is done: in this process, or on a Ray cluster; with a progress bar, and what failed at the end."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tqdm import tqdm

from objloc_ros.errors import ParameterError
from objloc_ros.evaluation.shards import MakeWork, Outcome, Shard, run_here

Engine = Callable[..., Outcome]
"""`run_here`, or what does the same on a cluster: (shards, make_work, folder, on_done=...) -> Outcome."""


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Declare them."""
    group = parser.add_argument_group("engine")
    group.add_argument("--engine", choices=("local", "ray"), default="local", help="(default: %(default)s)")
    group.add_argument(
        "--address", metavar="HOST:PORT", help="of a running Ray cluster; one on this machine by default"
    )
    group.add_argument("--workers", type=int, metavar="N", help="Ray tasks at a time; as many as fit by default")
    group.add_argument("--cpus", type=float, default=1, help="processors per Ray task (default: %(default)g)")
    group.add_argument("--gpus", type=float, default=0, help="GPUs per Ray task, or a part (default: %(default)g)")


def engine_of(args: argparse.Namespace, *, networks: bool = True) -> Engine:
    """What does shards where the options say.

    Args:
        args: Parsed arguments of a parser that `add_engine_options` has seen.
        networks: Whether the work runs some; if not, it asks for no GPU.

    Raises:
        ParameterError: If an option is out of range or for another engine.
    """
    if args.engine == "local" and (args.address is not None or args.workers is not None):
        raise ParameterError("--address and --workers are for --engine ray")
    if args.workers is not None and args.workers < 1:
        raise ParameterError(f"workers must be at least 1, got {args.workers}")
    if args.engine == "local":
        return run_here
    from objloc_ros.evaluation.fleet import Fleet, run_on_ray

    return functools.partial(
        run_on_ray, fleet=Fleet(args.address, args.workers, args.cpus, args.gpus if networks else 0)
    )


def run_shards(
    args: argparse.Namespace, shards: Sequence[Shard], make_work: MakeWork, folder: Path, *, unit: str
) -> Outcome:
    """Do what is left of the shards, where the options say.

    Raises:
        ParameterError: If an option is out of range or for another engine.
        InputError: If the folder cannot be written or the cluster cannot be joined.
    """
    engine = engine_of(args)
    with tqdm(total=len(shards), unit=unit, disable=None, leave=False) as bar:
        bar.update(sum((folder / shard.name).exists() for shard in shards))
        outcome = engine(shards, make_work, folder, on_done=lambda shard: bar.update())
    for name, reason in outcome.failed.items():
        print(f"objloc: {unit} {name} failed: {reason}", file=sys.stderr)
    return outcome
