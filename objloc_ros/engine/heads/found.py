"""FOUND as a head: the keys of the shared pass become saliency, mask and boxes."""

from __future__ import annotations

from pathlib import Path

import torch

from objloc_ros.backbones.weights import load_found_head
from objloc_ros.engine.ignored import lower_logits
from objloc_ros.engine.results import Batch, SaliencyResult
from objloc_ros.engine.timings import stage
from objloc_ros.engine.transfers import transfers_of
from objloc_ros.methods.found import FoundOptions, head_logits, localise
from objloc_ros.ops.geometry import boxes_to_source
from objloc_ros.types import Detections, Features


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
        self._transfers = transfers_of(device)

    def reads_features(self, options: FoundOptions) -> bool:
        """Return True: FOUND's head reads keys."""
        return True

    def logits(self, features: Features) -> torch.Tensor:
        """Return raw answers float32 [B, h, w] on the patch grid, positive on objects."""
        return head_logits(features.keys, self._weight, self._bias, features.grid)

    def __call__(self, batch: Batch, options: FoundOptions) -> list[SaliencyResult]:
        """Return saliency, mask and boxes of each image.

        What leaves a device are the logits: fewer bytes than the mask at pixels has bits, and all the rest follows.
        """
        logits = self._transfers.fetch(self.logits(batch.require_features()))  # B h w
        results = []
        with stage("found.pixels", is_part=True):
            for image_logits, image, geometry in zip(logits, batch.images, batch.geometries, strict=True):
                ignored = batch.ignored(geometry)
                found = localise(image_logits, geometry=geometry, options=options, image=image, ignored=ignored)
                detections = Detections.class_free(boxes_to_source(found.boxes, geometry), found.scores)
                logits_map = lower_logits(image_logits.float().numpy(), geometry, batch.area)
                results.append(SaliencyResult(detections, geometry, found.mask, found.saliency, logits_map))
        return results
