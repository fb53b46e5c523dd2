"""DropLoss of CutLER (Wang et al., CVPR 2023): what overlaps no label may still be an object, and teaches nothing.

One deliberate difference from the original: the overlap is with all labels of the image. The original takes as many of
the first regions' labels as it finds different ones among the first 100, and misses some where regions are shuffled.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torchvision.ops import box_iou

DROP_IOU = 0.01
"""The paper's tau^IoU: regions whose best overlap is not above it are dropped."""


def drop_weights(boxes: Tensor, targets: Tensor, threshold: float = DROP_IOU) -> Tensor:
    """Weigh the regions of one image for the loss of their class: section 3.3.

    Args:
        boxes: float [n, 4], predicted boxes (x1, y1, x2, y2), max side exclusive, not clipped to the image.
        targets: float [m, 4], boxes of the image's labels.
        threshold: Greatest IoU of a region that is dropped, in [0, 1).

    Returns:
        float32 [n] without gradient: 1 where the best IoU with a label is above the threshold, 0 elsewhere; without
        labels all 1, as such an image is said to show no object.
    """
    if len(targets) == 0:
        return torch.ones(len(boxes), device=boxes.device)
    overlaps = box_iou(boxes.detach().float(), targets.to(boxes.device).float())  # [n, m]
    return (overlaps.amax(dim=1) > threshold).float()


def weigh_classification(logits: Tensor, classes: Tensor, weights: Tensor) -> Tensor:
    """Compute the loss of classes with dropped regions: the mean over all regions, dropped ones included.

    Args:
        logits: float [n, K].
        classes: int64 [n].
        weights: float [n], see `drop_weights`.

    Returns:
        A scalar; 0 without regions.
    """
    return (weights * cross_entropy(logits, classes, reduction="none")).sum() / max(len(weights), 1)
