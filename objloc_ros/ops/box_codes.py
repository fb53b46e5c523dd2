"""Boxes relative to other boxes, as R-CNNs regress them (Girshick et al., "Rich Feature Hierarchies", CVPR 2014).

A code (dx, dy, dw, dh) moves a box by dx of its width and dy of its height, and scales it by exp(dw) and exp(dh); each
is multiplied by a weight, so that all four vary alike (Ren et al., "Faster R-CNN", NeurIPS 2015).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

Weights = tuple[float, float, float, float]
"""Factors of dx, dy, dw and dh."""

MAX_LOG_SCALE = math.log(1000 / 16)
"""Greatest dw and dh that are decoded: a box of 16 pixels becomes one of 1000."""


def encode_boxes(boxes: Tensor, targets: Tensor, weights: Weights) -> Tensor:
    """Encode targets relative to boxes: float [n, 4] as (dx, dy, dw, dh).

    Args:
        boxes: float [n, 4] as (x1, y1, x2, y2), max side exclusive, sides above 0.
        targets: float [n, 4], likewise.
        weights: Factors of the codes.
    """
    (x, y, width, height), (to_x, to_y, to_width, to_height) = _measure(boxes), _measure(targets)
    moves = (to_x - x) / width, (to_y - y) / height, (to_width / width).log(), (to_height / height).log()
    return torch.stack([weight * move for weight, move in zip(weights, moves, strict=True)], dim=1)


def decode_boxes(boxes: Tensor, codes: Tensor, weights: Weights) -> Tensor:
    """Apply codes to boxes; the results are not clipped to any image.

    Args:
        boxes: float [n, 4] as (x1, y1, x2, y2), max side exclusive.
        codes: float [n, 4 K], K codes (dx, dy, dw, dh) for each box.
        weights: Factors that the codes were multiplied by.

    Returns:
        float [n, 4 K] as (x1, y1, x2, y2) of each code.
    """
    codes = codes.to(boxes.dtype).reshape(len(boxes), codes.shape[1] // 4, 4)  # n K 4
    dx, dy, dw, dh = (codes / codes.new_tensor(weights)).unbind(-1)  # each n K
    x, y, width, height = (values[:, None] for values in _measure(boxes))  # each n 1
    centre_x, centre_y = dx * width + x, dy * height + y
    half_width = 0.5 * dw.clamp(max=MAX_LOG_SCALE).exp() * width
    half_height = 0.5 * dh.clamp(max=MAX_LOG_SCALE).exp() * height
    sides = centre_x - half_width, centre_y - half_height, centre_x + half_width, centre_y + half_height
    return torch.stack(sides, dim=-1).flatten(1)  # n 4K


def _measure(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return centre x, centre y, width and height of boxes, [n] each."""
    x1, y1, x2, y2 = boxes.unbind(1)
    width, height = x2 - x1, y2 - y1
    return x1 + 0.5 * width, y1 + 0.5 * height, width, height
