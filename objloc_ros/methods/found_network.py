"""FOUND on a backbone's features: the background without training, and the trained 1x1 convolution; see `found`."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from objloc_ros.errors import InputError
from objloc_ros.types import Grid


def head_weights(cls_attention: Tensor) -> Tensor:
    """Weigh attention heads by how sparsely they attend: the fewer patches above the mean, the heavier.

    Args:
        cls_attention: float32 [B, heads, N], CLS column dropped, not re-normalised.

    Returns:
        float32 [B, heads]; a head without any patch above the mean weighs most.
    """
    mean = cls_attention.mean(dim=(1, 2), keepdim=True)
    quantity = (cls_attention > mean).float().mean(dim=2) + 1e-10
    return torch.log(quantity.sum(dim=1, keepdim=True) / quantity)


def background_seed(cls_attention: Tensor, betas: Tensor) -> Tensor:
    """Find the patch that draws the least weighted attention, the first among equals: int64 [B]."""
    return (betas[:, :, None] * cls_attention).sum(dim=1).argmin(dim=1)


def background_mask(
    features: Tensor,
    cls_attention: Tensor,
    grid: Grid,
    *,
    n_heads: int,
    threshold: float = 0.3,
    betas: Tensor | None = None,
) -> Tensor:
    """Discover the background without training: the patches similar to the least attended one.

    Only the seed's row of the similarity matrix is computed, and the weights are moved onto the seed and the norms.

    Args:
        features: Keys, float32 [B, N, C], heads concatenated.
        cls_attention: float32 [B, heads, N], softmax over all tokens, CLS column dropped.
        grid: Patch rows and columns (h, w), N = h * w.
        n_heads: Number of heads.
        threshold: Cosine above which a patch is background.
        betas: Head weights [B, heads]; None for those of `head_weights`, ones to weigh all heads alike.

    Returns:
        bool [B, h, w], True on the background.

    Raises:
        InputError: If the shapes disagree.
    """
    batch, n, channels = features.shape
    if n != grid[0] * grid[1] or cls_attention.shape != (batch, n_heads, n) or channels % n_heads:
        raise InputError(
            f"features {tuple(features.shape)} and cls_attention {tuple(cls_attention.shape)} "
            f"do not fit a grid of {grid[0]}x{grid[1]} patches and {n_heads} heads"
        )
    betas = head_weights(cls_attention) if betas is None else betas
    seed = background_seed(cls_attention, betas)
    head_norms = torch.linalg.vector_norm(features.unflatten(2, (n_heads, -1)), dim=3)
    norms = torch.linalg.vector_norm(head_norms * betas[:, None], dim=2).clamp_min(1e-12)
    index = torch.arange(batch, device=features.device)
    reference = features[index, seed] * betas.square().repeat_interleave(channels // n_heads, dim=1)
    cosine = torch.bmm(features, reference[:, :, None])[:, :, 0] / (norms * norms[index, seed, None])
    return (cosine > threshold).unflatten(1, grid)


def head_logits(features: Tensor, weight: Tensor, bias: Tensor, grid: Grid) -> Tensor:
    """Apply the 1x1 convolution to raw keys.

    Args:
        features: float32 [B, N, C]; neither weighted nor normalised.
        weight: float32 [1, C, 1, 1].
        bias: float32 [1].
        grid: Patch rows and columns (h, w), N = h * w.

    Returns:
        float32 [B, h, w]; positive on objects.

    Raises:
        InputError: If the shapes disagree.
    """
    _, n, channels = features.shape
    if n != grid[0] * grid[1] or weight.numel() != channels or bias.numel() != 1:
        raise InputError(
            f"features {tuple(features.shape)}, weight {tuple(weight.shape)} and bias {tuple(bias.shape)} "
            f"do not fit a grid of {grid[0]}x{grid[1]} patches"
        )
    return (features @ weight.flatten() + bias).unflatten(1, grid)


class FoundAnswer(NamedTuple):
    """What FOUND's head says about a batch.

    Args:
        found: Logits float32 [B, h, w]; positive on objects.
    """

    found: Tensor


class FoundNetwork(nn.Module):
    """The head as a network, to be exported with its backbone.

    Args:
        weight: float32 [1, C, 1, 1].
        bias: float32 [1].
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    def forward(self, keys: Tensor) -> FoundAnswer:
        """Return the logits of raw keys [B, C, h, w]."""
        return FoundAnswer(F.conv2d(keys, self.get_buffer("weight"), self.get_buffer("bias"))[:, 0])
