"""What `objloc bench` measures: the matrix of combinations, and one frame of a combination, stage by stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from objloc_ros.engine.pipeline import Pipeline
from objloc_ros.engine.results import HeadResult, InstanceResult, SaliencyResult, SemanticResult
from objloc_ros.engine.timings import timed
from objloc_ros.types import Detections, Image, Size

STAGES = ("decode", "upload", "pre", "vit", "head", "post", "message", "publish")
"""Of a frame, in their order: message to RGB; host to device; resize, normalise and pad; the backbone's pass; the
method; masks at the source size and boxes; ROS messages of them; and until a subscriber has those."""

FRAME = "frame"
"""All of a frame, by the clock."""

Maps = Sequence[npt.NDArray[Any]]


@dataclass(frozen=True, order=True)
class Cell:
    """One combination.

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


class Skipped(NamedTuple):
    """A combination that was not measured, and why."""

    cell: Cell
    reason: str


def matrix(
    *,
    methods: Sequence[str],
    backbones: Sequence[str],
    sizes: Sequence[Size],
    batches: Sequence[int],
    cameras: Sequence[int],
    devices: Sequence[str],
) -> tuple[list[Cell], list[Skipped]]:
    """All combinations, and those of them that do not exist."""
    cells, skipped = [], []
    for each in product(devices, backbones, sizes, methods, batches, cameras):
        cell = Cell(*each)
        if cell.batch > 1 and cell.cameras > 1:
            skipped.append(Skipped(cell, "a camera asks for one frame at a time; the engine makes the batches"))
        else:
            cells.append(cell)
    return cells, skipped


class Ends(Protocol):
    """What lies before and behind the engine: a node's part of a frame."""

    stages: Sequence[str]

    def decode(self, number: int) -> Image:
        """The pixels of a camera's message, RGB uint8 [H, W, 3], read-only and new every time."""
        ...

    def messages(self, detections: Detections, maps: Maps) -> Any:
        """What a node would publish."""
        ...

    def publish(self, messages: Sequence[Any]) -> None:
        """Publish what `messages` made, and wait until it has arrived."""
        ...


class BareEnds:
    """Ends where there is no ROS: only the engine is measured.

    Args:
        frames: RGB uint8 [H, W, 3] each.
    """

    stages: Sequence[str] = ()

    def __init__(self, frames: Sequence[Image]) -> None:
        self._frames = frames

    def decode(self, number: int) -> Image:
        """A copy: the engine remembers what it has seen by the array."""
        image = np.array(self._frames[number % len(self._frames)])
        image.flags.writeable = False
        return image

    def messages(self, detections: Detections, maps: Maps) -> Any:
        """None."""
        return None

    def publish(self, messages: Sequence[Any]) -> None:
        """To nobody."""


def time_call(pipeline: Pipeline, cell: Cell, ends: Ends, first: int, *, publish: bool = True) -> dict[str, float]:
    """Take one call's images through all stages.

    Args:
        pipeline: With fine timings, or without parts of its stages.
        cell: What is measured; its number of cameras does not matter here.
        ends: Of the same image size.
        first: Number of the first image.
        publish: Whether to publish, if `ends` can.

    Returns:
        Milliseconds per image of the stages that there are, and of the whole frame.
    """
    times: dict[str, float] = {}
    n, method = cell.batch, cell.method
    with timed(times, FRAME, n):
        with timed(times, "decode", n):
            images = [ends.decode(first + i) for i in range(n)]
        results = pipeline.run(images, (method,)) if n > 1 else [pipeline.run(images[0], (method,))]
        with timed(times, "maps", n):
            maps = [source_maps(result[method]) for result in results]
        with timed(times, "message", n):
            each = zip(results, maps, strict=True)
            messages = [ends.messages(result[method].detections, pixels) for result, pixels in each]
        if publish and "publish" in ends.stages:
            with timed(times, "publish", n):
                ends.publish(messages)
    return _stages(times, results[0].timings_ms, method, ends.stages)


def source_maps(result: HeadResult) -> Maps:
    """The masks and maps of a result that a node publishes, brought to the source's size."""
    if isinstance(result, SaliencyResult):
        return [result.mask_u8(), result.saliency_u8()]
    if isinstance(result, InstanceResult):
        return [result.instances_u16()]
    if isinstance(result, SemanticResult):
        return [result.classes_u8(), result.confidence_u8()]
    raise TypeError(f"no node publishes a {type(result).__name__}")


def _stages(outer: dict[str, float], engine: Any, method: str, ends: Sequence[str]) -> dict[str, float]:
    """Take parts out of the stages that hold them, so that the stages add up."""
    upload, post = engine.get("upload", 0.0), engine.get(f"{method}.post", 0.0)
    stages = {name: outer[name] for name in (FRAME, *ends) if name in outer}
    if "vit" in engine:
        stages |= {"upload": upload, "pre": engine["pre"] - upload, "vit": engine["vit"]}
    return stages | {"head": engine[method] - post, "post": post + outer["maps"]}
