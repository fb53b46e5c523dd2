"""`objloc train MODEL`: the embedded networks, heads and detectors on frozen ones, and SelfMask.

An interrupted training resumes where it stopped; FOUND's head on composed scenes, a matter of minutes, starts anew.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from objloc_ros.backbones.clip import CLIP_SPECS, ClipImage
from objloc_ros.backbones.specs import SPECS
from objloc_ros.backbones.weights import load_backbone, load_clip_image, load_found_head
from objloc_ros.cli import train_detector, train_found, train_selfmask
from objloc_ros.cli.options import add_flag, add_flags, collect_options
from objloc_ros.cli.train_found import HEAD_BANK_SEED, HEAD_SCENES
from objloc_ros.cli.training_progress import TrainingProgress
from objloc_ros.engine.backbone import resolve_device
from objloc_ros.errors import ParameterError
from objloc_ros.methods.clip_dinoiser import save_dinoiser_head
from objloc_ros.options import describe
from objloc_ros.scenes.attributes import AttributeBank
from objloc_ros.scenes.compose import Bank
from objloc_ros.scenes.material import Material, load_material
from objloc_ros.training.dinoiser import Teachers, train_dinoiser
from objloc_ros.training.dinoiser_data import TINY, DinoiserTraining, MixedScenes, Pictures, draw_subset
from objloc_ros.training.found_data import list_image_files
from objloc_ros.training.tiny import TinyTraining, save_backbone, train_tiny
from objloc_ros.training.tiny_clip import ClipTraining, save_clip, train_tiny_clip
from objloc_ros.training.views import Schedule, load_surface_photographs

DINOISER_TEACHERS = {"tiny_clip": ("tiny", "tiny")}
"""For each tower, the backbones that say which patches belong together, and where objects are (FOUND)."""

PAPER_TEACHERS = ("dino_vitb16", "dino_vits8")
"""The same for all other towers, as in the paper."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the trainings."""
    kinds = parser.add_subparsers(metavar="MODEL", required=True)
    tiny = kinds.add_parser("tiny", help="the embedded backbone, on composed scenes")
    tiny.add_argument("--trunk", type=Path, metavar="FILE", help="weights of EfficientNet-Lite0 (default: random ones)")
    add_material(tiny)
    tiny.add_argument("--out", type=Path, default=Path("training/tiny"), help="folder of checkpoint and weights")
    tiny.add_argument("--steps", type=int, default=400, help="optimiser steps (default: %(default)s)")
    tiny.add_argument("--seed", type=int, default=0, help="seed of weights and scenes (default: %(default)s)")
    tiny.add_argument("--workers", type=int, default=1, help="processes that compose scenes (default: %(default)s)")
    tiny.add_argument("--threads", type=int, default=1, help="threads of the model (default: %(default)s)")
    tiny.set_defaults(train=_train_tiny)
    clip = kinds.add_parser("clip", help="the embedded CLIP pair, on procedural scenes with captions")
    clip.add_argument("--out", type=Path, default=Path("training/clip"), help="folder of checkpoint and weights")
    clip.add_argument("--steps", type=int, default=6000, help="optimiser steps (default: %(default)s)")
    clip.add_argument("--start", type=Path, metavar="FILE", help="start from the weights of an earlier run")
    clip.add_argument("--rate", type=float, default=1.5e-3, help="peak learning rate (default: %(default)s)")
    clip.add_argument("--easy", type=float, default=0.15, help="part on blurred backgrounds (default: %(default)s)")
    clip.add_argument("--seed", type=int, default=0, help="seed of weights and scenes (default: %(default)s)")
    clip.add_argument("--workers", type=int, default=1, help="processes that compose scenes (default: %(default)s)")
    clip.add_argument("--threads", type=int, default=1, help="threads of the model (default: %(default)s)")
    clip.set_defaults(train=_train_clip)
    train_found.add_arguments(kinds.add_parser("found", help="FOUND's 1x1 convolution, by either of two recipes"))
    train_detector.add_arguments(kinds.add_parser("detector", help="a token detector, from labels of other methods"))
    train_selfmask.add_arguments(kinds.add_parser("selfmask", help="SelfMask, a network that finds what is salient"))
    _add_dinoiser(kinds.add_parser("dinoiser", help="CLIP-DINOiser's two convolutions, by the paper's recipe"))


def _add_dinoiser(parser: argparse.ArgumentParser) -> None:
    """Declare the training of CLIP-DINOiser's head; what is not given depends on the tower."""
    parser.add_argument("--clip", choices=list(CLIP_SPECS), default="tiny_clip", help="default: %(default)s")
    parser.add_argument("--clip-weights", type=Path, help="weights of the tower (default: the registered ones)")
    parser.add_argument(
        "--dino",
        choices=list(SPECS),
        help="backbone that says which patches belong together (default: tiny or dino_vitb16)",
    )
    parser.add_argument("--dino-weights", type=Path, help="its weights (default: the registered ones)")
    parser.add_argument("--found", choices=list(SPECS), help="FOUND's backbone (default: tiny or dino_vits8)")
    parser.add_argument("--found-weights", type=Path, help="its weights (default: the registered ones)")
    parser.add_argument("--head-weights", type=Path, help="FOUND's head (default: the registered one)")
    parser.add_argument("--images", type=Path, help="folder of images, such as ImageNet (default: procedural scenes)")
    parser.add_argument(
        "--subset", type=int, default=1000, help="number of images drawn from it (default: %(default)s)"
    )
    parser.add_argument("--out", type=Path, default=Path("training/dinoiser"), help="folder of checkpoint and weights")
    for name in ("steps", "batch", "size", "gamma", "projection_rate", "background_rate"):
        option = describe(DinoiserTraining)[name]
        add_flag(parser, {"tiny_clip": replace(option, default=getattr(TINY, name)), "other towers": option})
    add_flags(parser, DinoiserTraining, "seed", "bfloat16")
    parser.add_argument("--workers", type=int, default=1, help="threads that prepare pictures (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="where everything runs (default: %(default)s)")
    parser.set_defaults(train=_train_dinoiser)


def run(args: argparse.Namespace) -> int:
    """Train, with a progress bar.

    Raises:
        ParameterError: An option is out of range.
    """
    if args.steps is not None and args.steps < 1:
        raise ParameterError(f"steps must be at least 1, got {args.steps}")
    args.out.mkdir(parents=True, exist_ok=True)
    args.train(args)
    return 0


def add_material(parser: argparse.ArgumentParser) -> None:
    """Declare where photographed and rendered material comes from."""
    parser.add_argument(
        "--material",
        type=Path,
        metavar="DIR",
        help="what `python -m objloc_ros.training.material` made: cut-outs and grounds beside the procedural ones",
    )


def read_material(args: argparse.Namespace) -> Material | None:
    """Return the material that was asked for, None without `--material`."""
    return None if args.material is None else load_material(args.material, seed=args.seed)


def _train_tiny(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    settings = TinyTraining(Schedule(args.steps), seed=args.seed)
    progress = TrainingProgress(args.steps, "steps")
    model = train_tiny(
        settings,
        args.out / "tiny.checkpoint",
        trunk=args.trunk,
        material=read_material(args),
        photographs=load_surface_photographs(),
        workers=args.workers,
        on_progress=progress,
    )
    progress.close()
    weights = args.out / "tiny_vit.safetensors"
    save_backbone(weights, model)
    print(f"{weights}: {progress.seconds / 60:.0f} minutes in this run")


def _train_clip(args: argparse.Namespace) -> None:
    torch.set_num_threads(args.threads)
    progress = TrainingProgress(args.steps, "steps")
    model = train_tiny_clip(
        ClipTraining(args.steps, seed=args.seed, peak_rate=args.rate, easy=args.easy),
        args.out / "tiny_clip.checkpoint",
        start=args.start,
        photographs=load_surface_photographs(),
        workers=args.workers,
        on_progress=progress,
    )
    progress.close()
    weights = args.out / "tiny_clip.safetensors"
    save_clip(weights, model)
    print(f"{weights}: {progress.seconds / 60:.0f} minutes in this run")


def _train_dinoiser(args: argparse.Namespace) -> None:
    settings = TINY if args.clip == "tiny_clip" else DinoiserTraining()
    settings = replace(settings, **collect_options(args, DinoiserTraining))
    device = resolve_device(args.device)
    dino_name, found_name = DINOISER_TEACHERS.get(args.clip, PAPER_TEACHERS)
    dino_name, found_name = args.dino or dino_name, args.found or found_name
    dino = load_backbone(dino_name, path=args.dino_weights, device=device)
    shared = found_name == dino_name and args.found_weights is None
    found = dino if shared else load_backbone(found_name, path=args.found_weights, device=device)
    weight, bias = load_found_head(found_name, path=args.head_weights)
    clip = load_clip_image(args.clip, path=args.clip_weights, device=device)
    assert isinstance(clip, ClipImage)  # --clip offers transformers alone
    images: Pictures
    if args.images is None:
        bank = Bank(HEAD_BANK_SEED, backgrounds=300, sprites=900, photographs=load_surface_photographs())
        attributes = AttributeBank(HEAD_BANK_SEED + 1, copies=4, photographs=load_surface_photographs())
        images = MixedScenes(bank, attributes, seed=HEAD_BANK_SEED, count=HEAD_SCENES)
    else:
        images = draw_subset(list_image_files(args.images), args.subset, args.seed)
    progress = TrainingProgress(settings.steps, "steps")
    head, _ = train_dinoiser(
        Teachers(clip, dino, found, weight, bias),
        images,
        settings,
        workers=args.workers,
        checkpoint=args.out / f"{args.clip}_dinoiser_head.checkpoint",
        on_progress=progress,
    )
    progress.close()
    weights = args.out / f"{args.clip}_dinoiser_head.safetensors"
    save_dinoiser_head(weights, head)
    print(f"{weights}: {progress.seconds / 60:.0f} minutes in this run")
