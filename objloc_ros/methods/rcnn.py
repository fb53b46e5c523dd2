"""R-CNNs from detectron2's checkpoints, without detectron2: CutLER's and LOST + CAD's.

Wang et al., "Cut and Learn for Unsupervised Object Detection and Instance Segmentation" (CutLER), CVPR 2023: a Cascade
Mask R-CNN (Cai and Vasconcelos, CVPR 2018) and a Mask R-CNN (He et al., ICCV 2017), on a ResNet-50 with a pyramid of
features. Siméoni et al., "Localizing Objects with Self-Supervised Transformers and no Labels" (LOST), BMVC 2021: a
Faster R-CNN (Ren et al., NeurIPS 2015) whose region head is the last stage of the ResNet ("C4"), class-agnostic (LOST +
CAD) or on clusters (LOST + OD).

Which of them a file holds is read from the names of its tensors. What differs from torchvision's models of these names:
the background is the last class, not the first; anchors are not rounded; regions are aligned to the half pixel and
sampled as densely as they are large.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image as PilImage
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import batched_nms, clip_boxes_to_image, roi_align

from objloc_ros.backbones.resnet import PYRAMID_CHANNELS, PYRAMID_STRIDES, STRIDES, FeaturePyramid, ResNet, make_stage
from objloc_ros.methods.region_proposals import ProposalGenerator
from objloc_ros.ops.box_codes import Weights, decode_boxes
from objloc_ros.types import Image, Size

PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)
"""Mean and standard deviation of ImageNet's red, green and blue bytes."""

SHORT_SIDE, MAX_LONG_SIDE = 800, 1333
"""Pixels of an image's sides in the papers' tests."""

BOX_WEIGHTS: Weights = (10.0, 10.0, 5.0, 5.0)
"""Weights of the region head's box codes; stage k of a cascade multiplies them by k."""

ANCHOR_SIZES = (32, 64, 128, 256, 512)
"""Square roots of the anchors' areas in pixels."""

BOX_CELLS, MASK_CELLS = 7, 14
"""Rows and columns that a region is pooled into, for its box and for its mask."""

STAGE_REGIONS = 128
"""Regions that go through a stage of the ResNet at a time: all 1000 would take gigabytes."""

Stage = Callable[[Tensor], tuple[Tensor, Tensor]]
"""A region head on an image: class logits [n, classes + 1] and box codes [n, 4 box_classes] of boxes [n, 4]."""


@dataclass(frozen=True)
class RcnnSpec:
    """What distinguishes the networks.

    Args:
        depths: Blocks of `res2` to `res5`.
        pyramid: Whether the region heads read a feature pyramid; else `res4` alone.
        stages: Number of region heads in a row.
        classes: Number of classes without the background.
        box_classes: Number of classes with boxes of their own; 1 where all share one.
        masks: Whether it has a mask head.
    """

    depths: tuple[int, ...]
    pyramid: bool
    stages: int
    classes: int
    box_classes: int
    masks: bool

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes: "object", or "cluster_0", "cluster_1", ..."""
        return ("object",) if self.classes == 1 else tuple(f"cluster_{i}" for i in range(self.classes))

    @property
    def threshold(self) -> float:
        """Least score in the papers' tests, itself excluded."""
        return 0.0 if self.pyramid else 0.01 if self.classes == 1 else 0.005

    @property
    def nms_iou(self) -> float:
        """Greatest IoU of two detections of a class in the papers' tests."""
        return 0.5 if self.pyramid else 0.4


class Regions(NamedTuple):
    """What the region heads say of n regions.

    Args:
        scores: float32 [n, classes + 1], the background last.
        boxes: float32 [n, 4 box_classes] as (x1, y1, x2, y2), not clipped.
    """

    scores: Tensor
    boxes: Tensor


class RcnnObjects(NamedTuple):
    """Detections of one image, best first.

    Args:
        boxes: float32 [n, 4] as (x1, y1, x2, y2) in pixels of the network's input, max side exclusive.
        scores: float32 [n] in [0, 1].
        classes: int64 [n].
        masks: float32 [n, 28, 28] in [0, 1] over each box; None without a mask head.
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor
    masks: Tensor | None


class BoxHead(nn.Module):
    """Two hidden layers on a pooled region."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(PYRAMID_CHANNELS * BOX_CELLS**2, 1024)
        self.fc2 = nn.Linear(1024, 1024)

    def forward(self, pooled: Tensor) -> Tensor:
        """Return float [n, 1024]."""
        return F.relu(self.fc2(F.relu(self.fc1(pooled.flatten(1)))))


class BoxPredictor(nn.Module):
    """Class logits and box codes of a region."""

    def __init__(self, channels: int, spec: RcnnSpec) -> None:
        super().__init__()
        self.cls_score = nn.Linear(channels, spec.classes + 1)
        self.bbox_pred = nn.Linear(channels, 4 * spec.box_classes)

    def forward(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits float [n, classes + 1] and codes float [n, 4 box_classes]."""
        return self.cls_score(vectors), self.bbox_pred(vectors)


class MaskHead(nn.Module):
    """Four convolutions, and one that doubles the resolution."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        for number in range(1, 5):
            self.add_module(f"mask_fcn{number}", nn.Conv2d(PYRAMID_CHANNELS, PYRAMID_CHANNELS, 3, padding=1))
        self.deconv = nn.ConvTranspose2d(PYRAMID_CHANNELS, PYRAMID_CHANNELS, 2, 2)
        self.predictor = nn.Conv2d(PYRAMID_CHANNELS, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits float [n, classes, 28, 28] of pooled regions float [n, 256, 14, 14]."""
        for number in range(1, 5):
            x = F.relu(getattr(self, f"mask_fcn{number}")(x))
        logits: Tensor = self.predictor(F.relu(self.deconv(x)))
        return logits


class PyramidHeads(nn.Module):
    """The region heads on a feature pyramid: one, or a cascade of them, each on the boxes of the one before."""

    def __init__(self, spec: RcnnSpec) -> None:
        super().__init__()
        heads, predictors = (
            [BoxHead() for _ in range(spec.stages)],
            [BoxPredictor(1024, spec) for _ in range(spec.stages)],
        )
        cascade = spec.stages > 1
        self.box_head = nn.ModuleList(heads) if cascade else heads[0]
        self.box_predictor = nn.ModuleList(predictors) if cascade else predictors[0]
        self.mask_head = MaskHead(spec.classes) if spec.masks else None
        self._stages = tuple(zip(heads, predictors, strict=True))

    def forward(self, levels: Sequence[Tensor], proposals: Tensor, size: Size) -> Regions:
        """Judge proposals float32 [n, 4] in an image of this height and width by its levels p2 to p5."""
        return run_cascade(proposals, size, self.list_stages(levels))

    def list_stages(self, levels: Sequence[Tensor]) -> list[Stage]:
        """List the stages of the cascade on an image's levels p2 to p5."""

        def judge(head: BoxHead, predictor: BoxPredictor, boxes: Tensor) -> tuple[Tensor, Tensor]:
            logits, codes = predictor(head(pool_regions(levels, boxes, BOX_CELLS)))
            return logits, codes

        return [functools.partial(judge, head, predictor) for head, predictor in self._stages]

    def predict_masks(self, levels: Sequence[Tensor], boxes: Tensor, classes: Tensor) -> Tensor | None:
        """Return the masks of boxes float32 [n, 4] for their classes int64 [n]: float32 [n, 28, 28] in [0, 1]."""
        if self.mask_head is None:
            return None
        logits = self.mask_head(pool_regions(levels, boxes, MASK_CELLS))  # n classes 28 28
        return logits[torch.arange(len(boxes), device=boxes.device), classes].sigmoid()


class StageHeads(nn.Module):
    """The region head of LOST + CAD: the last stage of the ResNet, a batch norm, and the mean."""

    def __init__(self, spec: RcnnSpec) -> None:
        super().__init__()
        self.res5 = make_stage(5, spec.depths[-1])
        self.res5.add_module("norm", nn.BatchNorm2d(2048))
        self.box_predictor = BoxPredictor(2048, spec)

    def forward(self, levels: Sequence[Tensor], proposals: Tensor, size: Size) -> Regions:
        """Judge proposals float32 [n, 4] in an image of this height and width by its one level, `res4`."""
        return run_cascade(proposals, size, [lambda boxes: self.box_predictor(self.describe(levels, boxes))])

    def describe(self, levels: Sequence[Tensor], boxes: Tensor) -> Tensor:
        """Return the vectors of regions, float32 [n, 2048]."""
        (features,) = levels
        pooled = (align_regions(features, part, 2 * BOX_CELLS, STRIDES["res4"]) for part in boxes.split(STAGE_REGIONS))
        return torch.cat([self.res5(regions).mean((2, 3)) for regions in pooled])  # regions: n 1024 14 14

    def predict_masks(self, levels: Sequence[Tensor], boxes: Tensor, classes: Tensor) -> Tensor | None:
        """Return None: there is no mask head."""
        return None


def align_regions(features: Tensor, boxes: Tensor, cells: int, stride: int) -> Tensor:
    """Pool regions of a map float32 [1, C, h, w] bilinearly: float32 [n, C, cells, cells]."""
    pooled: Tensor = roi_align(features, [boxes], cells, 1 / stride, sampling_ratio=0, aligned=True)
    return pooled


def choose_levels(boxes: Tensor) -> Tensor:
    """Choose the level of each box by its area, Lin et al., equation 1: int64 [n], 0 for p2 to 3 for p5."""
    side = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).sqrt()
    return (4 + torch.log2(side / 224 + 1e-8)).floor().clamp(2, 5).long() - 2


def pool_regions(levels: Sequence[Tensor], boxes: Tensor, cells: int) -> Tensor:
    """Pool each box from its level of p2 to p5: float32 [n, 256, cells, cells]."""
    chosen = choose_levels(boxes)
    pooled = boxes.new_zeros(len(boxes), levels[0].shape[1], cells, cells)
    for number, (features, stride) in enumerate(zip(levels, STRIDES.values(), strict=False)):
        rows = (chosen == number).nonzero()[:, 0]
        pooled[rows] = align_regions(features, boxes[rows], cells, stride)
    return pooled


def run_cascade(proposals: Tensor, size: Size, stages: Sequence[Stage]) -> Regions:
    """Run region heads one after the other; one head alone is a cascade of one.

    Args:
        proposals: float32 [n, 4].
        size: Height and width of the image, to which the boxes of a stage are clipped for the next.
        stages: The region heads.

    Returns:
        The mean of the stages' probabilities, and the boxes of the last stage.
    """
    boxes, decoded, probabilities = proposals, proposals, []
    for number, stage in enumerate(stages, start=1):
        boxes = clip_boxes_to_image(decoded, size)
        logits, codes = stage(boxes)
        dx, dy, dw, dh = (number * weight for weight in BOX_WEIGHTS)
        decoded = decode_boxes(boxes, codes, (dx, dy, dw, dh))
        probabilities.append(logits.softmax(1))
    return Regions(torch.stack(probabilities).mean(0), decoded)


def select_objects(
    regions: Regions, size: Size, *, threshold: float, nms_iou: float, limit: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Select the best detections, apart for each class.

    Args:
        regions: Scores and boxes.
        size: Height and width of the image, to which boxes are clipped.
        threshold: Least score, itself excluded.
        nms_iou: Greatest IoU of two detections of one class.
        limit: Most detections.

    Returns:
        Boxes float32 [n, 4], scores float32 [n] and classes int64 [n], best first.
    """
    count = regions.boxes.shape[1] // 4
    boxes = clip_boxes_to_image(regions.boxes.reshape(-1, count, 4), size)  # n box_classes 4
    scores = regions.scores[:, :-1]  # n classes
    good = boxes.isfinite().all(2).all(1) & scores.isfinite().all(1)
    region, label = ((scores > threshold) & good[:, None]).nonzero(as_tuple=True)
    boxes, scores = boxes[region, label if count > 1 else torch.zeros_like(label)], scores[region, label]
    kept = batched_nms(boxes, scores, label, nms_iou)[:limit]
    return boxes[kept], scores[kept], label[kept]


class Rcnn(nn.Module):
    """A region-based detector.

    Args:
        spec: Which one.
    """

    def __init__(self, spec: RcnnSpec) -> None:
        super().__init__()
        self.spec = spec
        self.backbone: nn.Module
        self.roi_heads: PyramidHeads | StageHeads
        if spec.pyramid:
            self.backbone = FeaturePyramid(spec.depths)
            strides, sizes = list(PYRAMID_STRIDES.values()), [(size,) for size in ANCHOR_SIZES]
            self.proposal_generator = ProposalGenerator(PYRAMID_CHANNELS, strides, sizes, nms_iou=0.65, best=1000)
            self.roi_heads = PyramidHeads(spec)
        else:
            self.backbone = ResNet(spec.depths[:-1])
            self.proposal_generator = ProposalGenerator(1024, [STRIDES["res4"]], [ANCHOR_SIZES], nms_iou=0.7, best=6000)
            self.roi_heads = StageHeads(spec)

    def compute_levels(self, pixels: Tensor) -> list[Tensor]:
        """Return the maps that proposals are sought in: p2 to p6 or `res4`, float32 [1, C, h, w] each."""
        outputs: dict[str, Tensor] = self.backbone(pixels)
        return list(outputs.values()) if self.spec.pyramid else [outputs["res4"]]

    @torch.inference_mode()
    def detect(self, image: Image, size: Size, *, threshold: float, nms_iou: float, limit: int) -> RcnnObjects:
        """Detect objects in an image.

        Args:
            image: RGB uint8 [H, W, 3].
            size: Height and width at which the network shall see it, see `choose_size`.
            threshold: Least score, itself excluded.
            nms_iou: Greatest IoU of two detections of one class.
            limit: Most detections.
        """
        device = next(self.parameters()).device
        levels = self.compute_levels(prepare_image(image, size, 32 if self.spec.pyramid else 1).to(device))
        proposals = self.proposal_generator(levels, size)
        regions = self.roi_heads(levels, proposals, size)
        boxes, scores, classes = select_objects(regions, size, threshold=threshold, nms_iou=nms_iou, limit=limit)
        return RcnnObjects(boxes, scores, classes, self.roi_heads.predict_masks(levels, boxes, classes))


def choose_size(source: Size, short_side: int = SHORT_SIDE) -> Size:
    """Choose the height and width at which the network sees an image.

    Args:
        source: Height and width of the image.
        short_side: What its shorter side becomes, unless the longer one would exceed 1333 / 800 of it.
    """
    scale = min(short_side / min(source), short_side * MAX_LONG_SIDE / SHORT_SIDE / max(source))
    height, width = (max(1, int(scale * side + 0.5)) for side in source)
    return height, width


def prepare_image(image: Image, size: Size, multiple: int) -> Tensor:
    """Resize an image RGB uint8 [H, W, 3] bilinearly, normalise it, and pad it by zeros at the right and the bottom.

    Returns:
        float32 [1, 3, h, w] with sides that are multiples.
    """
    pixels = np.asarray(PilImage.fromarray(image).resize(size[::-1], PilImage.Resampling.BILINEAR))
    planes = torch.from_numpy(pixels.copy()).permute(2, 0, 1).float()  # 3 h w
    planes = (planes - torch.tensor(PIXEL_MEAN)[:, None, None]) / torch.tensor(PIXEL_STD)[:, None, None]
    return F.pad(planes, (0, -size[1] % multiple, 0, -size[0] % multiple))[None]
