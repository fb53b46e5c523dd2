"""The options that say what looks at the images: method, networks, prompts, for every command that runs a pipeline."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from objloc_ros.cli.options import add_options, given_options
from objloc_ros.engine.heads import HEADS
from objloc_ros.engine.pipeline import Pipeline
from objloc_ros.engine.prompts import DEFAULT_TEMPLATES
from objloc_ros.engine.segmentation import METHODS as SEGMENTATION
from objloc_ros.errors import ParameterError
from objloc_ros.evaluation.model import Model

CLIP = "tiny_clip"
PROMPTED_ONLY = ("templates", "clip", "clip_weights", "dinoiser_weights")


def add_model_options(parser: argparse.ArgumentParser, *, several: bool = True, sets: bool = False) -> None:
    """Declare them, and the options of all methods.

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
    parser.add_argument(
        "--backbone", default="tiny", metavar="NAME", help="see `objloc weights list` (default: %(default)s)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    parser.add_argument(
        "--short-side",
        type=int,
        metavar="PIXELS",
        help="scale images down until their shorter side has this size",
    )
    parser.add_argument("--weights", type=Path, metavar="FILE", help="load the backbone from this file")
    parser.add_argument("--head-weights", type=Path, metavar="FILE", help="load FOUND's head from this file")
    _add_prompts(parser, sets)
    add_options(parser, HEADS)


def _add_prompts(parser: argparse.ArgumentParser, sets: bool) -> None:
    """Declare what only the open-vocabulary methods read."""
    group = parser.add_argument_group(f"prompts, for {', '.join(SEGMENTATION)}")
    group.add_argument(
        "--prompts",
        action="append" if sets else "store",
        metavar="TEXTS",
        help='what to look for, separated by commas: "red car, traffic cone"' + ("; may be repeated" if sets else ""),
    )
    group.add_argument(
        "--templates",
        nargs="+",
        metavar="TEXT",
        help=f"sentences around a prompt, or imagenet for OpenAI's 80 (default: {' '.join(DEFAULT_TEMPLATES)!r})",
    )
    group.add_argument("--clip", metavar="NAME", help=f"CLIP model (default: {CLIP})")
    group.add_argument("--clip-weights", type=Path, metavar="FILE", help="load the CLIP model from this file")
    group.add_argument("--dinoiser-weights", type=Path, metavar="FILE", help="load CLIP-DINOiser's head from this file")


def model_of(args: argparse.Namespace, *, several: bool = True) -> Model:
    """Collect what was given.

    Args:
        args: Parsed arguments of a parser that `add_model_options` has seen.
        several: Whether the command runs more than one method.

    Raises:
        ParameterError: If a method is unknown, an option out of range, or prompts are missing or not called for.
    """
    methods = parse_methods(args.method)
    given = [name for name in PROMPTED_ONLY if getattr(args, name) is not None]
    if given and not any(method in SEGMENTATION for method in methods):
        option = given[0].replace("_", "-")
        raise ParameterError(f"--{option} is for {', '.join(SEGMENTATION)}, not for {', '.join(methods)}")
    if len(methods) > 1 and not several:
        raise ParameterError(f"method must be one of {', '.join(HEADS)}; got {len(methods)}: {args.method!r}")
    return Model(
        methods=tuple(methods),
        options=tuple(tuple(given_options(args, HEADS[method]).items()) for method in methods),
        backbone=args.backbone,
        device=args.device,
        short_side=args.short_side,
        weights=_absolute(args.weights),
        head_weights=_absolute(args.head_weights),
        prompts=tuple(parse_prompts(args.prompts, methods)),
        templates=tuple(args.templates or DEFAULT_TEMPLATES),
        clip=args.clip or CLIP,
        clip_weights=_absolute(args.clip_weights),
        dinoiser_weights=_absolute(args.dinoiser_weights),
    )


def parse_methods(text: str) -> list[str]:
    """Split `lost,tokencut` and check every name.

    Raises:
        ParameterError: If a name is unknown or occurs twice.
    """
    methods = [name.strip() for name in text.split(",")]
    if len(set(methods)) != len(methods) or any(name not in HEADS for name in methods):
        raise ParameterError(f"method must be different ones of {', '.join(HEADS)}; got {text!r}")
    return methods


def parse_prompts(text: str | None, methods: list[str]) -> list[str]:
    """Split `red car, traffic cone`; what the prompts themselves must be like, the pipeline knows.

    Raises:
        ParameterError: If an open-vocabulary method has no prompts, or no method looks for those that were given.
    """
    prompted = [method for method in methods if method in SEGMENTATION]
    if prompted and text is None:
        raise ParameterError(f'{prompted[0]} needs prompts: --prompts "red car, traffic cone"')
    if text is not None and not prompted:
        raise ParameterError(f"prompts are for {', '.join(SEGMENTATION)}, not for {', '.join(methods)}")
    return [] if text is None else [prompt.strip() for prompt in text.split(",")]


def warn_of_unknown_words(pipeline: Pipeline, model: Model) -> None:
    """Say on stderr which words of the prompts the text tower has never met."""
    unknown = ", ".join(repr(word) for word in pipeline.unknown_words())
    if unknown:
        print(f"objloc: {model.clip} has never met {unknown}: it will guess", file=sys.stderr)


def _absolute(path: Path | None) -> Path | None:
    """Other processes may have another working directory."""
    return None if path is None else path.absolute()
