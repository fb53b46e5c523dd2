"""Which methods a pipeline can run, and how it comes by their heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from objloc_ros.backbones.clip_weights import load_clip_image
from objloc_ros.backbones.registry import REGISTRY
from objloc_ros.engine.batch import Head
from objloc_ros.engine.discovery import METHODS as DISCOVERY
from objloc_ros.engine.discovery import DiscoveryHead
from objloc_ros.engine.found import FoundHead
from objloc_ros.engine.segmentation import METHODS as SEGMENTATION
from objloc_ros.engine.segmentation import SegmentationHead, Towers
from objloc_ros.methods.dinoiser_weights import load_dinoiser_head
from objloc_ros.methods.found import FoundOptions

HEADS: dict[str, type] = {
    "found": FoundOptions,
    **{method: options for method, (options, _) in DISCOVERY.items()},
    **SEGMENTATION,
}
"""Methods that a pipeline can run, by name, with the dataclass of what can be chosen."""


@dataclass(frozen=True, kw_only=True)
class Models:
    """What heads are built from.

    Args:
        backbone: Name of the backbone whose features they read.
        head_weights: File of FOUND's head for it; None takes the registered one.
        clip: Name of the CLIP model of the open-vocabulary methods.
        clip_weights: File of its weights; None takes the registered ones.
        dinoiser_weights: File of CLIP-DINOiser's head for it; None takes the registered one, if there is one.
        device: Where they run.
    """

    backbone: str
    device: torch.device
    head_weights: str | Path | None = None
    clip: str = "tiny_clip"
    clip_weights: str | Path | None = None
    dinoiser_weights: str | Path | None = None


def build_heads(methods: Sequence[str], models: Models) -> dict[str, Head]:
    """Make the heads of some methods; what several of them need is loaded once.

    Raises:
        ParameterError: If the CLIP model is unknown.
        WeightsError: If weights are missing or refused.
    """
    prompted = [method for method in methods if method in SEGMENTATION]
    heads: dict[str, Head] = {method: DiscoveryHead(method) for method in methods if method in DISCOVERY}
    if prompted or "found" in methods:
        found = FoundHead(backbone=models.backbone, path=models.head_weights, device=models.device)
        heads["found"] = found
    if prompted:
        towers = _towers(found, models, dinoiser="clip_dinoiser" in prompted)
        heads.update({method: SegmentationHead(method, towers, models.device) for method in prompted})
    return {method: heads[method] for method in methods}


def _towers(found: FoundHead, models: Models, *, dinoiser: bool) -> Towers:
    """Load the image tower, and CLIP-DINOiser's head where it is wanted and exists."""
    clip = load_clip_image(models.clip, path=models.clip_weights, device=models.device)
    registered = REGISTRY.get(f"{models.clip}_dinoiser_head")
    exists = models.dinoiser_weights is not None or (registered is not None and registered.path.is_file())
    head = load_dinoiser_head(models.clip, path=models.dinoiser_weights) if dinoiser and exists else None
    return Towers(clip, found, None if head is None else head.to(models.device))
