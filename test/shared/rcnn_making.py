"""Checkpoints of small R-CNNs: the layers of the released ones, one block in each stage."""

from __future__ import annotations

from pathlib import Path

import torch

from objloc_ros.methods.rcnn import Rcnn, RcnnSpec

PYRAMID = RcnnSpec((1, 1, 1, 1), pyramid=True, stages=1, classes=1, box_classes=1, masks=True)
CASCADE = RcnnSpec((1, 1, 1, 1), pyramid=True, stages=3, classes=1, box_classes=1, masks=True)
CLUSTERS = RcnnSpec((1, 1, 1, 1), pyramid=False, stages=1, classes=20, box_classes=20, masks=False)


def make_network(spec: RcnnSpec) -> Rcnn:
    """Make a network with random weights."""
    torch.manual_seed(0)
    return Rcnn(spec).requires_grad_(False).eval()


def make_state(spec: RcnnSpec) -> dict[str, torch.Tensor]:
    """Make a state dict that takes no space: random, but each row of a weight is one number."""
    with torch.device("meta"):
        shapes = {name: tensor.shape for name, tensor in Rcnn(spec).state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    return {name: _make_tensor(name, shape, generator) for name, shape in shapes.items()}


def _make_tensor(name: str, shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    if not shape:
        return torch.tensor(0)
    values = torch.randn(shape[0], generator=generator)
    if len(shape) == 1:
        is_scale = name.endswith(("norm.weight", "running_var"))
        return 1 + 0.1 * values.abs() if is_scale else 0.1 * values
    fan_in = shape[1:].numel()
    return (values * 2 / fan_in).reshape(-1, *[1] * (len(shape) - 1)).expand(shape)


def save_checkpoint(path: Path, spec: RcnnSpec) -> Path:
    """Save a checkpoint as detectron2's trainer does; its file is small."""
    torch.save({"model": make_state(spec), "iteration": 1}, path)
    return path
