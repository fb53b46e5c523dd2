"""A detector on the tokens of a backbone that other methods have taught: one pass, many boxes and masks with scores.

A small convolutional network reads the keys that the other heads read, and says for each patch whether it is the middle
of an object, where the sides of the object's box are, and which mask it has. What it learns from are the discoveries of
slower methods (`objloc_ros.training.detector`). Parts come from FCOS (Tian et al., ICCV 2019: distances to the box's
sides), generalised focal loss (Li et al., NeurIPS 2020: the score is the expected overlap) and CondInst (Tian et al.,
ECCV 2020: the mask's filter is predicted per object); the mask's quadratic form in the place is this project's.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from objloc_ros.errors import InputError, ParameterError

WIDTH = 96
"""Channels of the trunk."""

EMBEDDING = 16
"""Channels in which the pixels of an object are told from others."""

PLACE_TERMS = 6
"""Parameters of a mask in the place of a pixel: constant, dx, dy, dx^2, dy^2 and dx dy."""

PIXELS_PER_PATCH = 2
"""Sides of the masks' grid relative to the patch grid."""

PLACE_UNIT_PATCHES = 8.0
"""Patches that count as 1 in the distance of a pixel from its patch."""

DISTANCE_UNIT_PATCHES = 2.0
"""Distance of a box's side from its patch where the network says 0."""

MAX_LOG_DISTANCE = 4.0
"""Distances are `DISTANCE_UNIT_PATCHES` times at most e to this power, and at least its inverse."""

CROP_MARGIN = 0.1
"""How far a mask may reach beyond each side of the predicted box, relative to the box's side."""

PRIOR = 0.01
"""Score of every patch before training."""

_DILATIONS = (1, 2, 4)
_GROUPS = 8


class Dense(NamedTuple):
    """What the network says for each patch, and for each pixel of the masks' grid.

    Args:
        objectness: Logits float32 [B, h, w].
        boxes: Distances from the patch's centre to the left, top, right and bottom side of the box, in patches, float32
            [B, 4, h, w], positive.
        kernels: Parameters of the mask, float32 [B, E + 6, h, w].
        pixels: Embedding of the pixels, float32 [B, E, 2h, 2w].
        categories: Logits float32 [B, K, h, w]; None where there is one class.
    """

    objectness: Tensor
    boxes: Tensor
    kernels: Tensor
    pixels: Tensor
    categories: Tensor | None = None


class Decoded(NamedTuple):
    """The objects of one image, best first.

    Args:
        boxes: float32 [n, 4] as (x1, y1, x2, y2) in patches, max exclusive: those of the masks.
        scores: float32 [n] in [0, 1].
        masks: bool [n, 2h, 2w], none of them empty.
        categories: int64 [n], places in the classes.
    """

    boxes: Tensor
    scores: Tensor
    masks: Tensor
    categories: Tensor


class TokenDetector(nn.Module):
    """The network: a trunk of four convolutions that sees 15 patches, and a 1x1 convolution for each answer.

    Args:
        channels: Width C of the tokens.
        classes: What objects are called, one name or more.
        width: Channels of the trunk, a multiple of 8.
        embedding: Channels E of the pixels' embedding.

    Raises:
        ParameterError: A number is out of range, or two classes have one name.

    Attributes:
        mean: float32 [C], subtracted from the tokens; 0 until training sets it.
        std: float32 [C], divides them; 1 until training sets it.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, channels: int, classes: tuple[str, ...] = ("object",), width: int = WIDTH, embedding: int = EMBEDDING
    ) -> None:
        super().__init__()
        if min(channels, width, embedding) < 1 or width % _GROUPS:
            raise ParameterError(
                f"channels and embedding must be at least 1 and width a positive multiple of {_GROUPS}, "
                f"got {channels}, {embedding} and {width}"
            )
        if not classes or len(set(classes)) != len(classes) or not all(classes):
            raise ParameterError(f"classes must be one or more different names, got {list(classes)}")
        self.classes = tuple(classes)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))
        self.trunk = nn.Sequential(
            *_convolve(channels + 2, width, kernel=1),
            *(layer for dilation in _DILATIONS for layer in _convolve(width, width, kernel=3, dilation=dilation)),
        )
        self.objectness = nn.Conv2d(width, 1, 1)
        self.boxes = nn.Conv2d(width, 4, 1)
        self.kernels = nn.Conv2d(width, embedding + PLACE_TERMS, 1)
        self.pixels = nn.Conv2d(width, embedding, 1)
        self.categories = nn.Conv2d(width, len(classes), 1) if len(classes) > 1 else None
        nn.init.constant_(self.objectness.bias, math.log(PRIOR / (1 - PRIOR)))  # type: ignore[arg-type]

    @property
    def channels(self) -> int:
        """Width C of the tokens that it reads."""
        return len(self.mean)

    def forward(self, tokens: Tensor) -> Dense:
        """Look at the tokens of a batch.

        Args:
            tokens: Raw keys float32 [B, C, h, w].

        Raises:
            InputError: If they have another width.
        """
        if tokens.ndim != 4 or tokens.shape[1] != self.channels:
            raise InputError(f"expected tokens [B, {self.channels}, h, w], got {list(tokens.shape)}")
        standard = (tokens - self.mean[:, None, None]) / self.std[:, None, None]
        x = self.trunk(torch.cat([standard, _coordinates(standard)], dim=1))  # B width h w
        distances = self.boxes(x).float().clamp(-MAX_LOG_DISTANCE, MAX_LOG_DISTANCE).exp() * DISTANCE_UNIT_PATCHES
        pixels = F.interpolate(self.pixels(x), scale_factor=float(PIXELS_PER_PATCH), mode="bilinear")
        categories = None if self.categories is None else self.categories(x)
        return Dense(self.objectness(x)[:, 0], distances, self.kernels(x), pixels, categories)


def _convolve(inputs: int, outputs: int, *, kernel: int, dilation: int = 1) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(inputs, outputs, kernel, padding=dilation * (kernel // 2), dilation=dilation, bias=False)
    return convolution, nn.GroupNorm(_GROUPS, outputs), nn.GELU()


def _coordinates(tokens: Tensor) -> Tensor:
    """Return where each patch is in its image: columns and rows in (0, 1), [B, 2, h, w]."""
    rows, columns = tokens.shape[-2:]
    x = ((torch.arange(columns, device=tokens.device) + 0.5) / columns).to(tokens.dtype)
    y = ((torch.arange(rows, device=tokens.device) + 0.5) / rows).to(tokens.dtype)
    both = torch.stack([x.expand(rows, columns), y[:, None].expand(rows, columns)])
    return both.expand(tokens.shape[0], -1, -1, -1)


def place_boxes(dense: Dense, image: int, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the boxes that some patches of an image predict.

    Args:
        dense: The network's answers.
        image: Number of the image in the batch.
        rows: Rows of the patches, int64 [n].
        columns: Their columns, int64 [n].

    Returns:
        float32 [n, 4] as (x1, y1, x2, y2) in patches; they may reach beyond the grid.
    """
    left, top, right, bottom = dense.boxes[image, :, rows, columns].float()  # each n
    x, y = columns + 0.5, rows + 0.5
    return torch.stack([x - left, y - top, x + right, y + bottom], dim=1)


def mask_logits(dense: Dense, image: int, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the masks that some patches of an image predict.

    Args:
        dense: The network's answers.
        image: Number of the image in the batch.
        rows: Rows of the patches, int64 [n].
        columns: Their columns, int64 [n].

    Returns:
        Logits float32 [n, 2h, 2w], positive on the object.
    """
    pixels = dense.pixels[image].float()  # E 2h 2w
    embedding, height, width = pixels.shape
    kernels = dense.kernels[image, :, rows, columns].float().T  # n E+6
    constant, slope_x, slope_y, bend_x, bend_y, twist = kernels[:, embedding:, None].unbind(1)  # each n 1
    dx = _distances(columns, width)  # n 2w
    dy = _distances(rows, height)  # n 2h
    across = slope_x * dx - F.softplus(bend_x) * dx.square() + constant
    down = slope_y * dy - F.softplus(bend_y) * dy.square()
    looks = (kernels[:, :embedding] @ pixels.flatten(1)).unflatten(1, (height, width))
    return looks + across[:, None] + down[:, :, None] + (twist * dy)[:, :, None] * dx[:, None]


def _distances(patches: Tensor, count: int) -> Tensor:
    """Return how far along an axis the masks' pixels are from patches [n]: float32 [n, count]."""
    pixels = (torch.arange(count, device=patches.device) + 0.5) / PIXELS_PER_PATCH
    return (pixels - (patches[:, None] + 0.5)) / PLACE_UNIT_PATCHES


@torch.no_grad()
def decode(dense: Dense, *, threshold: float = 0.05, nms_iou: float = 0.5, limit: int = 30) -> list[Decoded]:
    """Choose the objects of each image of a batch.

    Patches with a sufficient score propose boxes; of those that overlap the best stays. Each mask is cut to its box and
    a margin, and the box that is reported is the mask's.

    Args:
        dense: The network's answers.
        threshold: Scores must be above it.
        nms_iou: Overlap of two predicted boxes above which only the better one stays.
        limit: Most objects in one image.

    Raises:
        InputError: An answer is not a number, as where the features were none.
    """
    if not torch.isfinite(dense.objectness).all():
        raise InputError("the detector's answers hold NaN or infinite values: so do the features")
    scores = dense.objectness.float().sigmoid().flatten(1)  # B N
    return [
        _decode_image(dense, image, of_image, threshold=threshold, nms_iou=nms_iou, limit=limit)
        for image, of_image in enumerate(scores)
    ]


def _decode_image(dense: Dense, image: int, scores: Tensor, *, threshold: float, nms_iou: float, limit: int) -> Decoded:
    from torchvision.ops import nms  # a second, for which nodes do not wait that only read the options

    height, width = dense.objectness.shape[-2:]
    proposed = torch.nonzero(scores > threshold).flatten()
    proposed = proposed[scores[proposed].argsort(descending=True, stable=True)]
    sides = torch.tensor([width, height, width, height], dtype=torch.float32, device=scores.device)
    predicted = place_boxes(dense, image, proposed // width, proposed % width).clamp_min(0).minimum(sides)
    kept = nms(predicted, scores[proposed], nms_iou)[:limit]
    patches, predicted = proposed[kept], predicted[kept]
    rows, columns = patches // width, patches % width
    masks = (mask_logits(dense, image, rows, columns) > 0) & _windows(predicted, 2 * height, 2 * width)
    there = masks.flatten(1).any(1)
    masks, patches = masks[there], patches[there]
    if dense.categories is None:
        categories = torch.zeros(len(patches), dtype=torch.int64, device=scores.device)
    else:
        categories = dense.categories[image].flatten(1)[:, patches].argmax(0)
    return Decoded(_extents(masks), scores[patches], masks, categories)


def _windows(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return where masks may be: within boxes [n, 4] in patches and their margins, bool [n, height, width]."""
    margin = CROP_MARGIN * (boxes[:, 2:] - boxes[:, :2])
    (x1, y1), (x2, y2) = ((boxes[:, :2] - margin).T[:, :, None], (boxes[:, 2:] + margin).T[:, :, None])  # each n 1
    x, y = ((torch.arange(count, device=boxes.device) + 0.5) / PIXELS_PER_PATCH for count in (width, height))
    return ((x >= x1) & (x <= x2))[:, None] & ((y >= y1) & (y <= y2))[:, :, None]


def _extents(masks: Tensor) -> Tensor:
    """Return the boxes of masks bool [n, 2h, 2w], none of them empty, in patches: float32 [n, 4]."""
    x1, x2 = _ends(masks.any(1))
    y1, y2 = _ends(masks.any(2))
    return torch.stack([x1, y1, x2, y2], dim=1) / PIXELS_PER_PATCH


def _ends(occupied: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first place that is True in each row of bool [n, k], and the place after the last."""
    count = occupied.shape[1]
    numbers = occupied.to(torch.uint8)
    return numbers.argmax(1), count - numbers.flip(1).argmax(1)
