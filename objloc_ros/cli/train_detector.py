"""`objloc train detector`: a token detector from the labels of other methods, or of people."""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from objloc_ros.backbones.vit import SPECS, ViT
from objloc_ros.backbones.weights import fingerprint, load_backbone
from objloc_ros.cli.options import add_flags, collect_options
from objloc_ros.cli.training_progress import TrainingProgress
from objloc_ros.engine.backbone import resolve_device
from objloc_ros.methods.detector_file import DetectorInfo, save_detector
from objloc_ros.methods.token_detector import TokenDetector
from objloc_ros.training.detector import DetectorLog, train_detector
from objloc_ros.training.detector_data import DetectorTraining
from objloc_ros.training.detector_labels import Labels, read_labels
from objloc_ros.training.distributed import Replicas, choose_local_device, join_replicas

SHOWN_FILES = 5
"""How many unreadable images are named."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare labels, networks and settings."""
    parser.add_argument(
        "--labels", type=Path, required=True, metavar="PATH", help="COCO document, or folder of `objloc prelabel`"
    )
    parser.add_argument(
        "--images", type=Path, required=True, metavar="DIR", help="folder in which the labels' file names begin"
    )
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
    labels = read_labels(args.labels, args.images)
    device = choose_local_device(resolve_device(args.device))
    backbone = load_backbone(args.backbone, path=args.weights, device=device)
    with join_replicas(device) as replicas:
        train_round(args, backbone, labels, settings, args.out, replicas)


def train_round(
    args: argparse.Namespace,
    backbone: ViT,
    labels: Labels,
    settings: DetectorTraining,
    folder: Path,
    replicas: Replicas,
    *,
    start: TokenDetector | None = None,
) -> tuple[TokenDetector, Path]:
    """Train once, with progress bars; write weights and checkpoint into a folder.

    Args:
        args: With `backbone`, `cache` and `workers`.
        backbone: The network of that name.
        labels: What to learn from.
        settings: The run.
        folder: It is made if it is not there.
        replicas: The processes that train together.
        start: A detector to begin with.

    Returns:
        The detector and its file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cached = TrainingProgress(len(labels.images), "images")
    progress = TrainingProgress(settings.steps, "steps")
    detector, log = train_detector(
        backbone,
        labels,
        settings,
        checkpoint=folder / f"{args.backbone}_detector.checkpoint",
        cache=args.cache,
        start=start,
        workers=args.workers,
        replicas=replicas,
        on_cached=cached.advance if replicas.writes else lambda: None,
        on_progress=progress,
    )
    cached.close()
    progress.close()
    weights = folder / f"{args.backbone}_detector.safetensors"
    if replicas.writes:
        info = DetectorInfo(
            backbone=args.backbone,
            fingerprint=fingerprint(backbone),
            patch=backbone.patch,
            classes=labels.classes,
            trained_on={"images": len(labels.images), "objects": labels.count, **asdict(settings)},
        )
        save_detector(weights, detector, info)
        _tell(log)
        print(f"{weights}: {progress.seconds / 60:.0f} minutes in this run")
    return detector, weights


def _tell(log: DetectorLog) -> None:
    """Say on standard error what went wrong without stopping the training."""
    if log.unreadable:
        print(f"{len(log.unreadable)} images could not be read and were left out:", file=sys.stderr)
        for reason in list(log.unreadable.values())[:SHOWN_FILES]:
            print(f"  {reason}", file=sys.stderr)
    if log.skipped:
        print(f"{log.skipped} steps were skipped: their loss was not finite", file=sys.stderr)
