"""`objloc evaluate agreement`: whether methods decide in another precision as they do in float32."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace

from tqdm import tqdm

from objloc_ros.cli.options import add_pipeline_options, parse_pipeline
from objloc_ros.engine.pipeline import build_pipeline
from objloc_ros.errors import ParameterError
from objloc_ros.evaluation.agreement import compare_precisions
from objloc_ros.evaluation.held_out_scenes import SEED, make_scenes
from objloc_ros.io.tables import markdown_table

METHODS = "found,lost,tokencut,deep_spectral,maskcut,detector"
"""Methods that are compared unless others are chosen."""

COLUMNS = {
    "mask_iou": "mask IoU",
    "worst_mask_iou": "worst",
    "pixels": "equal pixels",
    "boxes": "images with equal boxes",
    "corloc_float32": "CorLoc, float32",
    "corloc": "CorLoc",
}


def add_arguments(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command among the kinds of evaluation."""
    parser = kinds.add_parser("agreement", help="decisions in --precision beside those in float32, on held-out scenes")
    parser.add_argument("--scenes", type=int, default=200, help="number of scenes (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=SEED, help="seed of the scenes (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    add_pipeline_options(parser)
    parser.set_defaults(run=run, method=METHODS)


def run(args: argparse.Namespace) -> int:
    """Compare and print.

    Raises:
        ParameterError: An option is out of range, or there is no precision to compare.
        WeightsError: Weights are missing or refused.
    """
    if args.scenes < 1:
        raise ParameterError(f"scenes must be at least 1, got {args.scenes}")
    config = parse_pipeline(args)
    reduced = build_pipeline(config)
    exact = build_pipeline(replace(config, precision="float32"))
    if reduced.precision == exact.precision:
        raise ParameterError(
            f"precision {config.precision} is {reduced.precision} on {reduced.device}, which needs no comparison with "
            "itself: choose another, such as --precision bfloat16"
        )
    with tqdm(total=args.scenes, unit="scenes", disable=None) as bar:
        rows, passes_ms = compare_precisions(exact, reduced, make_scenes(args.scenes, args.seed), bar.update)
    if args.json:
        about = {"scenes": args.scenes, "seed": args.seed, "precision": reduced.precision, "device": str(exact.device)}
        print(json.dumps({**about, "pass_ms": passes_ms, "agreement": rows}, indent=2))
        return 0
    cells = [[method, *(f"{figures[key]:.3f}" for key in COLUMNS)] for method, figures in rows.items()]
    print(markdown_table([reduced.precision, *COLUMNS.values()], cells, left=1))
    if all(passes_ms):
        print(f"\na pass takes {passes_ms[0]:.1f} ms in float32, {passes_ms[1]:.1f} ms in {reduced.precision}")
    return 0
