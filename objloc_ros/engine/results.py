"""What a method says about one image: boxes, and masks that are brought to the image's size when asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from objloc_ros.ops.geometry import Geometry, map_to_source
from objloc_ros.types import Detections, Image, LabelSet, Size


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
