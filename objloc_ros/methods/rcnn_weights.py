"""R-CNNs from detectron2's checkpoints: which network a file holds is read from the names of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from objloc_ros.backbones.weights import conform, find_verified, read_state
from objloc_ros.errors import WeightsError
from objloc_ros.methods.rcnn import Rcnn, RcnnSpec


def load_rcnn(name: str, *, path: str | Path | None = None, device: str | torch.device = "cpu") -> Rcnn:
    """Load a network with its weights, frozen and in eval mode.

    Args:
        name: Its name in the weights registry, where no file is given.
        path: A checkpoint of detectron2; None for the fetched one.
        device: Where to put the parameters.

    Raises:
        ParameterError: If the name is unknown.
        WeightsError: If the file is missing, has the wrong hash, cannot be read safely or holds another network.
    """
    file, state = find_state(name, path)
    spec = read_spec(state, file)
    with torch.device("meta"):
        expected = Rcnn(spec).state_dict()
    counters = {key: torch.zeros((), dtype=torch.int64) for key in expected if key.endswith("num_batches_tracked")}
    tensors = {key: _to_tensor(value) for key, value in state.items() if not _is_constant(key)}
    tensors = conform(counters | tensors, expected, f"{file} is no R-CNN that can be read")
    if broken := [key for key, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise WeightsError(f"{file} holds numbers that are not finite, in {broken[0]} and {len(broken) - 1} others")
    with torch.device("meta"):
        network = Rcnn(spec)
    network.load_state_dict(tensors, assign=True)
    return network.requires_grad_(False).eval().to(device)


def find_state(name: str, path: str | Path | None) -> tuple[Path, dict[str, Any]]:
    """Find a checkpoint, and read its entries, which a trainer keeps as its "model".

    Raises:
        ParameterError: If the name is unknown.
        WeightsError: If the file is missing, has the wrong hash or cannot be read safely.
    """
    file = find_verified(name, path)
    state = read_state(file)
    model = state["model"] if isinstance(state.get("model"), Mapping) else state
    return file, {str(key): value for key, value in model.items()}


def read_spec(state: Mapping[str, Any], file: Path) -> RcnnSpec:
    """Read from the names and shapes of a checkpoint's tensors which network it holds.

    Raises:
        WeightsError: If it is none of these networks.
    """
    pyramid = any(key.startswith("backbone.bottom_up.") for key in state)
    stages = ("backbone.bottom_up.",) * 4 if pyramid else ("backbone.",) * 3 + ("roi_heads.",)
    depths = tuple(_count_blocks(state, f"{prefix}res{number}.") for number, prefix in enumerate(stages, start=2))
    cascade = sum(f"roi_heads.box_predictor.{i}.cls_score.weight" in state for i in range(9))
    predictor = "roi_heads.box_predictor.0" if cascade else "roi_heads.box_predictor"
    scores, boxes = (_count_rows(state.get(f"{predictor}.{name}.weight")) for name in ("cls_score", "bbox_pred"))
    own_boxes = () if cascade else (4 * (scores - 1),)  # the stages of a cascade hand on one box per region
    if not all(depths) or scores < 2 or boxes not in (4, *own_boxes):
        some = ", ".join(list(state)[:3])
        raise WeightsError(
            f"{file} is no R-CNN that can be read: expected detectron2's names of a ResNet with a feature pyramid "
            f"(CutLER) or with its last stage as region head (LOST + CAD), got {some}, ..."
        )
    masks = any(key.startswith("roi_heads.mask_head.") for key in state)
    return RcnnSpec(depths, pyramid, max(1, cascade), scores - 1, boxes // 4, masks)


def _count_blocks(state: Mapping[str, Any], stage: str) -> int:
    """Count the blocks of a stage, whose names are its own and a number."""
    names = {key[len(stage) :].partition(".")[0] for key in state if key.startswith(stage)}
    return sum(name.isdigit() for name in names)


def _count_rows(value: Any) -> int:
    """Count the rows of a matrix; 0 for anything else."""
    rows, *columns = getattr(value, "shape", (0,)) or (0,)
    return int(rows) if len(columns) == 1 else 0


def _is_constant(key: str) -> bool:
    """Return whether an entry holds no parameter, but what some versions also save."""
    return key in ("pixel_mean", "pixel_std") or ".cell_anchors." in key


def _to_tensor(value: Any) -> Any:
    """Return an array of numbers as a tensor, and anything else as it is."""
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiub":
        return value
    return torch.from_numpy(value.astype(value.dtype.newbyteorder("=")))  # a copy: pickled arrays are read-only
