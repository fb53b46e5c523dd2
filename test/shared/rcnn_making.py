"""Checkpoints of small R-CNNs: the layers of the released ones, one block in each stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from objloc_ros.methods.rcnn import Rcnn, RcnnSpec

PYRAMID = RcnnSpec((1, 1, 1, 1), pyramid=True, stages=1, classes=1, box_classes=1, masks=True)
CASCADE = RcnnSpec((1, 1, 1, 1), pyramid=True, stages=3, classes=1, box_classes=1, masks=True)
CLUSTERS = RcnnSpec((1, 1, 1, 1), pyramid=False, stages=1, classes=20, box_classes=20, masks=False)


def make_state(spec: RcnnSpec, seed: int = 0) -> dict[str, torch.Tensor]:
    """Make a state dict with random weights, whose boxes are not all alike."""
    torch.manual_seed(seed)
    network = Rcnn(spec)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "anchor_deltas" in name or "bbox_pred" in name:
                parameter.mul_(0.1)
    return network.state_dict()


def make_light_state(spec: RcnnSpec) -> dict[str, torch.Tensor]:
    """Make a state dict whose tensors have one value each, so that its file is small."""
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in Rcnn(spec).state_dict().items()}
    values = {name: torch.tensor(number / len(shapes)) for number, name in enumerate(shapes)}
    return {name: value.expand(shapes[name]) if shapes[name] else torch.tensor(0) for name, value in values.items()}


def save_checkpoint(path: Path, spec: RcnnSpec, **more: Any) -> Path:
    """Save a checkpoint as detectron2's trainer does."""
    torch.save({"model": make_state(spec), **more}, path)
    return path
