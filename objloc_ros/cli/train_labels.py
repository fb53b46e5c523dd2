"""Where the labels of `objloc train detector` come from: documents, teachers, and the detector of the round before."""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from objloc_ros.cli.options import add_engine_options, choose_engine
from objloc_ros.cli.prelabel import label_pieces
from objloc_ros.data.coco_document import PRELABELS
from objloc_ros.engine.config import HEADS, PipelineConfig
from objloc_ros.engine.heads.image_methods import IMAGE_METHODS
from objloc_ros.engine.shared_backbone import use_threads
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.io.files import read_json, write_atomically
from objloc_ros.io.media import write_image
from objloc_ros.methods.detector_file import load_detector
from objloc_ros.methods.options import SEGMENTATION
from objloc_ros.prelabels.sources import find_sources, make_pieces
from objloc_ros.prelabels.work import LabelTask
from objloc_ros.scenes.compose import Bank
from objloc_ros.training.detector import hash_weights
from objloc_ros.training.detector_data import identify_labels
from objloc_ros.training.detector_labels import Labels, find_document, read_labels, write_labels
from objloc_ros.training.rounds import check_tracks, choose_threshold, keep_consistent, merge_labels, unite_labels
from objloc_ros.training.views import SceneImages, load_surface_photographs

TEACHERS = tuple(method for method in HEADS if method not in SEGMENTATION)
"""Methods whose objects can be learned from: all that need no prompts."""

SCENES = 400
"""Number of procedural scenes where no images are given."""

SCENES_BANK_SEED = 601
"""Seed of their pictures; other trainings and evaluations have others."""

SCENES_BANK: dict[str, Any] = {"backgrounds": 300, "sprites": 900}

SCENES_SIZE = (240, 320)
"""Height and width in pixels."""

IMAGE_FOLDERS = ("images", "data")
"""Where images lie beside their labels: of `objloc prelabel --images` and CVAT, of FiftyOne."""

MAY_DIFFER = ("software", "head_weights")
"""Labels that are there are used whatever the version that made them; detectors are told apart by their weights."""

MAX_KEEP = 10.0
"""Most detections that may be kept for each label before."""

LABELS_POLL_S = 1.0
"""How often a process looks whether the first one has made the labels."""


def add_label_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare labels and teachers."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--labels", type=Path, metavar="PATH", help="COCO document, or folder of `objloc prelabel`, CVAT or FiftyOne"
    )
    source.add_argument(
        "--teacher",
        metavar="NAMES",
        help=f"one or more of {', '.join(TEACHERS)}, separated by commas: methods that label the images; what an "
        "earlier one has found stays, later ones add to it. Their labels are COCO documents, DIR/labels/NAME, that may "
        "be corrected before the same command continues",
    )
    parser.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="folder of the images, in which the labels' file names begin (default: images/ beside the labels; for "
        "teachers: procedural scenes)",
    )
    parser.add_argument(
        "--scenes", type=int, default=SCENES, metavar="N", help="number of procedural scenes (default: %(default)s)"
    )
    parser.add_argument("--empty-ok", action="store_true", help="images without labels show no object, and teach that")
    parser.add_argument(
        "--skip-crowds", action="store_true", help="leave out annotations with iscrowd (CVAT sets it for every mask)"
    )
    parser.add_argument(
        "--consistent",
        type=int,
        metavar="K",
        help="learn only from objects that were tracked over K images or more, such as pre-labels of videos and bags; "
        "with teachers, the images of each folder are the frames of a video",
    )
    parser.add_argument("--teacher-backbone", metavar="NAME", help="backbone of the teachers (default: --backbone)")
    parser.add_argument("--teacher-weights", type=Path, metavar="FILE", help="weights of the one teacher's network")
    add_engine_options(parser, workers="--ray-tasks")


def add_round_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare rounds."""
    parser.add_argument(
        "--rounds",
        type=int,
        default=1,
        metavar="N",
        help="trainings in all: each further one learns from what the one before it has found, too; its labels are "
        "DIR/round_K/annotations/instances_default.json (default: %(default)s)",
    )
    parser.add_argument(
        "--keep",
        type=float,
        default=0.75,
        metavar="PART",
        help="how many of its detections, the best, a round leaves to the next one, as a part of the number of labels "
        "before (default: %(default)s)",
    )


def check_label_arguments(args: argparse.Namespace) -> None:
    """Raise ParameterError if a number is out of range, or an option is for another source of labels."""
    if args.scenes < 1:
        raise ParameterError(f"scenes must be at least 1, got {args.scenes}")
    if args.consistent is not None and args.consistent < 1:
        raise ParameterError(f"consistent must be at least 1 image, got {args.consistent}")
    given = [name for name in ("teacher_backbone", "teacher_weights") if getattr(args, name) is not None]
    if args.labels is not None and given:
        raise ParameterError(f"--{given[0].replace('_', '-')} is for --teacher")
    if args.teacher is not None and len(parse_teachers(args.teacher)) > 1 and args.teacher_weights is not None:
        raise ParameterError("--teacher-weights is for one teacher: label with objloc prelabel, and give --labels")
    choose_engine(args)


def check_round_arguments(args: argparse.Namespace) -> None:
    """Raise ParameterError if a number is out of range."""
    if args.rounds < 1:
        raise ParameterError(f"rounds must be at least 1, got {args.rounds}")
    if not 0 < args.keep <= MAX_KEEP:
        raise ParameterError(f"keep must lie in (0, {MAX_KEEP:g}], got {args.keep:g}")


def parse_teachers(text: str) -> list[str]:
    """Split `maskcut,found` and check every name.

    Raises:
        ParameterError: A name is unknown, occurs twice or needs prompts.
    """
    names = [name.strip() for name in text.split(",")]
    prompted = [name for name in names if name in SEGMENTATION]
    if prompted:
        raise ParameterError(f"{prompted[0]} needs prompts: label with objloc prelabel, and give --labels")
    if len(set(names)) != len(names) or any(name not in TEACHERS for name in names):
        raise ParameterError(f"teacher must be different ones of {', '.join(TEACHERS)}; got {text!r}")
    return names


def prepare_images(args: argparse.Namespace) -> Path:
    """Return the folder of the images; procedural scenes are written to it, those that are not there yet.

    Raises:
        InputError: There is no such folder, or it cannot be written.
    """
    if args.images is not None:
        if not args.images.is_dir():
            raise InputError(f"there is no folder of images {args.images}")
        return Path(args.images)
    if args.labels is not None:
        document = find_document(args.labels)
        candidates = [base / name for base in (document.parent, document.parent.parent) for name in IMAGE_FOLDERS]
        for folder in candidates:
            if folder.is_dir():
                return _choose_subset(document, folder)
        raise InputError(f"there is no folder {candidates[-2]}: name the folder of the images (--images)")
    return _write_scenes(args.out / "images", args.scenes)


def prepare_labels(args: argparse.Namespace, images: Path) -> Labels:
    """Return the labels of the first training: those of the document, or of all teachers together.

    Labels that a teacher has made in an earlier run are read as they are, corrected or not.

    Raises:
        InputError: Labels or images are missing or invalid.
        ParameterError: An option is out of range.
        WeightsError: Weights of a teacher are missing or refused.
    """
    if args.labels is not None:
        documents = [args.labels]
    else:
        folders = [(name, args.out / "labels" / name) for name in parse_teachers(args.teacher)]
        documents = [_label(args, _configure_teacher(args, name), images, folder) for name, folder in folders]
    several = len(documents) > 1
    labels = [
        read_labels(document, images, empty_ok=args.empty_ok or several, skip_crowds=args.skip_crowds, none_ok=several)
        for document in documents
    ]
    if not any(some.count for some in labels):
        raise InputError(f"none of {args.teacher} has found an object in {images}: choose another teacher")
    united = unite_labels(labels)
    if args.consistent is not None:
        check_tracks(united, args.consistent)
        united = keep_consistent(united, args.consistent)
    return select_labelled(united, empty_ok=args.empty_ok)


def prepare_round(args: argparse.Namespace, number: int, images: Path, previous: Labels, detector: Path) -> Labels:
    """Return the labels of a further training, made anew or as an earlier run has written them.

    Args:
        args: The command line.
        number: Of the round, from 2.
        images: Folder of all images.
        previous: Labels of the round before.
        detector: What that round has trained.

    Raises:
        InputError: Images or labels cannot be read, or the labels that are there were made otherwise.
    """
    folder = find_round(args.out, number)
    document = folder / PRELABELS
    weights_hash = hash_weights(load_detector(detector)[0])
    made_with = {"round": number, "keep": args.keep, "detector": weights_hash}
    if not document.exists():
        config = PipelineConfig(
            methods=("detector",),
            backbone=args.backbone,
            weights=args.weights and args.weights.absolute(),
            head_weights=detector.absolute(),
            short_side=args.short_side,
            device=args.device,
        )
        found = _label(args, config, images, folder / f"predictions_{weights_hash[:8]}")
        predicted = read_labels(found, images, empty_ok=True, none_ok=True)
        if args.consistent is not None:
            predicted = keep_consistent(predicted, args.consistent)
        threshold = choose_threshold(predicted, round(args.keep * previous.count))
        merged = merge_labels(previous, predicted, threshold=threshold)
        write_labels(document, merged, made_with | {"threshold": threshold if math.isfinite(threshold) else None})
    _check_origin(document, made_with)
    return select_labelled(read_labels(document, images, empty_ok=True), empty_ok=args.empty_ok)


def select_labelled(labels: Labels, *, empty_ok: bool) -> Labels:
    """Leave out the images without labels, unless they are said to be empty."""
    kept = labels.images if empty_ok else tuple(image for image in labels.images if len(image))
    return replace(labels, images=kept, left_out=labels.left_out + len(labels.images) - len(kept))


def find_round(out: Path, number: int) -> Path:
    """Return the folder of a round, from 1: that of the results itself for the first."""
    return out if number == 1 else out / f"round_{number}"


def describe_labels(args: argparse.Namespace, labels: Labels, number: int, previous: Path | None) -> dict[str, Any]:
    """Describe what a round learns from, as JSON values for the file of its detector."""
    described: dict[str, Any] = {
        "labels": str(args.labels) if args.labels is not None else parse_teachers(args.teacher),
        "images": len(labels.images),
        "objects": labels.count,
        "labels_hash": identify_labels(labels),
    }
    if args.teacher_backbone is not None:
        described["teacher_backbone"] = args.teacher_backbone
    if args.consistent is not None:
        described["consistent"] = args.consistent
    if previous is not None:
        described |= {"round": number, "keep": args.keep, "previous": hash_weights(load_detector(previous)[0])}
    return described


def tell_labels(labels: Labels) -> None:
    """Say how much there is to learn from, and on standard error what is left out."""
    print(f"{labels.count} objects in {sum(len(image) > 0 for image in labels.images)} images")
    if labels.left_out:
        print(
            f"objloc: {labels.left_out} images without labels are left out; --empty-ok takes them for empty",
            file=sys.stderr,
        )
    if labels.crowds:
        print(
            f"objloc: {labels.crowds} annotations have iscrowd, as CVAT writes it for every mask; --skip-crowds leaves "
            "them out",
            file=sys.stderr,
        )


def wait_for_teachers(args: argparse.Namespace) -> None:
    """Wait until another process has made the labels of all teachers, however long that takes."""
    for name in parse_teachers(args.teacher) if args.teacher is not None else []:
        _wait_for_file(args.out / "labels" / name / PRELABELS)


def wait_for_round(args: argparse.Namespace, number: int) -> None:
    """Wait until another process has made the labels of a round."""
    _wait_for_file(find_round(args.out, number) / PRELABELS)


def _wait_for_file(path: Path) -> None:
    while not path.exists():  # torchrun ends this process if the one that makes it fails
        time.sleep(LABELS_POLL_S)


def make_scenes(count: int) -> SceneImages:
    """Make the procedural scenes that are labelled where no images are given."""
    bank = Bank(SCENES_BANK_SEED, photographs=load_surface_photographs(), **SCENES_BANK)
    return SceneImages(bank, seed=SCENES_BANK_SEED, count=count, size=SCENES_SIZE)


def _write_scenes(folder: Path, count: int) -> Path:
    names = [f"scene_{number:06d}.png" for number in range(count)]
    missing = [number for number, name in enumerate(names) if not (folder / name).exists()]
    if missing:
        folder.mkdir(parents=True, exist_ok=True)
        scenes = make_scenes(count)
        for number in tqdm(missing, unit="scene", disable=None, leave=False):
            with write_atomically(folder / names[number]) as scratch:
                write_image(scratch, scenes[number])
    return folder


def _choose_subset(document: Path, folder: Path) -> Path:
    """Return the folder that the document's names begin in: CVAT exports images to a folder of the subset's name."""
    subset = folder / document.stem.removeprefix("instances_")
    images = read_json(document).get("images") if subset.is_dir() else None
    names = [str(image.get("file_name")) for image in images or [] if isinstance(image, dict)]
    return subset if names and (subset / names[0]).is_file() and not (folder / names[0]).is_file() else folder


def _configure_teacher(args: argparse.Namespace, name: str) -> PipelineConfig:
    shared = name not in IMAGE_METHODS and args.teacher_backbone in (None, args.backbone)
    weights = args.teacher_weights or (args.weights if shared else None)
    return PipelineConfig(
        methods=(name,),
        backbone=args.teacher_backbone or args.backbone,
        weights=weights and weights.absolute(),
        device=args.device,
    )


def _label(args: argparse.Namespace, config: PipelineConfig, images: Path, folder: Path) -> Path:
    """Label the images with one method, or go on where an earlier run stopped; return the folder of the document."""
    track = args.consistent is not None
    task = LabelTask(config=config, track="all" if track else "none", keep="none")
    if (folder / PRELABELS).exists():
        made_with = {name: value for name, value in task.settings().items() if name not in MAY_DIFFER}
        _check_origin(folder / PRELABELS, made_with)
        return folder
    sources = find_sources([images], out=folder)
    if not sources.images:
        raise InputError(
            f"there is no image in {images}; label videos and bags with objloc prelabel, and give --labels"
        )
    shards = make_pieces(replace(sources, videos=(), bags=()), sequences=track)
    threads = torch.get_num_threads()
    try:
        totals, failed = label_pieces(shards, task, folder, choose_engine(args))
    finally:
        use_threads(threads)  # labels are made on one; sums of the training depend on their number
    if failed:
        (folder / PRELABELS).unlink()  # the next run goes on
        name, reason = next(iter(failed.items()))
        raise InputError(f"{len(failed)} of {len(shards)} pieces of {images} could not be labelled: {name}: {reason}")
    print(f"{config.methods[0]}: {totals.annotations} objects in {totals.images} images: {folder / PRELABELS}")
    return folder


def _check_origin(document: Path, made_with: dict[str, Any]) -> None:
    """Raise InputError if labels say that they were made otherwise; some tools do not keep what documents say."""
    info = read_json(document).get("info") or {}
    for name, value in made_with.items():
        if info.get(name, value) != value:
            raise InputError(
                f"{document} was made with {name} {info[name]!r}, not {value!r}: continue with the same options, "
                f"choose another --out, or remove {document.parent.parent}"
            )
