"""SigLIP 2 and MobileCLIP2: towers of open_clip whose image network is one of timm's, without CLIP's class token.

Tschannen et al., "SigLIP 2: Multilingual Vision-Language Encoders with Improved Semantic Understanding, Localization,
and Dense Features", 2025: a transformer whose patches are pooled by an attention of its own. Faghri et al.,
"MobileCLIP2: Improving Multi-Modal Reinforced Training", TMLR 2025: convolutions with attention at the end, pooled by
their mean. Both have features at every patch in the space of texts: see `TimmImage.dense`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from open_clip.timm_model import TimmModel
from open_clip.transformer import LayerNorm, TextTransformer
from timm.utils.model import reparameterize_model
from torch import Tensor, nn
from torch.nn import functional as F

from objloc_ros.backbones.positions import Positions, antialiased_pos_embed
from objloc_ros.backbones.specs import patch_grid
from objloc_ros.types import Grid

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, kw_only=True)
class TimmClipSpec:
    """Architecture of one pair of towers.

    Args:
        trunk: timm's name of the image network.
        pool: What makes one vector of its features: an attention ("map") or their mean and a projection ("avg").
        patch: Side of a patch in pixels, or stride of the positions.
        side: Side in pixels of the square images that the image tower was trained on.
        embed_dim: Width D of the space that images and texts share.
        mean: Of red, green and blue in [0, 1], subtracted from images.
        std: What images are divided by then.
        interpolation: How images are resized.
        text_width: Token width of the text tower.
        text_heads: Its attention heads.
        text_layers: Its blocks.
        context: Longest text in tokens.
        vocabulary: Number of token ids.
        gemma: Whether texts are read as SigLIP 2 does, with Gemma's tokens; else with CLIP's.
        signed: Whether similarities of things that do not fit may go below 0. SigLIP's loss drives them there; nothing
            keeps MobileCLIP2's from it.
        short_side: Shorter side in pixels of whole images for dense features.
        unknown: What becomes of words that are not known, for messages.
    """

    trunk: str
    pool: Literal["map", "avg"]
    patch: int
    side: int = 256
    embed_dim: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Literal["bicubic", "bilinear"]
    text_width: int
    text_heads: int
    text_layers: int = 12
    context: int
    vocabulary: int
    gemma: bool
    signed: bool = True
    short_side: int
    unknown: str = "it will guess"


def _siglip2(trunk: str, patch: int, side: int, short_side: int) -> TimmClipSpec:
    return TimmClipSpec(
        trunk=trunk,
        pool="map",
        patch=patch,
        side=side,
        embed_dim=768,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        interpolation="bicubic",
        text_width=768,
        text_heads=12,
        context=64,
        vocabulary=256_000,
        gemma=True,
        short_side=short_side,
    )


def _mobileclip2(trunk: str, patch: int, *, embed_dim: int, openai: bool) -> TimmClipSpec:
    return TimmClipSpec(
        trunk=trunk,
        pool="avg",
        patch=patch,
        embed_dim=embed_dim,
        mean=OPENAI_MEAN if openai else (0.0, 0.0, 0.0),
        std=OPENAI_STD if openai else (1.0, 1.0, 1.0),
        interpolation="bilinear",
        text_width=embed_dim,
        text_heads=embed_dim // 64,
        context=77,
        vocabulary=49_408,
        gemma=False,
        short_side=512,
    )


TIMM_CLIP_SPECS: dict[str, TimmClipSpec] = {
    "siglip2_vitb32": _siglip2("vit_base_patch32_siglip_256", 32, 256, 448),
    "siglip2_vitb16": _siglip2("vit_base_patch16_siglip_224", 16, 224, 448),
    "siglip2_vitb16_512": _siglip2("vit_base_patch16_siglip_512", 16, 512, 512),
    "mobileclip2_s0": _mobileclip2("fastvit_mci0", 32, embed_dim=512, openai=False),
    "mobileclip2_s2": _mobileclip2("fastvit_mci2", 32, embed_dim=512, openai=False),
    "mobileclip2_s3": _mobileclip2("fastvit_mci3", 64, embed_dim=768, openai=True),
    "mobileclip2_s4": _mobileclip2("fastvit_mci4", 64, embed_dim=768, openai=True),
}
"""Pairs of towers by name, which is also that of their weights in the registry."""


class TimmImage(nn.Module):
    """The image tower: `(B, 3, S, S) -> (B, D)`.

    Args:
        visual: open_clip's wrapper of timm's network; its state_dict keeps open_clip's layout.
        spec: The architecture it was built from.
    """

    def __init__(self, visual: TimmModel, spec: TimmClipSpec) -> None:
        super().__init__()
        self.visual = visual
        self.spec = spec
        self.mean, self.std, self.interpolation = spec.mean, spec.std, spec.interpolation
        self.patch = spec.patch
        self.side = spec.side
        self.embed_dim = spec.embed_dim
        self.logit_scale = 100.0
        self._positions = Positions(antialiased_pos_embed)

    def forward(self, images: Tensor) -> Tensor:
        """Embed whole images: float32 [B, D], not normalised to unit length.

        Args:
            images: float32 [B, 3, S, S], normalised with `mean` and `std`; S is `side`.
        """
        embedded: Tensor = self.visual(images)
        return embedded.float()

    def dense(self, images: Tensor) -> tuple[Tensor, Grid]:
        """Embed each patch of images of any size: float32 [B, N, D], not normalised, and the grid of the N patches.

        SigLIP: every patch goes through the pooling attention as if that looked at nothing else, thus its value, the
        output projection and the MLP remain. This is MaskCLIP's step on the network it was made for, CLIP's ResNet,
        which pools so too (Zhou et al., ECCV 2022, section 3.2). MobileCLIP2: mean and projection are linear, so the
        embedding of an image is the mean of its projected positions, and those are what is returned.

        Args:
            images: float32 [B, 3, H, W], normalised with `mean` and `std`; H and W multiples of `patch`.

        Raises:
            InputError: If a side is not a positive multiple of the patch size.
        """
        grid = patch_grid(images.shape[-2:], self.patch)
        trunk: Any = self.visual.trunk
        if self.spec.pool == "avg":
            features = trunk.forward_features(images).flatten(2).mT  # B N C
            return trunk.head.fc(features).float(), grid
        x = trunk.patch_embed.proj(images).flatten(2).mT + self._positions(trunk.pos_embed, grid)  # B N W
        x = trunk.norm(trunk.blocks(x))
        pool = trunk.attn_pool
        weight, bias = pool.kv.weight[x.shape[-1] :], pool.kv.bias[x.shape[-1] :]  # keys come first
        x = pool.proj(F.linear(x, weight, bias))
        return (x + pool.mlp(pool.norm(x))).float(), grid

    def fuse_branches(self) -> None:
        """Make one convolution of those that run side by side in training, once the weights are loaded."""
        reparameterize_model(self.visual, inplace=True)


def build_timm_image(name: str) -> TimmImage:
    """Return an image tower with random weights.

    Args:
        name: A key of `TIMM_CLIP_SPECS`.
    """
    spec = TIMM_CLIP_SPECS[name]
    proj = "none" if spec.pool == "map" else None  # a head of timm's own projects the mean
    return TimmImage(TimmModel(spec.trunk, spec.embed_dim, image_size=spec.side, pool=spec.pool, proj=proj), spec)


def build_timm_text(name: str) -> TextTransformer:
    """Return a text tower with random weights: token ids int64 [B, context] to float32 [B, D].

    Args:
        name: A key of `TIMM_CLIP_SPECS`.
    """
    spec = TIMM_CLIP_SPECS[name]
    siglip: dict[str, Any] = {
        "pool_type": "last",
        "proj_bias": True,
        "norm_layer": partial(LayerNorm, eps=1e-6),
        "act_layer": partial(nn.GELU, approximate="tanh"),
    }
    return TextTransformer(
        context_length=spec.context,
        vocab_size=spec.vocabulary,
        width=spec.text_width,
        heads=spec.text_heads,
        layers=spec.text_layers,
        output_dim=spec.embed_dim,
        no_causal_mask=True,
        **(siglip if spec.gemma else {}),
    )
