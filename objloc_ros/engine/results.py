"""What heads are given and what they return: images and features; boxes, and masks brought to the image's size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from objloc_ros.engine.prompts import EncodedPrompts
from objloc_ros.engine.timings import timed_part
from objloc_ros.ops.geometry import Geometry, boxes_to_source, map_to_source
from objloc_ros.ops.regions import components
from objloc_ros.types import Detections, Features, Image, LabelSet, Size


@dataclass(frozen=True)
class HeadResult:
    """The objects that one method found in one image.

    Args:
        detections: Boxes in source pixels with scores, best first.
        geometry: Maps the processed size to the source image.
        mask: bool [h', w'] at the processed size, the union of the objects.
    """

    detections: Detections
    geometry: Geometry
    mask: npt.NDArray[np.bool_]

    def mask_u8(self) -> Image:
        """Foreground 255, background 0: uint8 [H, W] at the source size."""
        return map_to_source(self.mask.astype(np.uint8) * np.uint8(255), self.geometry, cv2.INTER_NEAREST)


@dataclass(frozen=True)
class SaliencyResult(HeadResult):
    """Objects read from a map.

    Args:
        saliency: float32 [h', w'] in [0, 1] at the processed size.
        logits: float32 [h, w] on the patch grid, from which the saliency was interpolated.
    """

    saliency: npt.NDArray[np.float32]
    logits: npt.NDArray[np.float32]

    def saliency_u8(self) -> Image:
        """Saliency scaled to 0-255: uint8 [H, W] at the source size."""
        return map_to_source(np.rint(self.saliency * 255).astype(np.uint8), self.geometry)


@dataclass(frozen=True)
class InstanceResult(HeadResult):
    """Objects with a mask each.

    Args:
        instances: uint16 [h', w'] at the processed size: 0 on the ground, i + 1 on the i-th detection.
    """

    instances: npt.NDArray[np.uint16]

    def best(self, count: int, min_score: float = 0.0) -> InstanceResult:
        """Keep at most `count` objects, none with a lower score than `min_score`."""
        kept = int((self.detections.scores[:count] >= min_score).sum())  # the best come first
        if kept == len(self.detections):
            return self
        labels = self.detections.labels[:kept]
        detections = Detections(self.detections.boxes[:kept], self.detections.scores[:kept], labels)
        instances = np.where(self.instances <= kept, self.instances, 0).astype(np.uint16)
        return InstanceResult(detections, self.geometry, instances > 0, instances)

    def instances_u16(self) -> npt.NDArray[np.uint16]:
        """The instances at the source size, uint16 [H, W]."""
        return map_to_source(self.instances, self.geometry, cv2.INTER_NEAREST)


@dataclass(frozen=True)
class SemanticResult(HeadResult):
    """A prompt for each pixel; the detections are the connected regions of each prompt.

    Args:
        labels: The prompts and the ids that stand for them.
        classes: uint8 [h', w'] ids at the processed size, UNLABELLED (255) where no prompt fits.
        confidence: float32 [h', w'] in [0, 1] of the label, 0 where there is none.
    """

    labels: LabelSet
    classes: Image
    confidence: npt.NDArray[np.float32]

    def classes_u8(self) -> Image:
        """The ids at the source size, uint8 [H, W]."""
        return map_to_source(self.classes, self.geometry, cv2.INTER_NEAREST)

    def confidence_u8(self) -> Image:
        """Confidence scaled to 0-255: uint8 [H, W] at the source size."""
        return map_to_source(np.rint(self.confidence * 255).astype(np.uint8), self.geometry, cv2.INTER_NEAREST)


@dataclass(frozen=True)
class Result:
    """What every head said about one image.

    Args:
        source: Height and width of the image.
        heads: One `HeadResult` per method: a `SaliencyResult` of found, an `InstanceResult` of the discovery methods.
        timings_ms: Milliseconds per stage: `pre`, `vit` and one entry per method; those of a batch are shared out.
            Fine ones also have their parts: `upload` of `pre`, on a GPU, and `METHOD.post` of each method, what follows
            its answer.
    """

    source: Size
    heads: Mapping[str, Any]
    timings_ms: Mapping[str, float] = field(default_factory=dict)

    def __getitem__(self, method: str) -> Any:
        """The result of one method."""
        return self.heads[method]


@dataclass(frozen=True)
class Batch:
    """Images of one padded size on their way through the heads.

    Args:
        images: RGB uint8 [H, W, 3] each.
        geometries: How each became the backbone's input.
        features: The backbone's; None where no head reads them.
        prompts: What to look for; None where nobody said.
        timings: Where heads note how long the parts of their work take, if anywhere; see `timed_part`.
    """

    images: Sequence[Image]
    geometries: Sequence[Geometry]
    features: Features | None = None
    prompts: EncodedPrompts | None = None
    timings: dict[str, float] | None = None

    def post(self, method: str) -> AbstractContextManager[None]:
        """Entered by a head around what follows its answer: masks at pixels, boxes, regions."""
        return timed_part(self.timings, f"{method}.post", len(self.images))

    def seen(self) -> Features:
        """The backbone's features, for a head that said it reads them."""
        if self.features is None:
            raise RuntimeError("the backbone has not run")
        return self.features


class Head(Protocol):
    """A method behind the shared backbone pass."""

    default_options: Any

    def reads_features(self, options: Any) -> bool:
        """Whether it needs the backbone's features."""
        ...

    def __call__(self, batch: Batch, options: Any) -> Sequence[HeadResult]:
        """One result per image of the batch."""
        ...


def instance_map(found: HeadResult) -> npt.NDArray[np.uint16]:
    """The pixels of each detection at the source size: uint16 [H, W], i + 1 on the i-th, 0 elsewhere.

    The objects of FOUND and of the open-vocabulary methods are 4-connected regions, and are found again by their boxes:
    no two regions of a mask have the same, as both would reach from left to right and from top to bottom, and cross.
    """
    if isinstance(found, InstanceResult):
        return found.instances_u16()
    return map_to_source(_regions(found), found.geometry, cv2.INTER_NEAREST)


def _regions(found: HeadResult) -> npt.NDArray[np.uint16]:
    """The regions of the detections at the processed size, numbered like them."""
    detections = found.detections
    each = enumerate(zip(detections.labels, detections.boxes.tolist(), strict=True), start=1)
    wanted = {(label, tuple(box)): number for number, (label, box) in each}
    drawn: npt.NDArray[np.uint16] = np.zeros(found.geometry.resized, np.uint16)
    for label in dict.fromkeys(detections.labels):
        parts = components(_where(found, label))
        boxes = boxes_to_source(parts.boxes.astype(np.float32), found.geometry).tolist()
        table = np.array([0, *(wanted.get((label, tuple(box)), 0) for box in boxes)], np.uint16)
        drawn = np.maximum(drawn, table[parts.labels])
    return drawn


def _where(found: HeadResult, label: str) -> npt.NDArray[np.bool_]:
    if not isinstance(found, SemanticResult):
        return found.mask
    number = next(number for number, prompt in found.labels.names().items() if prompt == label)
    return np.asarray(found.classes == number)
