"""What `objloc bench` measures: the matrix of cases, and one frame of a case, stage by stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple, Protocol

import numpy.typing as npt

from objloc_ros.engine.pipeline import Pipeline
from objloc_ros.engine.timings import Stopwatch, stage
from objloc_ros.types import Detections, Image, Size

STAGES = ("decode", "upload", "pre", "vit", "head", "post", "message", "publish")
"""Of a frame, in their order: message to RGB; host to device; resize, normalise and pad; the backbone's pass; the
method; masks at the source size and boxes; ROS messages of them; and until a subscriber has those."""

FRAME = "frame"
"""All of a frame, by the clock."""

Maps = Sequence[npt.NDArray[Any]]


@dataclass(frozen=True, order=True)
class Case:
    """One combination of everything that is varied.

    Args:
        device: As `resolve_device` takes it.
        backbone: Name in the weights registry, after "random:" for random weights.
        size: Height and width of the camera's images.
        method: A key of `engine.heads.HEADS`.
        batch: Images of one call.
        cameras: Cameras that share the engine, each with a thread of its own.
    """

    device: str
    backbone: str
    size: Size
    method: str
    batch: int = 1
    cameras: int = 1

    def __str__(self) -> str:
        height, width = self.size
        many = f"batch {self.batch}, {self.cameras} camera{'s' if self.cameras > 1 else ''}"
        return f"{self.method}, {self.backbone}, {width}x{height}, {many}, {self.device}"


class SkippedCase(NamedTuple):
    """A case that was not measured, and why."""

    case: Case
    reason: str


def make_matrix(
    *,
    methods: Sequence[str],
    backbones: Sequence[str],
    sizes: Sequence[Size],
    batches: Sequence[int],
    cameras: Sequence[int],
    devices: Sequence[str],
) -> tuple[list[Case], list[SkippedCase]]:
    """Return all cases, and those of them that do not exist."""
    cases, skipped = [], []
    for values in product(devices, backbones, sizes, methods, batches, cameras):
        case = Case(*values)
        if case.batch > 1 and case.cameras > 1:
            skipped.append(SkippedCase(case, "a camera asks for one frame at a time; the engine makes the batches"))
        else:
            cases.append(case)
    return cases, skipped


class NodeStages(Protocol):
    """The stages of a frame before and behind the engine: a node's part."""

    stages: Sequence[str]

    def decode(self, number: int) -> Image:
        """Return the pixels of a camera's message, RGB uint8 [H, W, 3]."""
        ...

    def messages(self, detections: Detections, maps: Maps) -> Any:
        """Return what a node would publish."""
        ...

    def publish(self, messages: Sequence[Any]) -> None:
        """Publish what `messages` made, and wait until it has arrived."""
        ...


class EngineOnly:
    """The node's part where there is no ROS: only the engine is measured.

    Args:
        frames: RGB uint8 [H, W, 3] each.
    """

    stages: Sequence[str] = ()

    def __init__(self, frames: Sequence[Image]) -> None:
        self._frames = frames

    def decode(self, number: int) -> Image:
        """Return the frames in turn."""
        return self._frames[number % len(self._frames)]

    def messages(self, detections: Detections, maps: Maps) -> Any:
        """Return nothing."""
        return None

    def publish(self, messages: Sequence[Any]) -> None:
        """Publish nothing."""


def time_call(
    pipeline: Pipeline, case: Case, node: NodeStages, first: int, *, publish: bool = True
) -> dict[str, float]:
    """Take one call's images through all stages.

    Args:
        pipeline: With fine timings, or without parts of its stages.
        case: What is measured; its number of cameras does not matter here.
        node: Of the same image size.
        first: Number of the first image.
        publish: Whether to publish, if `node` can.

    Returns:
        Milliseconds per image of the stages that there are, and of the whole frame.
    """
    n, method = case.batch, case.method
    with Stopwatch(n) as stopwatch, stage(FRAME):
        with stage("decode"):
            images = [node.decode(first + i) for i in range(n)]
        results = pipeline.run(images, (method,)) if n > 1 else [pipeline.run(images[0], (method,))]
        with stage("maps"):
            maps = [list(result[method].maps().values()) for result in results]
        with stage("message"):
            pairs = zip(results, maps, strict=True)
            messages = [node.messages(result[method].detections, pixels) for result, pixels in pairs]
        if publish and "publish" in node.stages:
            with stage("publish"):
                node.publish(messages)
    return _split_stages(stopwatch.times_ms, results[0].timings_ms, method, node.stages)


def _split_stages(outer: dict[str, float], engine: Any, method: str, node_stages: Sequence[str]) -> dict[str, float]:
    """Take parts out of the stages that hold them, so that the stages add up."""
    upload, pixels = engine.get("upload", 0.0), engine.get(f"{method}.pixels", 0.0)
    stages = {name: outer[name] for name in (FRAME, *node_stages) if name in outer}
    if "vit" in engine:
        stages |= {"upload": upload, "pre": engine["pre"] - upload, "vit": engine["vit"]}
    return stages | {"head": engine[method] - pixels, "post": pixels + outer["maps"]}
