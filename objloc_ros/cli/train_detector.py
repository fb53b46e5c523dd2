"""`objloc train detector`: a token detector from the labels of other methods, or of people, in one round or several."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from objloc_ros.backbones.specs import SPECS
from objloc_ros.backbones.vit import ViT
from objloc_ros.backbones.weights import fingerprint, load_backbone
from objloc_ros.cli.options import add_flags, collect_options
from objloc_ros.cli.train_labels import (
    add_label_arguments,
    add_round_arguments,
    check_label_arguments,
    check_round_arguments,
    describe_labels,
    find_round,
    prepare_images,
    prepare_labels,
    prepare_round,
    tell_labels,
    wait_for_round,
    wait_for_teachers,
)
from objloc_ros.cli.training_progress import TrainingProgress
from objloc_ros.engine.backbone import resolve_device
from objloc_ros.io.files import write_atomically
from objloc_ros.io.sanitize import sanitize_line
from objloc_ros.methods.detector_file import DetectorInfo, load_detector, read_info, save_detector
from objloc_ros.training.detector import DetectorLog, train_detector
from objloc_ros.training.detector_data import DetectorTraining
from objloc_ros.training.detector_labels import Labels
from objloc_ros.training.distributed import Replicas, choose_local_device, join_replicas

SHOWN_FILES = 5
"""How many unreadable images are named."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare labels, networks and settings."""
    add_label_arguments(parser)
    add_round_arguments(parser)
    parser.add_argument("--backbone", choices=list(SPECS), default="tiny", help="default: %(default)s")
    parser.add_argument("--weights", type=Path, help="backbone weights (default: the registered ones)")
    parser.add_argument("--out", type=Path, default=Path("training/detector"), help="folder of checkpoint and weights")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="folder for cached tokens (default: in memory)")
    add_flags(parser, DetectorTraining)
    parser.add_argument("--workers", type=int, default=2, help="threads that prepare images (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="where everything runs (default: %(default)s)")
    parser.set_defaults(train=train)


def train(args: argparse.Namespace) -> None:
    """Train as the command line says; of several processes under torchrun, the first writes."""
    settings = DetectorTraining(**collect_options(args, DetectorTraining))
    check_label_arguments(args)
    check_round_arguments(args)
    device = choose_local_device(resolve_device(args.device))
    backbone = load_backbone(args.backbone, path=args.weights, device=device)
    with join_replicas(device) as replicas:
        if not replicas.writes:
            wait_for_teachers(args)
        images = prepare_images(args)
        labels = prepare_labels(args, images)
        if replicas.writes:
            tell_labels(labels)
        weights = train_round(args, backbone, labels, settings, 1, replicas)
        for number in range(2, args.rounds + 1):
            if not replicas.writes:
                wait_for_round(args, number)
            labels = prepare_round(args, number, images, labels, weights)
            weights = train_round(args, backbone, labels, settings, number, replicas, previous=weights)


def train_round(
    args: argparse.Namespace,
    backbone: ViT,
    labels: Labels,
    settings: DetectorTraining,
    number: int,
    replicas: Replicas,
    *,
    previous: Path | None = None,
) -> Path:
    """Train once, with progress bars; write weights and checkpoint. Nothing is done that an earlier run has completed.

    Args:
        args: The command line.
        backbone: The network of that name.
        labels: What to learn from.
        settings: Of the first round.
        number: Of the round, from 1.
        replicas: The processes that train together.
        previous: The detector to begin with, that of the round before.

    Returns:
        The file of the detector: as it is on disk, it is what the next round begins with.
    """
    folder = find_round(args.out, number)
    folder.mkdir(parents=True, exist_ok=True)
    settings = settings if previous is None else settings.for_next_round()
    info = DetectorInfo(
        backbone=args.backbone,
        fingerprint=fingerprint(backbone),
        patch=backbone.patch,
        classes=labels.classes,
        trained_on=describe_labels(args, labels, number, previous) | asdict(settings),
    )
    weights = folder / f"{args.backbone}_detector.safetensors"
    if weights.exists() and read_info(weights) == info:
        return weights
    cached = TrainingProgress(len(labels.images), "images")
    progress = TrainingProgress(settings.steps, "steps")
    detector, log = train_detector(
        backbone,
        labels,
        settings,
        checkpoint=folder / f"{args.backbone}_detector.checkpoint",
        cache=args.cache,
        start=None if previous is None else load_detector(previous)[0],
        workers=args.workers,
        replicas=replicas,
        on_cached=cached.advance if replicas.writes else lambda: None,
        on_progress=progress,
    )
    cached.close()
    progress.close()
    if replicas.writes:
        with write_atomically(weights) as scratch:
            save_detector(scratch, detector, info)
        _tell(log)
        print(f"{weights}: {progress.seconds / 60:.0f} minutes in this run")
    replicas.wait()
    return weights


def _tell(log: DetectorLog) -> None:
    """Say on standard error what went wrong without stopping the training."""
    if log.unreadable:
        print(f"{len(log.unreadable)} images could not be read and were left out:", file=sys.stderr)
        for reason in list(log.unreadable.values())[:SHOWN_FILES]:
            print(sanitize_line(f"  {reason}"), file=sys.stderr)
    if log.skipped:
        print(f"{log.skipped} steps were skipped: their loss was not finite", file=sys.stderr)
