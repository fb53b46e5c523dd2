"""Quality on held-out procedural scenes, whose truth is exact and which anyone can make again from a seed.

On videos of such scenes: how discovery agrees with itself over the frames, with and without its temporal mode.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from objloc_ros.backbones.vit import build_vit
from objloc_ros.engine.backbone import Backbone, Encoded
from objloc_ros.engine.heads.discovery import METHODS, result
from objloc_ros.engine.pipeline import Pipeline
from objloc_ros.engine.temporal import Memory, Tracker
from objloc_ros.methods.found import background_mask
from objloc_ros.metrics import Scored, coco_metrics, iou, is_hit, steadiness
from objloc_ros.ops.geometry import Geometry, map_to_source, to_input
from objloc_ros.scenes.compose import Bank, Camera, random_scene, render
from objloc_ros.scenes.motion import moving
from objloc_ros.types import Detections, Features, Image, Size, size_of

SEED = 2026
"""Seed of the published figures; training uses the seeds below 1000."""

SIZE: Size = (240, 320)

COUNTS = (0.4, 0.35, 0.25)
"""Probability of one, two and three objects."""

BATCH = 10

Scores = dict[str, float]

T = TypeVar("T")


@dataclass(frozen=True)
class HeldOut:
    """One scene: RGB uint8 [H, W, 3] and identities uint8 [H, W], 0 for the ground."""

    image: Image
    identities: Image

    def boxes(self) -> npt.NDArray[np.int64]:
        """Boxes [n, 4] of what is visible of each object, max side exclusive."""
        present = [i for i in np.unique(self.identities) if i]
        extents = [(self.identities == i).nonzero() for i in present]
        return np.array([[x.min(), y.min(), x.max() + 1, y.max() + 1] for y, x in extents]).reshape(-1, 4)


def held_out_scenes(count: int, seed: int = SEED) -> Iterator[HeldOut]:
    """One to three objects per scene, from backgrounds and sprites that no training sees."""
    rng = np.random.default_rng(seed)
    bank = Bank(seed + 1, backgrounds=200, sprites=500)
    for _ in range(count):
        scene = random_scene(rng, bank, aspect=SIZE[1] / SIZE[0], counts=COUNTS, sizes=(0.25, 0.8))
        yield HeldOut(*render(rng, bank, scene, SIZE, camera=Camera(strength=0.6)))


def evaluate_pipeline(
    pipeline: Pipeline, scenes: Iterable[HeldOut], on_progress: Callable[[int], None] = lambda done: None
) -> Scores:
    """Score the discovery methods and FOUND on one backbone.

    Args:
        pipeline: With the head "found", whose options are those in force, or without it.
        scenes: What to score on.
        on_progress: Called with the number of scenes done.

    Returns:
        Fractions in [0, 1]. Under the name of each discovery method its CorLoc: how often the box of highest score hits
        an object. "maskcut_ap50", "maskcut_ar" and "maskcut_recall50" on the scenes of several objects
        (`metrics.coco_metrics`). "found" is the mean IoU of FOUND's mask with the union of the objects, "background"
        that of the complement of FOUND's discovered ground, before any head.
    """
    meters = _Meters()
    for batch in batches(scenes, BATCH):
        images = [scene.image for scene in batch]
        encoded = pipeline.backbone.encode(images)
        meters.discovery(encoded.features, encoded.geometries, batch)
        meters.ground(encoded, batch, pipeline.backbone.vit.n_heads)
        if "found" in pipeline.methods:
            for scene, answer in zip(batch, pipeline.run(images), strict=True):
                meters.add("found", _iou(answer["found"].mask_u8() > 0, scene.identities > 0))
        on_progress(meters.count)
    return meters.scores()


def evaluate_baselines(
    pipeline: Pipeline, scenes: Sequence[HeldOut], on_progress: Callable[[int], None] = lambda done: None
) -> dict[str, Scores]:
    """Score what needs no training, at the sizes of `pipeline`.

    Returns:
        "random ViT": the same architecture with random weights, its keys centred, which helps them; "colour patches":
        mean and standard deviation of each patch's colours, centred, for the methods that need no attention.
    """
    torch.manual_seed(0)
    untrained = build_vit(pipeline.backbone.name).eval().to(pipeline.device)
    random = Backbone(untrained, name="random", device=pipeline.device, short_side=pipeline.backbone.short_side)
    meters = {"random ViT": _Meters(), "colour patches": _Meters()}
    for batch in batches(scenes, BATCH):
        encoded = random.encode([scene.image for scene in batch])
        meters["random ViT"].discovery(_with_keys(encoded.features, encoded.features.keys), encoded.geometries, batch)
        meters["random ViT"].ground(encoded, batch, untrained.n_heads)
        colours = torch.cat([_colours(scene.image, pipeline) for scene in batch])
        features = _with_keys(encoded.features, colours)
        meters["colour patches"].discovery(features, encoded.geometries, batch, attention=False)
        on_progress(meters["colour patches"].count)
    return {name: meter.scores() for name, meter in meters.items()}


class _Meters:
    """Sums of per-scene scores, and the boxes of scenes of several objects."""

    def __init__(self) -> None:
        self.count = 0
        self._scores: dict[str, list[float]] = {}
        self._several: list[Scored] = []

    def add(self, name: str, score: float) -> None:
        self._scores.setdefault(name, []).append(score)

    def scores(self) -> Scores:
        scores = {name: float(np.mean(each)) for name, each in self._scores.items()}
        metrics = coco_metrics(self._several)
        return {**scores, **{f"maskcut_{name}": metrics[name] for name in ("ap50", "ar", "recall50")}}

    def discovery(
        self, features: Features, geometries: Sequence[Geometry], batch: Sequence[HeldOut], *, attention: bool = True
    ) -> None:
        for method, (options, find) in METHODS.items():
            if method == "dino_seg" and not attention:
                continue
            each = zip(find(features, options()), features.keys, geometries, batch, strict=True)
            for objects, keys, geometry, scene in each:
                found = result(objects, keys, scene.image, geometry).detections
                truth = scene.boxes()
                self.add(method, is_hit(next(iter(found.boxes.tolist()), None), truth))
                if method == "maskcut" and len(truth) > 1:
                    self._several.append(Scored(found.boxes, found.scores, truth))
        self.count += len(batch)

    def ground(self, encoded: Encoded, batch: Sequence[HeldOut], n_heads: int) -> None:
        features = encoded.features
        ground = background_mask(features.keys, features.cls_attention, features.grid, n_heads=n_heads)
        for mask, geometry, scene in zip(~ground, encoded.geometries, batch, strict=True):
            self.add("background", _iou(_patches_to_source(mask, geometry), scene.identities > 0))


def _patches_to_source(mask: Tensor, geometry: Geometry) -> npt.NDArray[np.bool_]:
    pixels = mask.cpu().numpy().repeat(geometry.patch, 0).repeat(geometry.patch, 1)
    return map_to_source(pixels[: geometry.resized[0], : geometry.resized[1]], geometry)


def _iou(predicted: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> float:
    union = np.count_nonzero(predicted | truth)
    return np.count_nonzero(predicted & truth) / union if union else 1.0


def _with_keys(features: Features, keys: Tensor) -> Features:
    """The same grid and attention with other keys, centred."""
    keys = keys - keys.mean(1, keepdim=True)
    return Features(keys, keys, keys, features.cls_attention, features.grid)


def _colours(image: Image, pipeline: Pipeline) -> Tensor:
    """Mean and standard deviation of each patch's normalised colours: float32 [1, N, 6]."""
    geometry = pipeline.geometry(size_of(image))
    pixels = to_input(image, geometry, pipeline.backbone.vit.mean, pipeline.backbone.vit.std, "cpu")
    patches = torch.nn.functional.unfold(pixels, geometry.patch, stride=geometry.patch).unflatten(1, (3, -1))
    return torch.cat([patches.mean(2), patches.std(2)], dim=1).transpose(1, 2)


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of up to `size` items in order."""
    source = iter(items)
    while batch := list(islice(source, size)):
        yield batch


FRAMES = 24

VISIBLE = 0.01
"""Objects that cover less of the picture than this are not looked for."""

LAGS = range(4)
"""Frames by which answers are tried against earlier truth."""


def held_out_videos(count: int, seed: int = SEED) -> Iterator[list[HeldOut]]:
    """Videos of `FRAMES` frames, one to three objects each, from pictures that no training sees."""
    rng = np.random.default_rng(seed + 2)
    bank = Bank(seed + 1, backgrounds=200, sprites=500)
    for _ in range(count):
        scene = random_scene(rng, bank, aspect=SIZE[1] / SIZE[0], counts=COUNTS, sizes=(0.25, 0.7))
        film = moving(rng, bank, scene, SIZE, frames=FRAMES, camera=Camera(strength=0.6))
        yield [HeldOut(*frame) for frame in film]


@dataclass
class Steadiness(steadiness.Steadiness):
    """Counts over videos.

    Args:
        lagging: Per lag in frames, the sum of each found object's IoU with its box of so many frames before.

    The others are as in `metrics.steadiness`.
    """

    lagging: dict[int, float] = field(default_factory=lambda: dict.fromkeys(LAGS, 0.0))

    def figures(self) -> dict[str, float]:
        """Fractions "recall", "precision" and "flicker"; "switches" per 100 objects found; "lag" in frames.

        The lag is the number of frames by which the truth must be delayed to fit the boxes best.
        """
        return super().figures() | {"lag": float(max(self.lagging, key=lambda lag: self.lagging[lag]))}

    def count(self, video: Sequence[HeldOut], answers: Sequence[tuple[Detections, Sequence[str]]]) -> None:
        """Add a video, with the detections and ids of each frame."""
        self.cut()
        truths = [_visible(frame.identities) for frame in video]
        for t, (truth, (detections, ids)) in enumerate(zip(truths, answers, strict=True)):
            for identity, best in self.add(truth, detections.boxes, ids).items():
                self._count_lags(detections.boxes[best], [past.get(identity) for past in truths[t::-1]])

    def _count_lags(self, box: np.ndarray, past: Sequence[Sequence[int] | None]) -> None:
        """Compare a box with its object's box now, one frame ago, ...; beyond the oldest one, with that."""
        boxes = [one for one in past[: len(LAGS)] if one is not None]
        for lag in LAGS:
            then = np.array([boxes[min(lag, len(boxes) - 1)]])
            self.lagging[lag] += float(iou(box[None], then)[0, 0])


def evaluate_videos(
    pipeline: Pipeline,
    methods: Sequence[str],
    videos: Iterable[Sequence[HeldOut]],
    on_progress: Callable[[], None] = lambda: None,
) -> dict[str, dict[str, dict[str, float]]]:
    """Run discovery methods over videos, each frame by itself and with a memory of earlier frames.

    Returns:
        Per method, under "frame by frame" and "temporal", the figures of `Steadiness`.
    """
    modes = ("frame by frame", "temporal")
    counts = {method: {mode: Steadiness() for mode in modes} for method in methods}
    for video in videos:
        images = [frame.image for frame in video]
        alone = [result.heads for result in pipeline.run(images, methods)]
        memories = {method: Memory() for method in methods}
        together = [pipeline.follow(image, memories).heads for image in images]
        for method in methods:
            for mode, results in zip(modes, (alone, together), strict=True):
                answers = _named([result[method].detections for result in results], images)
                counts[method][mode].count(video, answers)
        on_progress()
    return {method: {mode: each.figures() for mode, each in both.items()} for method, both in counts.items()}


def _named(detections: Sequence[Detections], images: Sequence[Image]) -> list[tuple[Detections, tuple[str, ...]]]:
    tracker = Tracker()
    return [(each, tracker.update(each, size_of(image))) for each, image in zip(detections, images, strict=True)]


def _visible(identities: Image) -> dict[Hashable, list[int]]:
    """Boxes of the objects that are large enough to look for, by identity."""
    sizes = np.bincount(identities.ravel())
    boxes: dict[Hashable, list[int]] = {}
    for identity in np.flatnonzero(sizes >= VISIBLE * identities.size):
        if identity:
            y, x = (identities == identity).nonzero()
            boxes[int(identity)] = [int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1]
    return boxes
