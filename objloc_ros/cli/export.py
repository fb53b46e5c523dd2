"""`objloc export`: a backbone, and with it FOUND's head and a detector, as an ONNX file, compared with eager first."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from tqdm import tqdm

from objloc_ros.backbones.onnx_export import TOLERANCES, Difference, ExportedHead, export_backbone
from objloc_ros.backbones.onnx_file import SUFFIX, Precision
from objloc_ros.backbones.registry import find_entry, is_present
from objloc_ros.backbones.specs import SPECS
from objloc_ros.backbones.store import hash_file
from objloc_ros.backbones.vit import ViT
from objloc_ros.backbones.weights import load_backbone, load_found_head
from objloc_ros.cli.weights import format_size
from objloc_ros.errors import ParameterError
from objloc_ros.io.tables import text_table
from objloc_ros.methods.detector_file import find_detector, load_detector
from objloc_ros.methods.found_network import FoundNetwork
from objloc_ros.types import Size

REGISTERED = Path()
"""What stands for the registered detector."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what to export and where to."""
    parser.add_argument("--backbone", default="tiny", choices=SPECS, help="architecture (default: tiny)")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="its weights (default: the registered ones)")
    parser.add_argument(
        "--head-weights",
        type=Path,
        metavar="FILE",
        help="FOUND's head, which goes into the file, too (default: the registered one, where it is on this machine)",
    )
    parser.add_argument(
        "--detector",
        type=Path,
        nargs="?",
        const=REGISTERED,
        metavar="FILE",
        help="also put a token detector in, so that the file is all that `--method detector` needs (without FILE: the "
        "registered one)",
    )
    parser.add_argument(
        "--size",
        type=_parse_size,
        metavar="HxW",
        help="fix height and width of the input in pixels (default: any size)",
    )
    parser.add_argument(
        "--batch", type=_parse_batch, metavar="N", help="fix the number of images in a pass, or 'dynamic' (the default)"
    )
    parser.add_argument(
        "--precision",
        choices=TOLERANCES,
        default="float32",
        help="what the pass is computed in; CLS attention and heads stay float32 (default: %(default)s)",
    )
    parser.add_argument(
        "--build-engine",
        action="store_true",
        help="have TensorRT compile it for this machine's first GPU; needs --size (and takes --batch 1)",
    )
    parser.add_argument("--out", type=Path, required=True, metavar=f"FILE{SUFFIX}", help="file to write")
    parser.add_argument("--json", action="store_true", help="print JSON for scripts")


def run(args: argparse.Namespace) -> int:
    """Export a backbone, compare it with the eager one, and print the differences.

    Raises:
        InputError: A side of the size is not a multiple of the patch size.
        ParameterError: A file has the wrong ending.
        WeightsError: Weights are missing or refused, a package is missing, the exported model differs, or the file
            cannot be written.
    """
    out: Path = args.out.expanduser()
    if out.suffix != SUFFIX:
        raise ParameterError(f"--out must end in {SUFFIX}, the suffix of exported models, got {str(out)!r}")
    if args.weights is not None and args.weights.suffix == SUFFIX:
        raise ParameterError(f"--weights must be a file of weights, not an exported model, got {str(args.weights)!r}")
    if args.build_engine and args.size is None:
        raise ParameterError("--build-engine needs --size HxW: an engine is built for one size")
    batch = 1 if args.build_engine and args.batch is None else args.batch
    model = load_backbone(args.backbone, path=args.weights)
    heads = _load_heads(args, model)
    weights = find_entry(args.backbone).path if args.weights is None else args.weights.expanduser()
    with tqdm(total=3 + args.build_engine, leave=False, disable=True if args.json else None) as bar:

        def show_progress(stage: str) -> None:
            bar.set_description(stage)
            bar.update()

        differences = export_backbone(
            model,
            out,
            backbone=args.backbone,
            weights_sha256=hash_file(weights),
            heads=heads,
            size=args.size,
            batch=batch,
            precision=args.precision,
            engine=args.build_engine,
            progress=show_progress,
        )
    _print_report(out, args.backbone, args.precision, differences, as_json=args.json)
    return 0


def _load_heads(args: argparse.Namespace, backbone: ViT) -> list[ExportedHead]:
    heads = []
    if args.head_weights is not None or is_present(f"{args.backbone}_found_head"):
        heads.append(ExportedHead(FoundNetwork(*load_found_head(args.backbone, path=args.head_weights)), {}))
    if args.detector is not None:
        heads.append(_load_detector(args, backbone))
    return heads


def _load_detector(args: argparse.Namespace, backbone: ViT) -> ExportedHead:
    detector, info = load_detector(find_detector(args.backbone, None if args.detector == REGISTERED else args.detector))
    info.check_backbone(args.backbone, backbone)
    return ExportedHead(detector, info.to_metadata())


def _print_report(
    out: Path, backbone: str, precision: Precision, differences: list[Difference], *, as_json: bool
) -> None:
    size_bytes = out.stat().st_size
    if as_json:
        rows = [{"input": difference.shape, **difference.outputs} for difference in differences]
        facts = {
            "path": str(out),
            "backbone": backbone,
            "size_bytes": size_bytes,
            "precision": precision,
            "tolerance": TOLERANCES[precision],
        }
        print(json.dumps({**facts, "differences": rows}, indent=2))
        return
    print(f"{out}: {backbone}, {format_size(size_bytes)}\n\nlargest difference from eager, of the largest value:")
    names = list(differences[0].outputs)
    numbers = [
        ("x".join(map(str, difference.shape)), *(f"{difference.outputs[name]:.1e}" for name in names))
        for difference in differences
    ]
    print(text_table([("INPUT", *(name.upper() for name in names)), *numbers]))


def _parse_size(text: str) -> Size:
    sides = re.fullmatch(r"(\d+)x(\d+)", text)
    if sides is None:
        raise argparse.ArgumentTypeError(f"expected height x width such as 192x256, got {text!r}")
    return int(sides[1]), int(sides[2])


def _parse_batch(text: str) -> int | None:
    if text == "dynamic":
        return None
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1 on or 'dynamic', got {text!r}")
    return int(text)
