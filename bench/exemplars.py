"""Classes by example: a box around an object in the first frame, and where the object is found in others.

    python bench/exemplars.py            24 videos and scenes of each kind; a minute or two on one core
    python bench/exemplars.py --smoke    seconds; shows that everything runs

Three kinds of procedural frames, whose truth is exact:

- motion: a held-out scene under a swaying camera, its objects drifting; 8, 16 and 30 frames later
- drive: a drive along a road; 4, 10, 16 and 26 frames later, where the object is still in sight or not
- elsewhere: the same objects, moved, turned and scaled, before four other backgrounds and beside other objects

The box is the object's own, of every object that covers 1.5 % of the first frame. In the others a region of at least
0.3 % of the frame hits if its box overlaps the object's by an IoU of 0.5; frames with less than 0.8 % of the object are
left out. The pipeline is that of the node: `tiny`, MaskCLIP with `tiny_clip`, one prompt, and the exemplar.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from harness import machine, wall_ms, write_json

from objloc_ros.engine.heads.exemplars import mark_exemplars
from objloc_ros.engine.pipeline import Pipeline, load_pipeline
from objloc_ros.io.tables import text_table
from objloc_ros.ops.boxes import iou
from objloc_ros.ops.regions import BoolMap, components, extent, mask_iou
from objloc_ros.scenes.compose import Bank, Camera, random_scene, render
from objloc_ros.scenes.motion import render_video
from objloc_ros.scenes.video import drive_video
from objloc_ros.types import Image

SEED, SIZE = 9000, (240, 320)
ASPECT, SIZES = SIZE[1] / SIZE[0], (0.25, 0.6)
SHOWN_AREA, SOUGHT_AREA, REGION_AREA = 0.015, 0.008, 0.003
HIT_IOU = 0.5
KINDS = ("motion", "drive", "elsewhere")

Frames = list[tuple[Image, Image]]
"""RGB uint8 [H, W, 3] and identities uint8 [H, W] each; the first is the one to show an object in."""


def main() -> None:
    """Print the table and, if asked to, write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="one video of each kind")
    parser.add_argument("--backbone", default="tiny", help="by its name in the weights registry (default: tiny)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here too")
    args = parser.parse_args()
    torch.set_num_threads(1)
    pipeline = load_pipeline(("maskclip",), args.backbone, "cpu")
    scores = {kind: score(pipeline, make_frames(kind, 1 if args.smoke else 24)) for kind in KINDS}
    rows = [[kind, *(round(value, 3) for value in row.values())] for kind, row in scores.items()]
    print(machine(), text_table([["", *scores["motion"]], *rows], left=1), sep="\n")
    costs = measure_costs(pipeline, rounds=3 if args.smoke else 30)
    print(", ".join(f"{count} exemplar(s) add {cost:.1f} ms" for count, cost in costs.items()), "to a frame of 640x480")
    if args.json:
        write_json(args.json, machine=machine(), scores=scores, costs_ms=costs)


def make_frames(kind: str, count: int) -> Iterator[Frames]:
    """Make so many videos or groups of scenes of a kind."""
    rng = np.random.default_rng(SEED)
    bank = Bank(SEED + 1, backgrounds=8 * count, sprites=15 * count)
    for number in range(count):
        if kind == "drive":
            video = list(drive_video(seed=SEED + number, size=SIZE, frames=57))
            yield [video[i] for i in (30, 34, 40, 46, 56)]
            continue
        scene = random_scene(rng, bank, aspect=ASPECT, counts=(0, 0.3, 0.4, 0.3), sizes=SIZES)
        if kind == "motion":
            video = list(render_video(rng, bank, scene, SIZE, frames=31, camera=Camera(strength=0.6)))
            yield [video[i] for i in (0, 8, 16, 30)]
            continue
        frames = [render(rng, bank, scene, SIZE, camera=Camera(strength=0.3))]
        for _ in range(4):
            other = random_scene(rng, bank, aspect=ASPECT, counts=(0, 0, 1), sizes=SIZES)
            same = [
                replace(place, index=thing.index, colours=thing.colours, aspect=thing.aspect, mirrored=thing.mirrored)
                for place, thing in zip(other.objects, scene.objects, strict=False)
            ]
            mixed = replace(other, objects=(*same, *other.objects[len(same) :]))
            image, identities = render(rng, bank, mixed, SIZE, camera=Camera(strength=0.3))
            frames.append((image, np.where(identities <= len(same), identities, 0)))
        yield frames


def score(pipeline: Pipeline, groups: Iterator[Frames]) -> dict[str, float]:
    """Show each object of each first frame, and look for it in the others."""
    hits, regions, objects, absent, false_area, overlaps = 0, 0, 0, 0, 0.0, []
    for (shown, identities), *others in groups:
        for identity in np.unique(identities[identities > 0]):
            truth = identities == identity
            box = extent(truth)
            if truth.mean() < SHOWN_AREA or box is None:
                continue
            exemplar = pipeline.learn_exemplar(shown, box)
            pipeline.use_prompts(pipeline.encode_prompts(["object"], exemplars={"shown": exemplar}))
            for image, present in others:
                truth = present == identity
                if 0 < truth.mean() < SOUGHT_AREA:
                    continue
                found = find(pipeline, image)
                hit, number = match(found, truth)
                hits, regions = hits + hit, regions + number
                if truth.any():
                    objects += 1
                    overlaps.append(mask_iou(found, truth))
                else:
                    absent, false_area = absent + 1, false_area + float(found.mean())
    return {
        "precision": hits / max(1, regions),
        "recall": hits / max(1, objects),
        "mask IoU": float(np.mean(overlaps)) if overlaps else 0.0,
        "frames": objects,
        "without it": absent,
        "area there": false_area / max(1, absent),
    }


def measure_costs(pipeline: Pipeline, rounds: int) -> dict[int, float]:
    """Return the median milliseconds that exemplars take of a frame beside everything else, by their number."""
    image, _ = next(drive_video(seed=SEED, size=(480, 640), frames=1))
    exemplar = pipeline.learn_exemplar(image, (200, 200, 300, 300))
    features, (geometry,) = pipeline.backbone.encode([image])
    maps = torch.ones(geometry.resized, dtype=torch.int64), torch.zeros(geometry.resized)
    costs = {}
    for count in (1, 8):
        mark = partial(mark_exemplars, *maps, [exemplar] * count, image, features, geometry, first=2)
        costs[count] = float(np.median([wall_ms(mark) for _ in range(rounds)]))
    return costs


def find(pipeline: Pipeline, image: Image) -> BoolMap:
    """Return the pixels of the exemplar's class, bool [H, W]."""
    result = pipeline.run(image)["maskclip"]
    labels = pipeline.labels
    assert labels is not None
    return np.asarray(result.label_map() == labels.ids[-1])


def match(found: BoolMap, truth: BoolMap) -> tuple[int, int]:
    """Return whether a region hits the object, and the number of regions."""
    regions = components(found)
    boxes = regions.boxes[regions.areas >= REGION_AREA * found.size]
    box = extent(truth)
    if box is None or not len(boxes):
        return 0, len(boxes)
    overlaps = iou(boxes.astype(np.float32), np.array([box], np.float32))
    return int((overlaps >= HIT_IOU).any()), len(boxes)


if __name__ == "__main__":
    main()
