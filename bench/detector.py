"""The token detector beside the methods that taught it: quality on held-out scenes, and the time beyond the backbone.

Labels of MaskCut and three detectors learned from them; the same from LOST, which finds one object per image, with
copy-paste; and the study of both, minutes per seed on two cores:

    objloc train detector --teacher maskcut --seed 0 --out training/maskcut_0
    for seed in 1 2; do objloc train detector --labels training/maskcut_0/labels/maskcut \
        --images training/maskcut_0/images --seed $seed --out training/maskcut_$seed; done
    objloc train detector --teacher lost --pastes 2 --seed 0 --out training/lost_0
    for seed in 1 2; do objloc train detector --labels training/lost_0/labels/lost \
        --images training/lost_0/images --pastes 2 --seed $seed --out training/lost_$seed; done
    python bench/detector.py --detectors training/maskcut_?/tiny_detector.safetensors \
        --one-object training/lost_?/tiny_detector.safetensors --out detector.md

    python bench/detector.py --smoke       8 scenes and the registered detector, which shows that everything runs

Each seed has scenes of its own, from pictures that no training sees, and one detector of each kind. All rows of a seed
are of the same images and the same passes of the backbone. Times are processor time of one thread, of one image at a
time, from the features to boxes and masks at pixels. Nothing is asserted about time.
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch
from harness import machine
from threadpoolctl import threadpool_limits
from tqdm import tqdm

from objloc_ros.backbones.weights import load_backbone
from objloc_ros.engine.backbone import Backbone
from objloc_ros.engine.heads.detector import DetectorHead
from objloc_ros.engine.heads.discovery import DiscoveryHead
from objloc_ros.engine.results import Batch, Head, HeadResult
from objloc_ros.evaluation.held_out_scenes import SEED, HeldOutScene, make_scenes
from objloc_ros.io.rle import encode
from objloc_ros.io.tables import markdown_table
from objloc_ros.methods.detector_file import find_detector, load_detector
from objloc_ros.methods.options import DetectorOptions
from objloc_ros.methods.token_detector import TokenDetector
from objloc_ros.metrics import AveragePrecision, ScoredImage
from objloc_ros.options import Options
from objloc_ros.types import Features

COLUMNS = {"ap": "AP", "ap50": "AP50", "ar100": "AR100", "recall50": "recall50"}

TAUGHT, FROM_LOST = "detector", "detector from LOST"
TEACHER, ONE_OBJECT_TEACHER = "MaskCut", "LOST"
RANDOM_TOKENS, UNTRAINED = "random tokens", "untrained detector"

LEAST_SCORE = 0.05
"""Detections of detectors with lower scores are left out: precision at every recall wants the weak guesses, too."""

SEED_STEP = 10
"""Distance of the scenes' seeds; one bank of pictures has seed + 1."""

SMALLEST_RATIO, SMALLEST_RECALL_RATIO, LARGEST_BASELINE, LARGEST_MS = 0.95, 1.3, 0.2, 12.0
"""What the project aims at: of MaskCut's AP50 and AR100, of LOST's recall, of the baselines and of one core's time."""

Scores = dict[str, dict[str, float]]
"""Figures by row."""


def main() -> None:
    """Measure seed by seed, print the tables and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    files = {"nargs": "+", "type": Path, "metavar": "FILE", "default": []}
    parser.add_argument(
        "--detectors", help="detectors that MaskCut taught, one per seed (default: registered)", **files
    )
    parser.add_argument("--one-object", help="detectors that LOST taught, of the first seeds (default: none)", **files)
    parser.add_argument("--backbone", default="tiny", help="whose tokens they read (default: %(default)s)")
    parser.add_argument("--scenes", type=int, help="scenes per seed (default: 300; in a smoke run 8)")
    parser.add_argument("--smoke", action="store_true", help="few scenes, seconds in all")
    parser.add_argument("--seed", type=int, default=SEED, help="of the first seed's scenes (default: %(default)s)")
    parser.add_argument("--out", type=Path, metavar="FILE.md", help="write the tables here, too")
    args = parser.parse_args()
    scenes = args.scenes or (8 if args.smoke else 300)
    detectors = args.detectors or [find_detector(args.backbone)]
    if len(args.one_object) > len(detectors):
        parser.error(f"--one-object must name at most as many files as --detectors, {len(detectors)}")
    torch.set_num_threads(1)
    where = f"{datetime.now(UTC):%Y-%m-%d}, {machine()}"  # before the load that the study makes
    vit = load_backbone(args.backbone)
    backbone = Backbone(vit, name=args.backbone, device=torch.device("cpu"), short_side=vit.spec.short_side)
    boxes, masks = [], []
    with threadpool_limits(1), tqdm(total=scenes * len(detectors), unit="scene", disable=None) as bar:
        for number, file in enumerate(detectors):
            heads = make_heads(backbone, file, next(iter(args.one_object[number:]), None))
            held_out = make_scenes(scenes, args.seed + SEED_STEP * number)
            of_boxes, of_masks = evaluate(backbone, heads, held_out, bar)
            boxes.append(of_boxes)
            masks.append(of_masks)
    text = report(where, scenes, boxes, masks)
    print(text)
    if args.out:
        args.out.write_text(text + "\n")


class OnRandomTokens:
    """A detector that is shown noise with the statistics of the tokens that it knows.

    Args:
        head: The detector.
        mean: float32 [C] of the tokens.
        std: float32 [C] of the tokens.
    """

    def __init__(self, head: DetectorHead, mean: torch.Tensor, std: torch.Tensor) -> None:
        self.default_options = head.default_options
        self._head, self._mean, self._std = head, mean, std
        self._generator = torch.Generator().manual_seed(0)

    def reads_features(self, options: object) -> bool:
        """Return True."""
        return True

    def __call__(self, batch: Batch, options: object) -> Sequence[HeadResult]:
        """Return the result of each image."""
        features = batch.require_features()
        noise = torch.randn(features.keys.shape, generator=self._generator) * self._std + self._mean
        replaced = Features(noise, noise, noise, features.cls_attention, features.grid)
        return self._head(replace(batch, features=replaced), options)  # type: ignore[arg-type]


def make_heads(backbone: Backbone, taught: Path, from_lost: Path | None) -> dict[str, Head]:
    """Make the head of each row."""
    detector, info = load_detector(taught)
    info.check_backbone(backbone.name, backbone.vit)
    torch.manual_seed(0)
    untrained = TokenDetector(detector.channels).eval().requires_grad_(False)
    untrained.mean.copy_(detector.mean)
    untrained.std.copy_(detector.std)
    torch.nn.init.zeros_(untrained.objectness.bias)  # else nothing is above the threshold
    head = DetectorHead(detector, info)
    heads: dict[str, Head] = {
        TEACHER: DiscoveryHead("maskcut"),
        ONE_OBJECT_TEACHER: DiscoveryHead("lost"),
        TAUGHT: head,
        RANDOM_TOKENS: OnRandomTokens(head, detector.mean, detector.std),
        UNTRAINED: DetectorHead(untrained, replace(info, classes=untrained.classes)),
    }
    if from_lost is not None:
        pupil, its_info = load_detector(from_lost)
        its_info.check_backbone(backbone.name, backbone.vit)
        heads[FROM_LOST] = DetectorHead(pupil, its_info)
    return heads


@torch.inference_mode()
def evaluate(
    backbone: Backbone, heads: Mapping[str, Head], scenes: Iterator[HeldOutScene], bar: tqdm
) -> tuple[Scores, Scores]:
    """Run every head on every scene: the figures of boxes and of masks by row, with "ms" of one core and "found"."""
    metrics = {row: (AveragePrecision(), AveragePrecision("segm")) for row in heads}
    spent_s, found = defaultdict[str, list[float]](list), defaultdict[str, int](int)
    count = 0
    for scene in scenes:
        features, geometries = backbone.encode([scene.image])
        batch = Batch([scene.image], geometries, features)
        for row, head in heads.items():
            options = choose_options(head)
            start = time.process_time()
            (result,) = head(batch, options)
            spent_s[row].append(time.process_time() - start)
            found[row] += len(result.detections)
            judged = compare(result, scene)
            for metric in metrics[row]:
                metric.update(judged)
        count += 1
        bar.update()
    tables: list[Scores] = []
    for kind in range(2):
        tables.append({row: metrics[row][kind].compute() for row in heads})
        for row, figures in tables[-1].items():
            figures |= {"ms": 1e3 * float(np.median(spent_s[row])), "found": found[row] / count}
    return tables[0], tables[1]


def choose_options(head: Head) -> Options:
    """Return a head's defaults, but without refinement of masks, and of detectors the weak guesses, too."""
    options: Options = replace(head.default_options, post="none")
    return replace(options, threshold=LEAST_SCORE) if isinstance(options, DetectorOptions) else options


def compare(result: HeadResult, scene: HeldOutScene) -> ScoredImage:
    """Put what was found beside what is there: boxes, and masks as they are published."""
    instances = result.instances_u16()
    return ScoredImage(
        boxes=result.detections.boxes,
        scores=result.detections.scores,
        truth=scene.boxes(),
        masks=[encode(instances == number) for number in range(1, len(result.detections) + 1)],
        true_masks=[encode(scene.identities == number) for number in np.unique(scene.identities) if number],
    )


def report(where: str, scenes: int, boxes: Sequence[Scores], masks: Sequence[Scores]) -> str:
    """Return the tables in Markdown: means of the seeds, each seed, and what was aimed at."""
    means = average(boxes)
    lines = [
        f"{where}; {len(boxes)} x {scenes} held-out scenes of one to three objects; masks unrefined.",
        "",
        "Mean of the seeds, boxes:",
        make_table({"": means}, time_too=True),
        "",
        "Masks:",
        make_table({"": average(masks)}),
        "",
        "Each seed, boxes:",
        make_table({f", {number}": scores for number, scores in enumerate(boxes)}),
        "",
        *judge(means),
    ]
    return "\n".join(lines)


def average(seeds: Sequence[Scores]) -> Scores:
    """Return the mean of each figure over the seeds that have the row, all of which the first seed has."""
    return {
        row: {name: float(np.mean([scores[row][name] for scores in seeds if row in scores])) for name in figures}
        for row, figures in seeds[0].items()
    }


def make_table(scores: Mapping[str, Scores], *, time_too: bool = False) -> str:
    """Make a Markdown table; the keys of `scores` are put behind the rows' names."""
    more = {"found": "objects per image", "ms": "ms of one core"} if time_too else {}
    rows = [
        [f"{row}{suffix}", *(f"{figures[name]:.3f}" for name in COLUMNS), *(f"{figures[name]:.1f}" for name in more)]
        for suffix, of_rows in scores.items()
        for row, figures in of_rows.items()
    ]
    return markdown_table(["", *COLUMNS.values(), *more.values()], rows, left=1)


def judge(means: Scores) -> Iterator[str]:
    """Say of each aim what was reached."""
    for name in ("ap50", "ar100"):
        ratio = means[TAUGHT][name] / max(means[TEACHER][name], 1e-9)
        yield _judge(f"{COLUMNS[name]} of the detector / MaskCut's", ratio, ratio >= SMALLEST_RATIO, SMALLEST_RATIO)
    if FROM_LOST in means:
        ratio = means[FROM_LOST]["recall50"] / max(means[ONE_OBJECT_TEACHER]["recall50"], 1e-9)
        reached = ratio > SMALLEST_RECALL_RATIO
        yield _judge("recall50 of the detector from LOST / LOST's", ratio, reached, SMALLEST_RECALL_RATIO)
    for row in (RANDOM_TOKENS, UNTRAINED):
        value = means[row]["ap50"]
        yield _judge(f"AP50 of {row}", value, value < LARGEST_BASELINE, LARGEST_BASELINE, "below")
    spent = means[TAUGHT]["ms"]
    yield _judge(
        "ms of one core for the detector beyond the backbone", spent, spent <= LARGEST_MS, LARGEST_MS, "at most"
    )


def _judge(what: str, value: float, reached: bool, aim: float, word: str = "at least") -> str:
    return f"- {what}: {value:.3f}, {'' if reached else 'not '}{word} {aim:g}"


if __name__ == "__main__":
    main()
