"""Convolutional patch embeddings, in place of one strided convolution.

A small transformer trained for hours instead of weeks learns faster behind them (Xiao et al., "Early Convolutions Help
Transformers See Better", NeurIPS 2021).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.nn import functional as F

from objloc_ros.backbones.attention import Attention
from objloc_ros.backbones.efficientnet import STAGES, EfficientNetLite0


class PyramidStem(nn.Module):
    """EfficientNet-Lite0 and two transformer blocks at stride 16, fused up to stride 8: `(B, 3, H, W) -> (B, N, C)`.

    Attention costs a sixteenth of what it would at stride 8, and edges come from the convolutions (Lin et al., "Feature
    Pyramid Networks for Object Detection", CVPR 2017). Takes the arguments with which timm's VisionTransformer calls
    its `embed_layer`.

    Args:
        img_size: Side in pixels that the position embedding is learned for.
        patch_size: Must be 8.
        in_chans: Must be 3.
        embed_dim: Token width C.
    """

    WIDTH = 192
    """Channels at stride 16."""

    DROPPED = 0.05
    """Part of the trunk's channels that is dropped in training, so that none of them decides alone."""

    def __init__(self, img_size: int, patch_size: int, in_chans: int, embed_dim: int, **_: object) -> None:
        super().__init__()
        if (patch_size, in_chans) != (8, 3):
            raise ValueError(f"the pyramid has patch size 8 and 3 channels, got {patch_size} and {in_chans}")
        self.num_patches = (img_size // patch_size) ** 2
        self.trunk = EfficientNetLite0(stages=6)
        self.drop = nn.Dropout2d(self.DROPPED)
        self.from_8 = nn.Conv2d(STAGES[2].channels, embed_dim, 1)
        self.from_16 = nn.Conv2d(STAGES[4].channels, self.WIDTH, 1)
        self.from_32 = nn.Conv2d(STAGES[5].channels, self.WIDTH, 1)
        self.blocks = nn.Sequential(
            *(Block(self.WIDTH, self.WIDTH // 32, mlp_ratio=2.0, attn_layer=Attention) for _ in range(2))
        )
        self.up = nn.Conv2d(self.WIDTH, embed_dim, 1)
        self.fuse = nn.Sequential(
            nn.Conv2d(embed_dim, embed_dim, 5, padding=2, groups=embed_dim),
            nn.Conv2d(embed_dim, 2 * embed_dim, 1),
            nn.GELU(),
            nn.Conv2d(2 * embed_dim, embed_dim, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return tokens in row-major order."""
        maps = self.trunk(images.contiguous(memory_format=torch.channels_last))
        coarse = self.from_16(self.drop(maps[4]))
        coarse = coarse + F.interpolate(self.from_32(self.drop(maps[5])), size=coarse.shape[-2:], mode="bilinear")
        tokens = self.blocks(coarse.flatten(2).transpose(1, 2))  # B N/4 WIDTH
        coarse = tokens.transpose(1, 2).unflatten(2, coarse.shape[-2:])
        fine = self.from_8(self.drop(maps[2]))
        fine = fine + F.interpolate(self.up(coarse), size=fine.shape[-2:], mode="bilinear")
        fused: Tensor = fine + self.fuse(fine)
        return fused.flatten(2).transpose(1, 2)


class DeepStem(nn.Module):
    """Five convolutions for a small CLIP: `(B, 3, H, W) -> (B, C, H / 8, W / 8)`.

    Deeper than a patch embedding needs to be: shapes are what a transformer of this size learns last, and convolutions
    learn first.

    Args:
        width: Token width C.
    """

    LAYERS = ((32, 2), (48, 2), (96, 1), (128, 2), (160, 1))
    """Channels and stride of each convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stages = _convolutions(3, self.LAYERS, nn.ReLU)
        self.proj = nn.Conv2d(self.LAYERS[-1][0], width, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return the patch map."""
        patches: Tensor = self.proj(self.stages(images))
        return patches


def _convolutions(channels: int, layers: Iterable[tuple[int, int]], activation: type[nn.Module]) -> nn.Sequential:
    modules: list[nn.Module] = []
    for after, stride in layers:
        modules += [nn.Conv2d(channels, after, 3, stride, padding=1, bias=False), nn.BatchNorm2d(after), activation()]
        channels = after
    return nn.Sequential(*modules)
