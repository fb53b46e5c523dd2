"""A convolutional patch embedding: three strided 3x3 convolutions in place of one 8x8.

A small transformer trained for hours instead of weeks learns faster behind it (Xiao et al., "Early Convolutions Help
Transformers See Better", NeurIPS 2021).
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn


class ConvStem(nn.Module):
    """Image to patch tokens at 1/8 resolution: `(B, 3, H, W) -> (B, H / 8 * W / 8, C)`.

    Takes the arguments with which timm's VisionTransformer calls its `embed_layer`.

    Args:
        img_size: Side in pixels that the position embedding is learned for.
        patch_size: Must be 8, the product of the strides.
        in_chans: Input channels.
        embed_dim: Token width C.
        bias: Whether the final projection has a bias.
    """

    LAYERS = ((32, 2), (64, 2), (128, 2))
    """Channels and stride of each convolution."""

    def __init__(
        self,
        img_size: int = 128,
        patch_size: int = 8,
        in_chans: int = 3,
        embed_dim: int = 160,
        bias: bool = True,
        **_: object,
    ) -> None:
        super().__init__()
        if patch_size != 8:
            raise ValueError(f"the convolutional stem has patch size 8, got {patch_size}")
        self.num_patches = (img_size // patch_size) ** 2
        self.stages = _convolutions(in_chans, self.LAYERS, nn.GELU)
        self.proj = nn.Conv2d(self.LAYERS[-1][0], embed_dim, 1, bias=bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return tokens in row-major order."""
        tokens: Tensor = self.proj(self.stages(images))
        return tokens.flatten(2).transpose(1, 2)


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
