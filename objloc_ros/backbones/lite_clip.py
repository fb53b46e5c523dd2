"""`lite_clip`: an image tower that knows ordinary things, small enough to ship: EfficientNet-Lite0's class scores.

Norouzi et al., "Zero-Shot Learning by Convex Combination of Semantic Embeddings", ICLR 2014 (ConSE): a picture is the
sum of its classes' word embeddings, weighted with their probabilities, and is compared with those of nouns. A cosine is
linear in that sum, so the picture keeps its probabilities here, and `lite_text` carries a noun to the classes instead.
Positions of the last feature map are classified as whole pictures are (Zhou et al., "Learning Deep Features for
Discriminative Localization", CVPR 2016), so one pass describes every window of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from objloc_ros.backbones.efficientnet import STAGES, EfficientNetLite0
from objloc_ros.backbones.specs import patch_grid
from objloc_ros.types import Grid

LITE_CLIP = "lite_clip"

CLASSES = 1000
"""ImageNet's."""

FEATURES = 1280
"""Channels that the classifier reads."""

LAST_STRIDED_STAGE = 5
"""Before it features are moved by one position: with the trunk's symmetric padding each would see around the upper left
corner of its patch, thus it sees around the patch's centre."""


@dataclass(frozen=True)
class LiteSpec:
    """What is told of a pair of towers of this kind, under the names that `clip.ClipSpec` has for it.

    Args:
        patch: Stride of the positions in pixels.
        side: Side in pixels of the square pictures that are named as a whole.
        embed_dim: Width D of the space of images and texts: a probability for each class, and one number more for each
            tower that makes a unit vector of them.
        signed: Whether similarities may fall below 0.
        short_side: Shorter side in pixels of whole images for dense features.
        window_side: Side in pixels of the square images of whose dense features windows are made.
        unknown: What becomes of words that are not known, for messages.
    """

    patch: int = 32
    side: int = 288
    embed_dim: int = CLASSES + 2
    signed: bool = False
    short_side: int = 384
    window_side: int = 512
    unknown: str = "it is left out"


class LiteImage(nn.Module):
    """The image tower: `(B, 3, S, S) -> (B, D)`.

    Args:
        spec: Its sizes.
    """

    mean = (127 / 255,) * 3
    std = (128 / 255,) * 3
    logit_scale = 100.0

    def __init__(self, spec: LiteSpec) -> None:
        super().__init__()
        self.trunk = EfficientNetLite0()
        self.head = nn.Conv2d(STAGES[-1].channels, FEATURES, 1)
        self.classifier = nn.Linear(FEATURES, CLASSES)
        self.spec = spec
        self.patch = spec.patch
        self.side = spec.side
        self.embed_dim = spec.embed_dim
        for parameter in self.parameters():
            if parameter.ndim == 4:  # convolutions of single channels are twice as fast this way
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        """Embed whole images: unit vectors float32 [B, D], the mean of the image and of nine windows of two thirds.

        Args:
            images: float32 [B, 3, S, S], normalised with `mean` and `std`; S a multiple of 96 pixels.

        Raises:
            InputError: If a side is not a positive multiple of the patch size.
        """
        features = self.features(images)
        whole = self._classify(features.mean((2, 3)))  # B classes
        window, step = (max(1, features.shape[-1] * thirds // 6) for thirds in (4, 1))
        parts = self._classify(F.avg_pool2d(features, window, step).flatten(2).mT).mean(1)  # B classes
        return _embed((whole + parts) / 2)

    def dense(self, images: Tensor) -> tuple[Tensor, Grid]:
        """Embed each position: unit vectors float32 [B, N, D], and the grid of the N positions.

        Args:
            images: float32 [B, 3, H, W], normalised with `mean` and `std`; H and W multiples of `patch`.

        Raises:
            InputError: If a side is not a positive multiple of the patch size.
        """
        features = self.features(images)
        return _embed(self._classify(features.flatten(2).mT)), (features.shape[2], features.shape[3])

    def windows(self, images: Tensor, sides: Sequence[Fraction], stride: int) -> list[Tensor]:
        """Embed windows of square images from one pass: a window's features are the mean of its positions'.

        Args:
            images: float32 [B, 3, S, S], normalised with `mean` and `std`.
            sides: Sides of the windows as fractions of S.
            stride: Windows of side s are s / stride apart.

        Returns:
            For each side unit vectors float32 [B, n, n, D].

        Raises:
            InputError: If S is not a positive multiple of the patch size.
        """
        features = self.features(images)
        scales = []
        for side in sides:
            window = int(features.shape[-1] * side)
            pooled = F.avg_pool2d(features, window, max(1, window // stride))  # B F n n
            scales.append(_embed(self._classify(pooled.permute(0, 2, 3, 1))))
        return scales

    def features(self, images: Tensor) -> Tensor:
        """Return what the classifier reads at each position: [B, 1280, H / 32, W / 32]."""
        patch_grid(images.shape[-2:], self.patch)
        x = F.relu6(self.trunk.stem(images.contiguous(memory_format=torch.channels_last)))
        for number, stage in enumerate(self.trunk.stages):
            if number == LAST_STRIDED_STAGE:
                x = F.pad(x[:, :, 1:, 1:], (0, 1, 0, 1), mode="replicate")
            x = stage(x)
        return F.relu6(self.head(x))

    def _classify(self, features: Tensor) -> Tensor:
        """Return probabilities of the classes: float32 [..., classes]."""
        logits: Tensor = self.classifier(features)
        return logits.float().softmax(-1)


def _embed(probabilities: Tensor) -> Tensor:
    """Fill probabilities [..., classes] up to unit length, on the axis that texts leave empty: [..., D]."""
    rest = (1 - probabilities.square().sum(-1, keepdim=True)).clamp(min=0).sqrt()
    return torch.cat([probabilities, rest, torch.zeros_like(rest)], dim=-1)
