"""What turns features into detections: one head per method, side by side on the same features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from objloc_ros.backbones.weights import load_found_head
from objloc_ros.engine.discovery import METHODS as DISCOVERY
from objloc_ros.engine.discovery import DiscoveryHead
from objloc_ros.engine.results import HeadResult, SaliencyResult
from objloc_ros.methods.found import FoundOptions, head_logits, localise
from objloc_ros.ops.geometry import Geometry, boxes_to_source
from objloc_ros.types import Detections, Features, Image


class Head(Protocol):
    """A method behind the shared backbone pass."""

    default_options: Any

    def __call__(
        self, features: Features, images: Sequence[Image], geometries: Sequence[Geometry], options: Any
    ) -> Sequence[HeadResult]:
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
    ) -> list[SaliencyResult]:
        """Saliency, mask and boxes of each image."""
        logits = head_logits(features.keys, self._weight, self._bias, features.grid).cpu()
        return [self._one(*each, options) for each in zip(logits, images, geometries, strict=True)]

    @staticmethod
    def _one(logits: torch.Tensor, image: Image, geometry: Geometry, options: FoundOptions) -> SaliencyResult:
        found = localise(logits, geometry=geometry, options=options, image=image)
        boxes = boxes_to_source(found.boxes, geometry)
        return SaliencyResult(Detections.class_free(boxes, found.scores), geometry, found.mask, found.saliency)


@dataclass(frozen=True)
class HeadSpec:
    """How a pipeline comes by a head.

    Args:
        options: Dataclass of what can be chosen.
        build: Makes the head from the keywords `backbone`, `path` (of a head's weights, or None) and `device`.
    """

    options: type
    build: Callable[..., Head]


def _discovery(method: str) -> HeadSpec:
    return HeadSpec(DISCOVERY[method][0], lambda **_: DiscoveryHead(method))


HEADS: dict[str, HeadSpec] = {
    "found": HeadSpec(FoundOptions, FoundHead),
    **{method: _discovery(method) for method in DISCOVERY},
}
"""Methods that a pipeline can run, by name."""
