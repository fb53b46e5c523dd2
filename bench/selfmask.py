"""SelfMask beside its teacher: mean IoU with the union of the objects on held-out procedural scenes.

    objloc train selfmask --teacher vote --out training/selfmask
    python bench/selfmask.py training/selfmask/tiny_selfmask.safetensors

Each seed has backgrounds and sprites of its own, which no training sees.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from harness import machine, write_json

from objloc_ros.engine.pipeline import Pipeline, load_pipeline
from objloc_ros.evaluation.held_out_scenes import SEED, HeldOutScene, make_scenes
from objloc_ros.io.tables import markdown_table
from objloc_ros.metrics import CorLoc
from objloc_ros.ops.regions import mask_iou

TEACHERS = ("vote", "found")


def main() -> None:
    """Run all methods on the scenes of every seed, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", type=Path, nargs="+", help="networks that `objloc train selfmask` has written")
    parser.add_argument("--scenes", type=int, default=100, help="scenes of each seed (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here too")
    args = parser.parse_args()
    pipelines = {name: (load_pipeline((name,)), name) for name in TEACHERS}
    pipelines["vote of clusters"] = load_pipeline(("vote",)), "vote"
    pipelines["vote of clusters"][0].configure("vote", candidates="clusters")
    for weights in args.weights:
        pipelines[str(weights)] = load_pipeline(("selfmask",), weights=weights), "selfmask"
    scores: dict[str, list[tuple[float, float]]] = {name: [] for name in pipelines}
    for seed in range(SEED, SEED + args.seeds):
        scenes = list(make_scenes(args.scenes, seed))
        for name, (pipeline, method) in pipelines.items():
            scores[name].append(judge(pipeline, method, scenes))
            print(f"  seed {seed}: {name}: mean IoU {scores[name][-1][0]:.3f}", flush=True)
    print(f"{machine()}, {args.scenes} scenes of {args.seeds} seeds")
    rows = [
        [name, *(f"{np.mean(values):.3f} ± {np.std(values):.3f}" for values in zip(*judged, strict=True))]
        for name, judged in scores.items()
    ]
    print(markdown_table(["", "mean IoU", "CorLoc"], rows, left=1))
    if args.json:
        write_json(args.json, scenes=args.scenes, seeds=args.seeds, scores=scores)


def judge(pipeline: Pipeline, method: str, scenes: Sequence[HeldOutScene]) -> tuple[float, float]:
    """Return the mean IoU of a method's masks with the union of the objects, and its CorLoc."""
    overlaps, corloc = [], CorLoc()
    for scene in scenes:
        result = pipeline.run(scene.image)[method]
        overlaps.append(mask_iou(result.mask_u8() > 0, scene.identities > 0))
        corloc.update([next(iter(result.main_box().tolist()), None)], [scene.boxes()])
    return float(np.mean(overlaps)), float(corloc.compute())


if __name__ == "__main__":
    main()
