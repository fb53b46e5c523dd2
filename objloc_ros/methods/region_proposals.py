"""Region proposals (Ren et al., "Faster R-CNN", NeurIPS 2015) at one level or at those of a feature pyramid."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import batched_nms, clip_boxes_to_image

from objloc_ros.ops.box_codes import Weights, decode_boxes
from objloc_ros.types import Size

ASPECT_RATIOS = (0.5, 1.0, 2.0)
"""Heights of anchors divided by their widths."""

CODE_WEIGHTS: Weights = (1.0, 1.0, 1.0, 1.0)
"""Weights of the box codes."""

MAX_PROPOSALS = 1000
"""Most proposals in an image."""


class ProposalHead(nn.Module):
    """The convolutions of a region proposal network, the same at every level."""

    def __init__(self, channels: int, anchors: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.objectness_logits = nn.Conv2d(channels, anchors, 1)
        self.anchor_deltas = nn.Conv2d(channels, 4 * anchors, 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits float [B, A, h, w] and box codes float [B, 4 A, h, w], anchor by anchor."""
        x = F.relu(self.conv(features))
        return self.objectness_logits(x), self.anchor_deltas(x)


class ProposalGenerator(nn.Module):
    """A region proposal network.

    Args:
        channels: Of the features.
        strides: Pixels per cell of each level.
        sizes: Sizes of the anchors of each level.
        nms_iou: Greatest IoU of two proposals of a level.
        best: How many proposals of a level are compared.
    """

    def __init__(
        self, channels: int, strides: Sequence[int], sizes: Sequence[Sequence[int]], *, nms_iou: float, best: int
    ) -> None:
        super().__init__()
        self.strides, self.sizes, self.nms_iou, self.best = strides, sizes, nms_iou, best
        self.rpn_head = ProposalHead(channels, len(sizes[0]) * len(ASPECT_RATIOS))

    def forward(self, levels: Sequence[Tensor], size: Size) -> Tensor:
        """Return the best proposals in an image of this height and width: float32 [n, 4], n up to `MAX_PROPOSALS`."""
        boxes, scores, numbers = [], [], []
        for number, (features, stride, sizes) in enumerate(zip(levels, self.strides, self.sizes, strict=True)):
            logits, codes = self.rpn_head(features)
            logits = logits[0].permute(1, 2, 0).flatten()  # h w A -> n
            codes = codes[0].unflatten(0, (-1, 4)).permute(2, 3, 0, 1).reshape(-1, 4)  # A 4 h w -> n 4
            best = logits.topk(min(self.best, len(logits))).indices
            anchors = make_anchors(features.shape[-2:], stride, sizes).to(logits)[best]
            boxes.append(decode_boxes(anchors, codes[best], CODE_WEIGHTS))
            scores.append(logits[best])
            numbers.append(torch.full_like(best, number))
        all_boxes, all_scores, level = torch.cat(boxes), torch.cat(scores), torch.cat(numbers)
        all_boxes = clip_boxes_to_image(all_boxes, size)
        good = (all_boxes[:, 2:] > all_boxes[:, :2]).all(1) & all_boxes.isfinite().all(1) & all_scores.isfinite()
        all_boxes, all_scores, level = all_boxes[good], all_scores[good], level[good]
        return all_boxes[batched_nms(all_boxes, all_scores, level, self.nms_iou)[:MAX_PROPOSALS]]


def make_anchors(grid: Sequence[int], stride: int, sizes: Sequence[int]) -> Tensor:
    """Make the anchors of a level, around the upper left corner of each cell.

    Args:
        grid: Rows and columns.
        stride: Pixels per cell.
        sizes: Square roots of the anchors' areas.

    Returns:
        float32 [rows * columns * sizes * ratios, 4] as (x1, y1, x2, y2), row by row.
    """
    widths = [size / math.sqrt(ratio) for size in sizes for ratio in ASPECT_RATIOS]
    heights = [size * math.sqrt(ratio) for size in sizes for ratio in ASPECT_RATIOS]
    sides = torch.tensor([widths, heights]).T / 2  # A 2
    rows, columns = (torch.arange(count, dtype=torch.float32) * stride for count in grid)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    centres = torch.stack([x, y], dim=-1).reshape(-1, 1, 2)  # h w 1 2
    return torch.cat([centres - sides, centres + sides], dim=-1).reshape(-1, 4)
