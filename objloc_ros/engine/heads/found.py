"""FOUND as a head: the keys of the shared pass become saliency, mask and boxes."""

from __future__ import annotations

from pathlib import Path

import torch

from objloc_ros.backbones.weights import load_found_head
from objloc_ros.engine.results import Batch, SaliencyResult
from objloc_ros.methods.found import FoundOptions, head_logits, localise
from objloc_ros.ops.geometry import Geometry, boxes_to_source
from objloc_ros.types import Detections, Features, Image


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

    def reads_features(self, options: FoundOptions) -> bool:
        """Always."""
        return True

    def logits(self, features: Features) -> torch.Tensor:
        """Raw answers float32 [B, h, w] on the patch grid, positive on objects."""
        return head_logits(features.keys, self._weight, self._bias, features.grid)

    def __call__(self, batch: Batch, options: FoundOptions) -> list[SaliencyResult]:
        """Saliency, mask and boxes of each image."""
        logits = self.logits(batch.seen()).cpu()
        with batch.post("found"):
            return [self._one(*each, options) for each in zip(logits, batch.images, batch.geometries, strict=True)]

    @staticmethod
    def _one(logits: torch.Tensor, image: Image, geometry: Geometry, options: FoundOptions) -> SaliencyResult:
        found = localise(logits, geometry=geometry, options=options, image=image)
        boxes = boxes_to_source(found.boxes, geometry)
        detections = Detections.class_free(boxes, found.scores)
        return SaliencyResult(detections, geometry, found.mask, found.saliency, logits.float().numpy())
