"""`objloc evaluate scenes`: discovery and FOUND on held-out procedural scenes, beside untrained baselines."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

import torch
from tqdm import tqdm

from objloc_ros.backbones.registry import is_present
from objloc_ros.backbones.weights import load_clip_image
from objloc_ros.cli import evaluate_dataset, evaluate_files
from objloc_ros.cli.options import add_flags, collect_networks
from objloc_ros.engine.config import NETWORKS, PipelineConfig
from objloc_ros.engine.pipeline import Pipeline, build_pipeline
from objloc_ros.engine.prompts import PromptEncoder
from objloc_ros.errors import ParameterError
from objloc_ros.evaluation.held_out_prompts import (
    VARIANTS,
    evaluate_crops,
    evaluate_maps,
    make_bank,
    make_captioned_scenes,
    make_crops,
)
from objloc_ros.evaluation.held_out_scenes import (
    SEED,
    Scores,
    evaluate_baselines,
    evaluate_pipeline,
    evaluate_videos,
    make_scenes,
    make_videos,
)
from objloc_ros.io.tables import markdown_table
from objloc_ros.methods.options import PATCH_METHODS

COLUMNS = {
    "lost": "LOST CorLoc",
    "tokencut": "TokenCut CorLoc",
    "deep_spectral": "Deep Spectral CorLoc",
    "dino_seg": "DINO-seg CorLoc",
    "vote": "Vote CorLoc",
    "maskcut": "MaskCut CorLoc",
    "maskcut_ap50": "MaskCut AP50",
    "maskcut_ar": "MaskCut AR",
    "maskcut_recall50": "MaskCut found",
    "background": "FOUND background IoU",
    "found": "FOUND mask IoU",
}

CROP_COLUMNS = {
    "colour": "colour, of 9",
    "pattern": "pattern, of 4",
    "shape": "shape, of 6",
    "pair": "colour and shape, of 54",
}

MAP_COLUMNS = {"miou": "mIoU", "ground": "background IoU", "shapes": "mean IoU of the shapes"}

VIDEO_COLUMNS = {
    "recall": "objects found",
    "precision": "boxes right",
    "flicker": "flicker",
    "switches": "id switches per 100",
    "lag": "lag",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the evaluations."""
    kinds = parser.add_subparsers(metavar="WHAT", required=True)
    scenes = kinds.add_parser("scenes", help="held-out procedural scenes of a fixed seed")
    scenes.add_argument("--scenes", type=int, help="number of scenes (default: 1000; 100 videos)")
    scenes.add_argument("--seed", type=int, default=SEED, help="seed of the scenes (default: %(default)s)")
    scenes.add_argument(
        "--prompts", action="store_true", help="open vocabulary: name crops and find prompts (default: 500 scenes)"
    )
    scenes.add_argument("--video", action="store_true", help="videos: flicker, id switches and lag of discovery")
    add_flags(scenes, PipelineConfig, *NETWORKS)
    scenes.add_argument("--no-baselines", action="store_true", help="skip the untrained baselines")
    scenes.add_argument("--json", action="store_true", help="print JSON instead of the table")
    evaluate_dataset.add_arguments(kinds)
    evaluate_files.add_arguments(kinds)
    evaluate_dataset.add_report_arguments(kinds)


def run(args: argparse.Namespace) -> int:
    """Evaluate and print.

    Raises:
        ParameterError: An option is out of range.
        WeightsError: Weights are missing or refused.
    """
    if args.prompts:
        return _evaluate_prompts(args)
    count = args.scenes if args.scenes is not None else 100 if args.video else 1000
    if count < 1:
        raise ParameterError(f"scenes must be at least 1, got {count}")
    networks = collect_networks(args)
    methods = _list_video_methods(networks) if args.video else ("found",)
    pipeline = build_pipeline(PipelineConfig(methods=methods, **networks))
    rows, columns = _evaluate_videos(pipeline, count, args) if args.video else _evaluate_scenes(pipeline, count, args)
    if args.json:
        print(json.dumps({"scenes": count, "seed": args.seed, "scores": rows}, indent=2))
    else:
        print(format_table(rows, columns))
    return 0


def format_table(rows: Mapping[str, Mapping[str, float]], columns: Mapping[str, str]) -> str:
    """Make a Markdown table: a row per name, a column per measure, a dash where one does not apply."""
    cells = [
        [name, *(f"{scores[key]:.3f}" if key in scores else "–" for key in columns)] for name, scores in rows.items()
    ]
    return markdown_table(["", *columns.values()], cells, left=1)


def _evaluate_scenes(
    pipeline: Pipeline, count: int, args: argparse.Namespace
) -> tuple[dict[str, Scores], Mapping[str, str]]:
    scenes = list(make_scenes(count, args.seed))
    rows: dict[str, Scores] = {}
    with tqdm(total=count * (1 if args.no_baselines else 2), unit="scenes", disable=None) as bar:
        rows[pipeline.backbone.name] = evaluate_pipeline(pipeline, scenes, lambda done: bar.update(done - bar.n))
        if not args.no_baselines:
            rows |= evaluate_baselines(pipeline, scenes, lambda done: bar.update(count + done - bar.n))
    return rows, COLUMNS


def _evaluate_prompts(args: argparse.Namespace) -> int:
    """Evaluate crops and maps of the open-vocabulary methods, and print."""
    count = args.scenes if args.scenes is not None else 500
    if count < 1:
        raise ParameterError(f"scenes must be at least 1, got {count}")
    methods = tuple(dict.fromkeys(method for method, _ in VARIANTS.values()))
    config = PipelineConfig(methods=methods, **collect_networks(args))
    pipeline = build_pipeline(config)
    device = torch.device(pipeline.device)
    bank = make_bank(args.seed)
    tower = load_clip_image(config.clip, path=config.clip_weights, device=device)
    encoder = PromptEncoder(config.clip, path=config.clip_weights, device=device)
    accuracy = evaluate_crops(tower, encoder, list(make_crops(bank, 2 * count, tower.side, args.seed)), device)
    scenes = list(make_captioned_scenes(bank, count, args.seed))
    with tqdm(total=count * len(VARIANTS), unit="scenes", disable=None) as bar:
        maps = evaluate_maps(pipeline, scenes, VARIANTS, bar.update)
    if args.json:
        print(json.dumps({"scenes": count, "seed": args.seed, "crops": accuracy, "maps": maps}, indent=2))
    else:
        trained = {name: accuracy[name] for name in CROP_COLUMNS}
        unseen = {name: accuracy[f"unseen_{name}"] for name in CROP_COLUMNS}
        print(format_table({"pairs of the training": trained, "pairs kept out of it": unseen}, CROP_COLUMNS))
        print(f"\n{format_table(maps, MAP_COLUMNS)}")
    return 0


def _list_video_methods(networks: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the methods to run on videos: the detector is one where it was given, or is known to fit the backbone."""
    fits = "weights" not in networks and is_present(f"{networks.get('backbone', PipelineConfig.backbone)}_detector")
    return (*PATCH_METHODS, *(["detector"] if fits or "head_weights" in networks else []))


def _evaluate_videos(
    pipeline: Pipeline, count: int, args: argparse.Namespace
) -> tuple[dict[str, Any], Mapping[str, str]]:
    for method in pipeline.methods:
        pipeline.configure(method, post="none")
    with tqdm(total=count, unit="videos", disable=None) as bar:
        videos = make_videos(count, args.seed)
        scores = evaluate_videos(pipeline, pipeline.methods, videos, lambda: bar.update() and None)
    return {f"{method}, {mode}": row for method, both in scores.items() for mode, row in both.items()}, VIDEO_COLUMNS
