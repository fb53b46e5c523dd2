"""How discovery agrees with itself over the frames of a video, with and without its temporal mode."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from objloc_ros.engine.memory import Memory
from objloc_ros.engine.pipeline import Pipeline
from objloc_ros.engine.tracking import Tracker
from objloc_ros.evaluation.metrics import iou, steadiness
from objloc_ros.evaluation.scenes import COUNTS, SEED, SIZE, HeldOut
from objloc_ros.scenes.compose import Bank, Camera, random_scene
from objloc_ros.scenes.motion import moving
from objloc_ros.types import Detections, Image, size_of

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
