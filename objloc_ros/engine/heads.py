"""What turns features into detections: one head per method, side by side on the same features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt
import torch

from objloc_ros.backbones.weights import load_found_head
from objloc_ros.methods.found import FoundOptions, head_logits, localise
from objloc_ros.ops.geometry import Geometry, boxes_to_source, map_to_source
from objloc_ros.types import Detections, Features, Image


@dataclass(frozen=True)
class HeadResult:
    """The objects that one method found in one image.

    Args:
        detections: Boxes in source pixels with scores, best first.
        geometry: Maps the processed size to the source image.
        saliency: float32 [h', w'] in [0, 1] at the processed size.
        mask: bool [h', w'] at the processed size.
    """

    detections: Detections
    geometry: Geometry
    saliency: npt.NDArray[np.float32]
    mask: npt.NDArray[np.bool_]

    def mask_u8(self) -> Image:
        """Foreground 255, background 0: uint8 [H, W] at the source size."""
        return map_to_source(self.mask.astype(np.uint8) * np.uint8(255), self.geometry, cv2.INTER_NEAREST)

    def saliency_u8(self) -> Image:
        """Saliency scaled to 0-255: uint8 [H, W] at the source size."""
        return map_to_source(np.rint(self.saliency * 255).astype(np.uint8), self.geometry)


class Head(Protocol):
    """A method behind the shared backbone pass."""

    default_options: Any

    def __call__(
        self, features: Features, images: Sequence[Image], geometries: Sequence[Geometry], options: Any
    ) -> list[HeadResult]:
        """One result per image of the batch."""
        ...


class FoundHead:
    """FOUND's 1x1 convolution and post-processing.

    Args:
        backbone: Name of the backbone whose head is loaded.
        path: File of the head's weights; None takes the registered one.
        device: Where the head runs.
    """

    default_options = FoundOptions()

    def __init__(self, *, backbone: str, path: str | Path | None, device: torch.device) -> None:
        weight, bias = load_found_head(backbone, path=path)
        self._weight, self._bias = weight.to(device), bias.to(device)

    def __call__(
        self, features: Features, images: Sequence[Image], geometries: Sequence[Geometry], options: FoundOptions
    ) -> list[HeadResult]:
        """Saliency, mask and boxes of each image."""
        logits = head_logits(features.keys, self._weight, self._bias, features.grid).cpu()
        return [self._one(*each, options) for each in zip(logits, images, geometries, strict=True)]

    @staticmethod
    def _one(logits: torch.Tensor, image: Image, geometry: Geometry, options: FoundOptions) -> HeadResult:
        found = localise(logits, geometry=geometry, options=options, image=image)
        boxes = boxes_to_source(found.boxes, geometry)
        return HeadResult(Detections.class_free(boxes, found.scores), geometry, found.saliency, found.mask)


HEADS: dict[str, Callable[..., Head]] = {"found": FoundHead}
"""Methods that a pipeline can run, by name."""
