"""`objloc train found`: FOUND's 1x1 convolution on a frozen backbone, by the paper's recipe or from composed scenes."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from torch import Tensor

from objloc_ros.backbones.specs import SPECS
from objloc_ros.backbones.vit import ViT
from objloc_ros.backbones.weights import load_backbone
from objloc_ros.cli.options import add_flag, add_flags, collect_options
from objloc_ros.cli.training_progress import TrainingProgress
from objloc_ros.engine.backbone import resolve_device
from objloc_ros.errors import ParameterError
from objloc_ros.io.files import write_atomically
from objloc_ros.options import Options, describe
from objloc_ros.scenes.compose import Bank
from objloc_ros.scenes.material import load_material
from objloc_ros.training.found_data import HeadTraining, Item, list_image_files
from objloc_ros.training.found_head import save_head, train_head
from objloc_ros.training.found_scenes import SceneHeadTraining, encode_scenes, fit_head
from objloc_ros.training.views import SceneImages, load_surface_photographs

HEAD_BANK_SEED = 501
"""Seed of the procedural scenes on which heads are trained."""

HEAD_SCENES = 10_000
"""Number of those scenes in the paper's recipe."""

HEAD_BANK = (300, 900)
"""Numbers of their procedural backgrounds and sprites."""

RECIPES: dict[str, type[Options]] = {"paper": HeadTraining, "scenes": SceneHeadTraining}
"""The settings of each recipe."""

SHARED = ("steps", "batch")
"""Settings that both recipes have, with other defaults."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare recipe, networks and settings; what is not given depends on the recipe."""
    parser.add_argument(
        "--recipe",
        choices=list(RECIPES),
        help="paper: discovered backgrounds, then the head's own decisions; scenes: whole objects of composed scenes "
        "(default: scenes for tiny, unless --images are given, and paper for all others)",
    )
    parser.add_argument("--backbone", choices=list(SPECS), default="tiny", help="default: %(default)s")
    parser.add_argument("--weights", type=Path, help="backbone weights (default: the registered ones)")
    parser.add_argument("--images", type=Path, help="folder of images, such as DUTS-TR (default: procedural scenes)")
    parser.add_argument(
        "--material", type=Path, metavar="DIR", help="folder of real cut-outs and grounds to mix into the scenes"
    )
    parser.add_argument("--out", type=Path, default=Path("training/found"), help="folder of checkpoint and weights")
    for name in SHARED:
        add_flag(parser, {f"--recipe {recipe}": describe(kind)[name] for recipe, kind in RECIPES.items()})
    add_flags(parser, HeadTraining, "size", "seed", "bfloat16")
    add_flags(parser, SceneHeadTraining, "scenes")
    parser.add_argument("--workers", type=int, default=2, help="processes that refine masks (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="where the backbone runs (default: %(default)s)")
    parser.set_defaults(train=train)


def train(args: argparse.Namespace) -> None:
    """Train as the command line says.

    Raises:
        ParameterError: An option is out of range, or for another recipe.
    """
    recipe = _choose_recipe(args)
    start = time.monotonic()
    backbone = load_backbone(args.backbone, path=args.weights, device=resolve_device(args.device))
    weight, bias = (_train_on_scenes if recipe == "scenes" else _train_by_paper)(args, backbone)
    weights = args.out / f"{args.backbone}_found_head.safetensors"
    with write_atomically(weights) as scratch:
        save_head(scratch, weight, bias)
    print(f"{weights}: {(time.monotonic() - start) / 60:.0f} minutes in this run")


def _choose_recipe(args: argparse.Namespace) -> str:
    """Return the recipe that was asked for, or the backbone's.

    Raises:
        ParameterError: An option is for the other recipe, or two contradict each other.
    """
    recipe: str = args.recipe or ("scenes" if args.backbone == "tiny" and args.images is None else "paper")
    foreign = {"paper": ("scenes",), "scenes": ("size", "images")}[recipe]
    for name in foreign:
        if getattr(args, name) is not None:
            other = next(known for known in RECIPES if known != recipe)
            raise ParameterError(f"--{name} is for --recipe {other}, got --recipe {recipe}")
    if args.images is not None and args.material is not None:
        raise ParameterError("--material is mixed into scenes, and --images take their place: give one of the two")
    return recipe


def _make_bank(args: argparse.Namespace) -> Bank:
    backgrounds, sprites = HEAD_BANK
    return Bank(
        HEAD_BANK_SEED,
        backgrounds=backgrounds,
        sprites=sprites,
        photographs=load_surface_photographs(),
        material=None if args.material is None else load_material(args.material),
    )


def _train_on_scenes(args: argparse.Namespace, backbone: ViT) -> tuple[Tensor, Tensor]:
    settings = SceneHeadTraining(**collect_options(args, SceneHeadTraining))
    encoded = TrainingProgress(settings.scenes, "scenes")
    views = encode_scenes(backbone, _make_bank(args), settings, lambda done: encoded(done, {}))
    encoded.close()
    progress = TrainingProgress(settings.steps, "steps")
    head = fit_head(views, settings, progress)
    progress.close()
    return head


def _train_by_paper(args: argparse.Namespace, backbone: ViT) -> tuple[Tensor, Tensor]:
    settings = HeadTraining(**collect_options(args, HeadTraining))
    images: Sequence[Item]
    if args.images is None:
        images = SceneImages(_make_bank(args), seed=HEAD_BANK_SEED, count=HEAD_SCENES)
    else:
        images = list_image_files(args.images)
    progress = TrainingProgress(settings.steps, "steps")
    weight, bias, _ = train_head(
        backbone,
        images,
        **asdict(settings),
        workers=args.workers,
        checkpoint=args.out / f"{args.backbone}_found_head.checkpoint",
        on_progress=progress,
    )
    progress.close()
    return weight, bias
