"""Checkpoints of small R-CNNs: the layers of the released ones, one block in each stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from objloc_ros.methods.rcnn import Rcnn, RcnnSpec

PYRAMID = RcnnSpec((1, 1, 1, 1), pyramid=True, stages=1, classes=1, box_classes=1, masks=True)
CASCADE = RcnnSpec((1, 1, 1, 1), pyramid=True, stages=3, classes=1, box_classes=1, masks=True)
CLUSTERS = RcnnSpec((1, 1, 1, 1), pyramid=False, stages=1, classes=20, box_classes=20, masks=False)


def make_network(spec: RcnnSpec) -> Rcnn:
    """Make a network with random weights."""
    torch.manual_seed(0)
    return Rcnn(spec).requires_grad_(False).eval()


def make_light_state(spec: RcnnSpec) -> dict[str, torch.Tensor]:
    """Make a state dict whose tensors have one value each, so that its file is small."""
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in Rcnn(spec).state_dict().items()}
    values = {name: torch.tensor(number / len(shapes)) for number, name in enumerate(shapes)}
    return {name: value.expand(shapes[name]) if shapes[name] else torch.tensor(0) for name, value in values.items()}


def save_checkpoint(path: Path, spec: RcnnSpec, **more: Any) -> Path:
    """Save a checkpoint as detectron2's trainer does."""
    torch.save({"model": make_network(spec).state_dict(), **more}, path)
    return path
