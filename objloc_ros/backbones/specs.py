"""The architectures of the backbones as numbers; no network is built, and no torch imported, to know them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from objloc_ros.errors import InputError
from objloc_ros.types import Grid

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ViTSpec:
    """Architecture of one backbone.

    Args:
        patch: Patch side in pixels.
        embed_dim: Token width C.
        depth: Number of blocks, the last of which is only projected.
        n_heads: Attention heads.
        base: Side in pixels of the square image that the position embedding was learned for.
        pos_embed: "dino" for DINO's off-by-0.1 bicubic rule, "size" for plain size-based bicubic resampling,
            "antialias" for that with antialiasing, "rope" for rotary positions, which are not learned.
        registers: Tokens between CLS and patches, without a place.
        layer_scale: Whether each block scales by channel what it adds.
        norm_eps: Added to variances in layer norms.
        stem: The patch embedding: "patch" for DINO's single strided convolution, "pyramid" for `stem.PyramidStem`.
        short_side: Shorter image side in pixels that it works best at; None for the native resolution.
        bfloat16: Whether a CPU with bfloat16 units runs its module so; its graph is float32, and faster.
    """

    patch: int
    embed_dim: int
    depth: int
    n_heads: int
    base: int = 224
    pos_embed: Literal["dino", "size", "antialias", "rope"] = "dino"
    registers: int = 0
    layer_scale: bool = False
    norm_eps: float = 1e-6
    stem: Literal["patch", "pyramid"] = "patch"
    short_side: int | None = None
    bfloat16: bool = False

    @property
    def leads(self) -> int:
        """Tokens before the patches."""
        return 1 + self.registers


def _dinov2(embed_dim: int, n_heads: int) -> ViTSpec:
    return ViTSpec(patch=14, embed_dim=embed_dim, depth=12, n_heads=n_heads, base=518, layer_scale=True)


def _dinov2_reg(embed_dim: int, n_heads: int) -> ViTSpec:
    return replace(_dinov2(embed_dim, n_heads), registers=4, pos_embed="antialias")


def _dinov3(embed_dim: int, n_heads: int) -> ViTSpec:
    return ViTSpec(
        patch=16,
        embed_dim=embed_dim,
        depth=12,
        n_heads=n_heads,
        pos_embed="rope",
        registers=4,
        layer_scale=True,
        norm_eps=1e-5,
    )


SPECS: dict[str, ViTSpec] = {
    "dino_vits16": ViTSpec(patch=16, embed_dim=384, depth=12, n_heads=6),
    "dino_vits8": ViTSpec(patch=8, embed_dim=384, depth=12, n_heads=6),
    "dino_vitb16": ViTSpec(patch=16, embed_dim=768, depth=12, n_heads=12),
    "dino_vitb8": ViTSpec(patch=8, embed_dim=768, depth=12, n_heads=12),
    "dinov2_vits14": _dinov2(384, 6),
    "dinov2_vitb14": _dinov2(768, 12),
    "dinov2_vits14_reg": _dinov2_reg(384, 6),
    "dinov2_vitb14_reg": _dinov2_reg(768, 12),
    "dinov3_vits16": _dinov3(384, 6),
    "dinov3_vitb16": _dinov3(768, 12),
    "tiny": ViTSpec(
        patch=8,
        embed_dim=160,
        depth=1,
        n_heads=5,
        base=128,
        pos_embed="size",
        stem="pyramid",
        short_side=192,
        bfloat16=True,
    ),
}


def patch_grid(sides: Sequence[int], patch: int) -> Grid:
    """Return patch rows and columns of images of this height and width.

    Raises:
        InputError: If a side is not a positive multiple of the patch size.
    """
    height, width = sides
    if height < patch or width < patch or height % patch or width % patch:
        raise InputError(f"image sides must be positive multiples of the patch size {patch}, got {width}x{height}")
    return height // patch, width // patch
