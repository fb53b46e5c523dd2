"""Quality on held-out procedural scenes, whose truth is exact and which anyone can make again from a seed.

On videos of such scenes: how discovery agrees with itself over the frames, with and without its temporal mode.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from objloc_ros.backbones.vit import build_vit
from objloc_ros.engine.backbone import Backbone, Encoded
from objloc_ros.engine.heads.discovery import METHODS, score_objects
from objloc_ros.engine.pipeline import Pipeline
from objloc_ros.engine.video_tracker import VideoOptions, VideoTracker
from objloc_ros.methods.found_network import background_mask
from objloc_ros.methods.options import PATCH_METHODS
from objloc_ros.metrics import AveragePrecision, CorLoc, Mean, Metric, ScoredImage, Steadiness, iou
from objloc_ros.metrics.base import VideoMetric
from objloc_ros.metrics.steadiness import match_boxes
from objloc_ros.ops.boxes import Boxes
from objloc_ros.ops.geometry import Geometry, map_to_source
from objloc_ros.ops.inputs import to_input
from objloc_ros.ops.regions import BoolMap, mask_iou
from objloc_ros.scenes.compose import Bank, Camera, random_scene, render
from objloc_ros.scenes.motion import render_video
from objloc_ros.types import Detections, Features, Image, Size, size_of

SEED = 2026
"""Seed of the published figures; training uses the seeds below 1000."""

SIZE: Size = (240, 320)

COUNT_PROBABILITIES = (0.4, 0.35, 0.25)
"""Probability of one, two and three objects."""

BATCH_IMAGES = 10

Scores = dict[str, float]

T = TypeVar("T")


@dataclass(frozen=True)
class HeldOutScene:
    """One scene: RGB uint8 [H, W, 3] and identities uint8 [H, W], 0 for the background."""

    image: Image
    identities: Image

    def boxes(self) -> npt.NDArray[np.int64]:
        """Return boxes [n, 4] of what is visible of each object, max side exclusive."""
        present = [i for i in np.unique(self.identities) if i]
        extents = [(self.identities == i).nonzero() for i in present]
        return np.array([[x.min(), y.min(), x.max() + 1, y.max() + 1] for y, x in extents]).reshape(-1, 4)


def make_scenes(count: int, seed: int = SEED) -> Iterator[HeldOutScene]:
    """Make scenes of one to three objects, from backgrounds and sprites that no training sees."""
    rng = np.random.default_rng(seed)
    bank = Bank(seed + 1, backgrounds=200, sprites=500)
    for _ in range(count):
        scene = random_scene(rng, bank, aspect=SIZE[1] / SIZE[0], counts=COUNT_PROBABILITIES, sizes=(0.25, 0.8))
        yield HeldOutScene(*render(rng, bank, scene, SIZE, camera=Camera(strength=0.6)))


def evaluate_pipeline(
    pipeline: Pipeline, scenes: Iterable[HeldOutScene], on_progress: Callable[[int], None] = lambda done: None
) -> Scores:
    """Score the discovery methods and FOUND on one backbone.

    Args:
        pipeline: With the head "found", whose options are those in force, or without it.
        scenes: What to score on.
        on_progress: Called with the number of scenes done.

    Returns:
        `SceneMetrics.compute()`.
    """
    metrics = SceneMetrics()
    for batch in batches(scenes, BATCH_IMAGES):
        images = [scene.image for scene in batch]
        encoded = pipeline.backbone.encode(images)
        detections = _find_objects(encoded.features, encoded.geometries, images)
        masks = [{"background": mask} for mask in _find_foregrounds(encoded, pipeline.backbone.vit.n_heads)]
        if "found" in pipeline.methods:
            for scene_masks, result in zip(masks, pipeline.run(images), strict=True):
                scene_masks["found"] = result["found"].mask_u8() > 0
        for scene, scene_detections, scene_masks in zip(batch, detections, masks, strict=True):
            metrics.update(scene, scene_detections, scene_masks)
        on_progress(metrics.scenes)
    return metrics.compute()


def evaluate_baselines(
    pipeline: Pipeline, scenes: Sequence[HeldOutScene], on_progress: Callable[[int], None] = lambda done: None
) -> dict[str, Scores]:
    """Score what needs no training, at the sizes of `pipeline`.

    Returns:
        "random ViT": the same architecture with random weights, its keys centred, which helps them; "colour patches":
        mean and standard deviation of each patch's colours, centred, for the methods that need no attention.
    """
    torch.manual_seed(0)
    backbone = pipeline.backbone
    untrained = build_vit(backbone.name).eval().to(backbone.device)
    random = Backbone(untrained, name="random", device=backbone.device, short_side=backbone.short_side)
    vit_metrics, colour_metrics = SceneMetrics(), SceneMetrics()
    for batch in batches(scenes, BATCH_IMAGES):
        images = [scene.image for scene in batch]
        encoded = random.encode(images)
        features = _replace_keys(encoded.features, encoded.features.keys)
        detections = _find_objects(features, encoded.geometries, images)
        for scene, boxes, mask in zip(batch, detections, _find_foregrounds(encoded, untrained.n_heads), strict=True):
            vit_metrics.update(scene, boxes, {"background": mask})
        colours = torch.cat([_describe_colours(image, pipeline) for image in images])
        features = _replace_keys(encoded.features, colours)
        for scene, boxes in zip(
            batch, _find_objects(features, encoded.geometries, images, attention=False), strict=True
        ):
            colour_metrics.update(scene, boxes, {})
        on_progress(colour_metrics.scenes)
    return {"random ViT": vit_metrics.compute(), "colour patches": colour_metrics.compute()}


class SceneMetrics(Metric):
    """Figures of held-out scenes."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all scenes."""
        self.scenes = 0
        self._corloc: defaultdict[str, CorLoc] = defaultdict(CorLoc)
        self._mask_iou: defaultdict[str, Mean] = defaultdict(Mean)
        self._precision = AveragePrecision()

    def update(self, scene: HeldOutScene, detections: Mapping[str, Detections], masks: Mapping[str, BoolMap]) -> None:
        """Add a scene.

        Args:
            scene: With its truth.
            detections: Of each discovery method, best first.
            masks: Of everything that separates objects from the background, bool [H, W].
        """
        self.scenes += 1
        truth = scene.boxes()
        for method, found in detections.items():
            self._corloc[method].update([next(iter(found.boxes.tolist()), None)], [truth])
            if method == "maskcut" and len(truth) > 1:
                self._precision.update(ScoredImage(found.boxes, found.scores, truth))
        for name, mask in masks.items():
            self._mask_iou[name].update(mask_iou(mask, scene.identities > 0))

    def compute(self) -> Scores:
        """Return fractions in [0, 1].

        Under the name of each discovery method its CorLoc: how often the box of highest score hits an object.
        "maskcut_ap50", "maskcut_ar" and "maskcut_recall50" on the scenes of several objects (`AveragePrecision`).
        "found" is the mean IoU of FOUND's mask with the union of the objects, "background" that of the complement of
        FOUND's discovered background, before any head.
        """
        precision = self._precision.compute()
        scores = {name: metric.compute() for name, metric in (*self._corloc.items(), *self._mask_iou.items())}
        names = {"ap50": "ap50", "ar": "ar100", "recall50": "recall50"}
        return scores | {f"maskcut_{name}": precision[figure] for name, figure in names.items()}


def _find_objects(
    features: Features, geometries: Sequence[Geometry], images: Sequence[Image], *, attention: bool = True
) -> list[dict[str, Detections]]:
    """Run all discovery methods: the detections of each image by method, of those that need no attention if asked."""
    detections: list[dict[str, Detections]] = [{} for _ in images]
    for method, find in METHODS.items():
        if method in ("dino_seg", "vote") and not attention:
            continue
        found = score_objects(find(features, PATCH_METHODS[method]()), features.keys, images, geometries)
        for of_image, result in zip(detections, found, strict=True):
            of_image[method] = result.detections
    return detections


def _find_foregrounds(encoded: Encoded, n_heads: int) -> list[BoolMap]:
    """Find the complement of FOUND's background in each image, bool [H, W] at the size of the image."""
    features = encoded.features
    background = background_mask(features.keys, features.cls_attention, features.grid, n_heads=n_heads)
    return [_patches_to_source(mask, geo) for mask, geo in zip(~background, encoded.geometries, strict=True)]


def _patches_to_source(mask: Tensor, geometry: Geometry) -> BoolMap:
    pixels = mask.cpu().numpy().repeat(geometry.patch, 0).repeat(geometry.patch, 1)
    return map_to_source(pixels[: geometry.resized[0], : geometry.resized[1]], geometry)


def _replace_keys(features: Features, keys: Tensor) -> Features:
    """Keep grid and attention, with other keys, centred."""
    keys = keys - keys.mean(1, keepdim=True)
    return Features(keys, keys, keys, features.cls_attention, features.grid)


def _describe_colours(image: Image, pipeline: Pipeline) -> Tensor:
    """Compute mean and standard deviation of each patch's normalised colours: float32 [1, N, 6]."""
    geometry = pipeline.geometry(size_of(image))
    pixels = to_input(image, geometry, pipeline.backbone.vit.mean, pipeline.backbone.vit.std)
    patches = torch.nn.functional.unfold(pixels, geometry.patch, stride=geometry.patch).unflatten(1, (3, -1))
    return torch.cat([patches.mean(2), patches.std(2)], dim=1).transpose(1, 2)


def batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut items into lists of up to `size`, in order."""
    source = iter(items)
    while batch := list(islice(source, size)):
        yield batch


VIDEO_FRAMES = 24

MIN_VISIBLE_FRACTION = 0.01
"""Objects that cover less of the picture than this are not looked for."""

LAGS = range(4)
"""Frames by which predictions are compared with earlier truth."""


def make_videos(count: int, seed: int = SEED) -> Iterator[list[HeldOutScene]]:
    """Make videos of `VIDEO_FRAMES` frames, one to three objects each, from pictures that no training sees."""
    rng = np.random.default_rng(seed + 2)
    bank = Bank(seed + 1, backgrounds=200, sprites=500)
    for _ in range(count):
        scene = random_scene(rng, bank, aspect=SIZE[1] / SIZE[0], counts=COUNT_PROBABILITIES, sizes=(0.25, 0.7))
        frames = render_video(rng, bank, scene, SIZE, frames=VIDEO_FRAMES, camera=Camera(strength=0.6))
        yield [HeldOutScene(*frame) for frame in frames]


class Lag(VideoMetric):
    """The number of frames by which the truth must be delayed to fit the boxes best."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forget all frames."""
        self._overlaps = dict.fromkeys(LAGS, 0.0)
        self.start_video()

    def start_video(self) -> None:
        """Tell that the next frame is the first of another video."""
        self._truths: list[Mapping[Hashable, Sequence[float]]] = []

    def update(self, truth: Mapping[Hashable, Sequence[float]], boxes: Boxes) -> None:
        """Compare the box of each object found with the object's box now, one frame ago, ...

        Args:
            truth: The box (x1, y1, x2, y2) of each visible object, by an identity that lasts from frame to frame.
            boxes: What was reported, [n, 4].
        """
        self._truths = [truth, *self._truths][: len(LAGS)]
        for identity, place in match_boxes(truth, boxes).items():
            past = [earlier[identity] for earlier in self._truths if identity in earlier]
            for lag in LAGS:  # beyond the oldest box, with that
                then = np.array([past[min(lag, len(past) - 1)]])
                self._overlaps[lag] += float(iou(boxes[place][None], then)[0, 0])

    def compute(self) -> float:
        """Return the lag in frames."""
        return float(max(self._overlaps, key=lambda lag: self._overlaps[lag]))


class VideoMetrics(Metric):
    """How detections with ids agree with the truth, and with themselves, over held-out videos."""

    def __init__(self) -> None:
        self.steadiness, self.lag = Steadiness(), Lag()

    def update(self, video: Sequence[HeldOutScene], predictions: Sequence[Detections]) -> None:
        """Add a video, with the detections of each frame, tracked."""
        self.steadiness.start_video()
        self.lag.start_video()
        for frame, detections in zip(video, predictions, strict=True):
            truth = _visible_boxes(frame.identities)
            self.steadiness.update(truth, detections.boxes, detections.ids)
            self.lag.update(truth, detections.boxes)

    def compute(self) -> dict[str, float]:
        """Return the figures of `Steadiness`, and "lag"."""
        return self.steadiness.compute() | {"lag": self.lag.compute()}

    def reset(self) -> None:
        """Forget all videos."""
        self.steadiness.reset()
        self.lag.reset()


def evaluate_videos(
    pipeline: Pipeline,
    methods: Sequence[str],
    videos: Iterable[Sequence[HeldOutScene]],
    on_progress: Callable[[], None] = lambda: None,
) -> dict[str, dict[str, dict[str, float]]]:
    """Run discovery methods over videos, each frame by itself and with a memory of earlier frames.

    Returns:
        Per method, under "frame by frame" and "temporal", the figures of `VideoMetrics`.
    """
    modes = {"frame by frame": VideoOptions(temporal=False), "temporal": VideoOptions()}
    metrics = {method: {mode: VideoMetrics() for mode in modes} for method in methods}
    for video in videos:
        for mode, options in modes.items():
            tracker = VideoTracker(pipeline, methods, options)
            results = [tracker(frame.image) for frame in video]
            for method in methods:
                metrics[method][mode].update(video, [result[method].detections for result in results])
        on_progress()
    return {method: {mode: metric.compute() for mode, metric in both.items()} for method, both in metrics.items()}


def _visible_boxes(identities: Image) -> dict[Hashable, list[int]]:
    """Return the boxes of the objects that are large enough to look for, by identity."""
    sizes = np.bincount(identities.ravel())
    boxes: dict[Hashable, list[int]] = {}
    for identity in np.flatnonzero(sizes >= MIN_VISIBLE_FRACTION * identities.size):
        if identity:
            y, x = (identities == identity).nonzero()
            boxes[int(identity)] = [int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1]
    return boxes
