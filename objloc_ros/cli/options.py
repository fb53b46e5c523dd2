"""Command-line options that several commands share: method and networks, engine, limits.

Those of methods and networks are made from their descriptions, see `objloc_ros.options`.
"""

from __future__ import annotations

import argparse
import functools
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from objloc_ros.engine.config import HEADS, NETWORKS, WEIGHTS, PipelineConfig
from objloc_ros.engine.pipeline import Pipeline
from objloc_ros.errors import ParameterError
from objloc_ros.io.sanitize import sanitize_line
from objloc_ros.jobs.shards import Outcome, Shard, ShardTask, run_here
from objloc_ros.methods.options import SEGMENTATION
from objloc_ros.options import Option, Options, describe
from objloc_ros.types import split_prompts

Parser = argparse.ArgumentParser | argparse._ArgumentGroup
"""What flags are added to."""

PROMPTED_ONLY = ("templates", "clip", "clip_weights", "dinoiser_weights")
"""Options of a pipeline that only methods with prompts read."""


Engine = Callable[..., Outcome]
"""`run_here` or its counterpart on a cluster: (shards, task, folder, on_done=...) -> Outcome."""


def add_options(parser: argparse.ArgumentParser, methods: Mapping[str, type[Options]]) -> None:
    """Add a flag for each option of some methods; one that several methods have becomes one flag, which holds for all.

    Args:
        parser: The sub-command's parser.
        methods: The options dataclass of each method.
    """
    owners: dict[str, dict[str, Option]] = {}
    for method, kind in methods.items():
        for name, option in describe(kind).items():
            owners.setdefault(name, {})[method] = option
    for together in dict.fromkeys(tuple(described) for described in owners.values()):
        group = parser.add_argument_group(f"options of {', '.join(together)}")
        for described in owners.values():
            if tuple(described) == together:
                add_flag(group, described)


def add_flags(parser: Parser, kind: type[Options], *names: str, **defaults: Any) -> None:
    """Add a flag for each option of a dataclass.

    Args:
        parser: A parser or a group of its arguments.
        kind: The dataclass.
        names: Options to take; all where none is named.
        defaults: Those that are others in this command; only for the help.
    """
    described = describe(kind)
    for name in names or described:
        option = described[name]
        add_flag(parser, {"": replace(option, default=defaults.get(name, option.default))})


def collect_options(args: argparse.Namespace, kind: type[Options]) -> dict[str, Any]:
    """Collect the options that were given on the command line; the others keep the dataclass's defaults."""
    values = {name: getattr(args, name, None) for name in describe(kind)}
    return {name: value for name, value in values.items() if value is not None}


def add_flag(parser: Parser, owners: Mapping[str, Option]) -> None:
    """Add the flag of an option; its value is None unless it is given.

    Args:
        parser: A parser or a group of its arguments.
        owners: The option as each method has it, whose default or meaning may differ.
    """
    option = next(iter(owners.values()))
    meaning = _merge({method: option.help.rstrip(".") for method, option in owners.items()}, "; ")
    allowed = "" if option.choices else _merge({method: option.allowed for method, option in owners.items()}, "; ")
    default = _merge({method: _to_words(option) for method, option in owners.items()}, ", ")
    more = f"({allowed}; default: {default})" if allowed else f"(default: {default})"
    text = f"{meaning} {more}".replace("%", "%%")
    flag = "--" + option.name.replace("_", "-")
    if option.kind is bool:
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, help=text)
        return
    choices = tuple(dict.fromkeys(choice for option in owners.values() for choice in option.choices)) or None
    metavar = None if choices else "FILE" if option.kind is Path else option.name.upper()
    parser.add_argument(flag, type=option.kind, choices=choices, metavar=metavar, help=text)


def _merge(texts: Mapping[str, str], separator: str) -> str:
    """Merge the texts of several methods; where they differ, say whose they are."""
    methods: dict[str, list[str]] = {}
    for method, text in texts.items():
        methods.setdefault(text, []).append(method)
    if len(methods) == 1:
        return next(iter(methods))
    return separator.join(f"{text} for {', '.join(names)}" for text, names in methods.items() if text)


def _to_words(option: Option) -> str:
    return option.unset if option.default is None else str(option.default)


def add_pipeline_options(parser: argparse.ArgumentParser, *, several: bool = True, sets: bool = False) -> None:
    """Declare methods, networks and prompts, and the options of all methods.

    Args:
        parser: The sub-command's parser.
        several: Whether `--method` takes more than one; only for its help.
        sets: Whether `--prompts` may be repeated, so that its value is a list.
    """
    named = ("one or more of", ", separated by commas") if several else ("one of", "")
    parser.add_argument(
        "--method",
        default="found",
        metavar="NAMES" if several else "NAME",
        help=f"{named[0]} {', '.join(HEADS)}{named[1]} (default: %(default)s)",
    )
    add_flags(parser, PipelineConfig, *(name for name in NETWORKS if name not in PROMPTED_ONLY))
    add_flags(parser, PipelineConfig, "ignore")
    _add_prompts(parser, sets)
    add_options(parser, HEADS)


def _add_prompts(parser: argparse.ArgumentParser, sets: bool) -> None:
    """Declare the options of methods with prompts."""
    group = parser.add_argument_group(f"prompts, for {', '.join(SEGMENTATION)}")
    group.add_argument(
        "--prompts",
        action="append" if sets else "store",
        metavar="TEXTS",
        help='what to look for, separated by commas: "red car, traffic cone"' + ("; may be repeated" if sets else ""),
    )
    templates = describe(PipelineConfig)["templates"]
    default = " ".join(repr(text) for text in templates.default)
    group.add_argument(
        "--templates", nargs="+", metavar="TEXT", help=f"{templates.help.rstrip('.')} (default: {default})"
    )
    add_flags(group, PipelineConfig, *(name for name in NETWORKS if name in PROMPTED_ONLY))


def parse_pipeline(args: argparse.Namespace, *, several: bool = True) -> PipelineConfig:
    """Parse the configuration of a pipeline.

    Args:
        args: Parsed arguments of a parser that `add_pipeline_options` has seen.
        several: Whether the command runs more than one method.

    Raises:
        ParameterError: A method is unknown, an option is out of range, or prompts are missing or not needed.
    """
    methods = parse_methods(args.method)
    if len(methods) > 1 and not several:
        raise ParameterError(f"method must be one of {', '.join(HEADS)}; got {len(methods)}: {args.method!r}")
    prompts = parse_prompts(args.prompts, methods)
    given = [name for name in PROMPTED_ONLY if getattr(args, name) is not None]
    if given and not any(method in SEGMENTATION for method in methods):
        option = given[0].replace("_", "-")
        raise ParameterError(f"--{option} is for {', '.join(SEGMENTATION)}, not for {', '.join(methods)}")
    return PipelineConfig(
        methods=tuple(methods),
        options=tuple(tuple(collect_options(args, HEADS[method]).items()) for method in methods),
        prompts=tuple(prompts),
        templates=tuple(args.templates or PipelineConfig.templates),
        ignore=args.ignore or "",
        **collect_networks(args),
    )


def collect_networks(args: argparse.Namespace) -> dict[str, Any]:
    """Collect what was given of a pipeline's networks; other processes may have another working directory."""
    given = {name: value for name, value in collect_options(args, PipelineConfig).items() if name in NETWORKS}
    return given | {name: given[name].absolute() for name in WEIGHTS if name in given}


def parse_methods(text: str) -> list[str]:
    """Split `lost,tokencut` and check every name.

    Raises:
        ParameterError: A name is unknown or occurs twice.
    """
    methods = [name.strip() for name in text.split(",")]
    if len(set(methods)) != len(methods) or any(name not in HEADS for name in methods):
        raise ParameterError(f"method must be different ones of {', '.join(HEADS)}; got {text!r}")
    return methods


def parse_prompts(text: str | None, methods: list[str]) -> list[str]:
    """Split `red car, traffic cone`; the pipeline checks the prompts themselves.

    Raises:
        ParameterError: An open-vocabulary method has no prompts, or no method looks for those that were given.
    """
    prompted = [method for method in methods if method in SEGMENTATION]
    if prompted and text is None:
        raise ParameterError(f'{prompted[0]} needs prompts: --prompts "red car, traffic cone"')
    if text is not None and not prompted:
        raise ParameterError(f"prompts are for {', '.join(SEGMENTATION)}, not for {', '.join(methods)}")
    return [] if text is None else split_prompts(text)


def warn_of_unknown_words(pipeline: Pipeline, clip: str) -> None:
    """Warn on stderr of words in the prompts that the text tower does not know."""
    unknown = ", ".join(repr(word) for word in pipeline.unknown_words())
    if unknown:
        from objloc_ros.backbones.clip import find_tower_spec  # torch's, which FOUND alone does without

        print(f"objloc: {clip} does not know {unknown}: {find_tower_spec(clip).unknown}", file=sys.stderr)


def add_engine_options(parser: argparse.ArgumentParser, *, workers: str = "--workers") -> None:
    """Declare where shards are processed.

    Args:
        parser: The sub-command's parser.
        workers: The flag for the number of Ray tasks.
    """
    group = parser.add_argument_group("engine")
    group.add_argument(
        "--engine", choices=("local", "ray"), default="local", help="where to work (default: %(default)s)"
    )
    group.add_argument(
        "--address", metavar="HOST:PORT", help="address of a running Ray cluster (default: start one on this machine)"
    )
    group.add_argument(
        workers,
        dest="ray_tasks",
        type=int,
        metavar="N",
        help="greatest number of Ray tasks at a time (default: as many as fit)",
    )
    group.add_argument("--cpus", type=float, default=1, help="processors per Ray task (default: %(default)g)")
    group.add_argument("--gpus", type=float, default=0, help="GPUs per Ray task, or a part (default: %(default)g)")


def choose_engine(args: argparse.Namespace, *, networks: bool = True) -> Engine:
    """Choose what processes shards: this process or a Ray cluster.

    Args:
        args: Parsed arguments of a parser that `add_engine_options` has seen.
        networks: Whether the task runs networks; if not, it asks for no GPU.

    Raises:
        ParameterError: An option is out of range or for another engine.
    """
    if args.engine == "local" and (args.address is not None or args.ray_tasks is not None):
        raise ParameterError("an address and a number of Ray tasks are for --engine ray")
    if args.ray_tasks is not None and args.ray_tasks < 1:
        raise ParameterError(f"there must be at least 1 Ray task, got {args.ray_tasks}")
    if args.engine == "local":
        return run_here
    from objloc_ros.jobs.ray import Fleet, run_on_ray

    return functools.partial(
        run_on_ray, fleet=Fleet(args.address, args.ray_tasks, args.cpus, args.gpus if networks else 0)
    )


def run_shards(
    args: argparse.Namespace, shards: Sequence[Shard], task: ShardTask, folder: Path, *, unit: str
) -> Outcome:
    """Process what is left of the shards, where the options say, with a bar that counts them.

    Raises:
        ParameterError: An option is out of range or for another engine.
        InputError: The folder cannot be written or the cluster cannot be joined.
    """
    engine = choose_engine(args)
    with tqdm(total=len(shards), unit=unit, disable=None, leave=False) as bar:
        bar.update(sum((folder / shard.name).exists() for shard in shards))
        outcome = engine(shards, task, folder, on_done=lambda shard: bar.update())
    for name, reason in outcome.failed.items():
        print(sanitize_line(f"objloc: {unit} {name} failed: {reason}"), file=sys.stderr)
    return outcome


def parse_limits(texts: Iterable[str]) -> dict[str, float]:
    """Parse limits such as "corloc=0.6".

    Raises:
        ParameterError: A text is of another form or its value is no finite number.
    """
    limits = {}
    for text in texts:
        name, equals, value = text.partition("=")
        try:
            limits[name.strip()] = float(value)
        except ValueError:
            equals = ""
        if not (name.strip() and equals and math.isfinite(limits[name.strip()])):
            raise ParameterError(f"a limit must be of the form metric=number, got {text!r}")
    return limits


def find_failed_limits(metrics: Mapping[str, float], limits: Mapping[str, float]) -> list[str]:
    """Say which metrics are below their limits.

    Raises:
        ParameterError: A limit is for a metric that was not measured.
    """
    unknown = sorted(set(limits) - set(metrics))
    if unknown:
        raise ParameterError(f"there is no metric {', '.join(unknown)}; there are {', '.join(metrics)}")
    return [
        f"{name} is {metrics[name]:.4f}, below {limit:g}" for name, limit in limits.items() if metrics[name] < limit
    ]
