"""`objloc evaluate scenes`: LOST, TokenCut and FOUND on held-out procedural scenes, beside untrained baselines."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from tqdm import tqdm

from objloc_ros.engine.pipeline import load_pipeline
from objloc_ros.errors import ParameterError
from objloc_ros.evaluation.scenes import SEED, Scores, evaluate_baselines, evaluate_pipeline, held_out_scenes

COLUMNS = {
    "lost": "LOST CorLoc",
    "tokencut": "TokenCut CorLoc",
    "background": "FOUND ground IoU",
    "found": "FOUND mask IoU",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the evaluations."""
    kinds = parser.add_subparsers(metavar="WHAT", required=True)
    scenes = kinds.add_parser("scenes", help="held-out procedural scenes of a fixed seed")
    scenes.add_argument("--scenes", type=int, default=1000, help="number of scenes (default: %(default)s)")
    scenes.add_argument("--seed", type=int, default=SEED, help="seed of the scenes (default: %(default)s)")
    scenes.add_argument("--backbone", default="tiny", help="name in the weights registry (default: %(default)s)")
    scenes.add_argument("--weights", type=Path, help="backbone weights; the registered ones by default")
    scenes.add_argument("--head-weights", type=Path, help="FOUND head; the registered one by default")
    scenes.add_argument("--short-side", type=int, help="shorter side of the input; the backbone's own by default")
    scenes.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: %(default)s)")
    scenes.add_argument("--no-baselines", action="store_true", help="skip the untrained baselines")
    scenes.add_argument("--json", action="store_true", help="print JSON instead of the table")


def run(args: argparse.Namespace) -> int:
    """Evaluate and print."""
    if args.scenes < 1:
        raise ParameterError(f"scenes must be at least 1, got {args.scenes}")
    pipeline = load_pipeline(
        ("found",),
        args.backbone,
        args.device,
        short_side=args.short_side,
        weights=args.weights,
        head_weights=args.head_weights,
    )
    scenes = list(held_out_scenes(args.scenes, args.seed))
    rows: dict[str, Scores] = {}
    with tqdm(total=args.scenes * (1 if args.no_baselines else 2), unit="scenes") as bar:
        rows[args.backbone] = evaluate_pipeline(pipeline, scenes, lambda done: bar.update(done - bar.n))
        if not args.no_baselines:
            rows |= evaluate_baselines(pipeline, scenes, lambda done: bar.update(args.scenes + done - bar.n))
    if args.json:
        print(json.dumps({"scenes": args.scenes, "seed": args.seed, "scores": rows}, indent=2))
    else:
        print(table(rows))
    return 0


def table(rows: dict[str, Scores]) -> str:
    """A Markdown table: a row per backbone, a column per measure, a dash where one does not apply."""
    lines = ["| | " + " | ".join(COLUMNS.values()) + " |", "|---|" + "---|" * len(COLUMNS)]
    for name, scores in rows.items():
        cells = [f"{scores[key]:.3f}" if key in scores else "–" for key in COLUMNS]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
