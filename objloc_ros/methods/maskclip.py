"""MaskCLIP: dense CLIP features without any training.

Zhou, Loy and Dai, "Extract Free Dense Labels from CLIP", ECCV 2022. The last attention layer pools the image into one
token by averaging value vectors; MaskCLIP leaves the averaging out and sends each patch's own value through the rest of
the network (their section 3.2).
"""

from __future__ import annotations

from typing import cast

from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor
from torch.nn import functional as F

from objloc_ros.backbones.clip import ClipImage, ClipTokens, ImageTower
from objloc_ros.types import Grid


def dense_features(tower: ImageTower, images: Tensor) -> tuple[Tensor, Grid]:
    """Return patch features in the space of texts, float32 [B, N, D], not normalised, and the grid of patches.

    Args:
        tower: An image tower. One without attention has features of that kind at every position.
        images: float32 [B, 3, H, W], normalised as the tower wants; H and W multiples of its patch.

    Raises:
        InputError: If a side is not a positive multiple of the patch size.
    """
    if not isinstance(tower, ClipImage):
        return tower.dense(images)
    tokens = tower.tokens(images)
    return value_features(tower, tokens), tokens.grid


def value_features(tower: ClipImage, tokens: ClipTokens) -> Tensor:
    """Return patch features in the space of texts: float32 [B, N, D], not normalised.

    The last block on its value path: layer norm, value projection and output projection replace the attention; residual
    connections and the MLP stay.

    Args:
        tower: The image tower.
        tokens: Its tokens before the last block.
    """
    block = cast(ResidualAttentionBlock, tower.visual.transformer.resblocks[-1])
    x = tokens.last[:, 1:]
    width = x.shape[-1]
    weight, bias = block.attn.in_proj_weight[-width:], block.attn.in_proj_bias[-width:]
    values = block.attn.out_proj(F.linear(block.ln_1(x), weight, bias))
    x = x + block.ls_1(values)
    x = x + block.ls_2(block.mlp(block.ln_2(x)))
    projected: Tensor = tower.visual.ln_post(x) @ tower.visual.proj
    return projected.float()
