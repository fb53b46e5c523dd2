"""`objloc train selfmask`: SelfMask from the labels of other methods, such as the vote, or of people."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict, replace
from pathlib import Path

from objloc_ros.backbones.specs import SPECS
from objloc_ros.backbones.weights import load_backbone
from objloc_ros.cli.options import add_flag, add_flags, collect_options
from objloc_ros.cli.train_labels import (
    add_label_arguments,
    check_label_arguments,
    describe_labels,
    prepare_images,
    prepare_labels,
    tell_labels,
)
from objloc_ros.cli.training_progress import TrainingProgress
from objloc_ros.engine.backbone import resolve_device
from objloc_ros.errors import ParameterError
from objloc_ros.io.files import write_atomically
from objloc_ros.methods.selfmask import ENCODER, save_selfmask
from objloc_ros.options import describe
from objloc_ros.training.selfmask import train_selfmask
from objloc_ros.training.selfmask_data import TINY, SelfMaskTraining

DIFFERENT = tuple(name for name, value in asdict(TINY).items() if value != getattr(SelfMaskTraining(), name))
"""Settings that the embedded backbone has others of."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare labels, networks and settings; what is not given depends on the backbone."""
    add_label_arguments(parser)
    parser.add_argument(
        "--backbone",
        choices=list(SPECS),
        default="tiny",
        help=f"whose weights the encoder begins with; the paper's is {ENCODER} (default: %(default)s)",
    )
    parser.add_argument("--weights", type=Path, help="backbone weights (default: the registered ones)")
    parser.add_argument("--out", type=Path, default=Path("training/selfmask"), help="folder of checkpoint and weights")
    for name in DIFFERENT:
        option = describe(SelfMaskTraining)[name]
        add_flag(parser, {"tiny": replace(option, default=getattr(TINY, name)), "other backbones": option})
    add_flags(parser, SelfMaskTraining, *(name for name in describe(SelfMaskTraining) if name not in DIFFERENT))
    parser.add_argument("--workers", type=int, default=2, help="threads that prepare images (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="where everything runs (default: %(default)s)")
    parser.set_defaults(train=train)


def train(args: argparse.Namespace) -> None:
    """Train as the command line says.

    Raises:
        ParameterError: torchrun has started several processes, or an option is out of range.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ParameterError("objloc train selfmask trains in one process: start it without torchrun")
    settings = TINY if args.backbone == "tiny" else SelfMaskTraining()
    settings = replace(settings, **collect_options(args, SelfMaskTraining))
    check_label_arguments(args)
    backbone = load_backbone(args.backbone, path=args.weights, device=resolve_device(args.device))
    labels = prepare_labels(args, prepare_images(args))
    tell_labels(labels)
    progress = TrainingProgress(settings.steps, "steps")
    model, _ = train_selfmask(
        backbone,
        labels,
        settings,
        checkpoint=args.out / f"{args.backbone}_selfmask.checkpoint",
        workers=args.workers,
        on_progress=progress,
    )
    progress.close()
    weights = args.out / f"{args.backbone}_selfmask.safetensors"
    trained_on = describe_labels(args, labels, 1, None) | asdict(settings)
    with write_atomically(weights) as scratch:
        save_selfmask(scratch, model, args.backbone, json.dumps(trained_on, sort_keys=True))
    print(f"{weights}: {progress.seconds / 60:.0f} minutes in this run")
