"""CLIP's two towers over open_clip, built and loaded apart: a node needs the text tower only when prompts change.

The image tower embeds square windows as CLIP does (`forward`), and gives the tokens of images of any size before its
last block (`tokens`), from which MaskCLIP and CLIP-DINOiser read dense features. Radford et al., "Learning Transferable
Visual Models From Natural Language Supervision", ICML 2021.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from open_clip.transformer import QuickGELU, ResidualAttentionBlock, TextTransformer, VisionTransformer
from torch import Tensor, nn
from torch.nn import functional as F

from objloc_ros.backbones.attention import attend
from objloc_ros.backbones.lite_clip import LITE_CLIP, LiteImage, LiteSpec
from objloc_ros.backbones.positions import Positions, sized_pos_embed
from objloc_ros.backbones.specs import patch_grid
from objloc_ros.backbones.stem import DeepStem
from objloc_ros.backbones.timm_clip import TIMM_CLIP_SPECS, TimmClipSpec, TimmImage, build_timm_image
from objloc_ros.errors import ParameterError
from objloc_ros.types import Grid

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, kw_only=True)
class ClipSpec:
    """Architecture of one pair of towers.

    Args:
        patch: Patch side in pixels.
        side: Side in pixels of the square images that the image tower was trained on.
        width: Token width of the image tower.
        layers: Its blocks.
        heads: Its attention heads.
        embed_dim: Width D of the space that images and texts share.
        text_width: Token width of the text tower.
        text_layers: Its blocks.
        text_heads: Its attention heads.
        context: Longest text in tokens, start and end among them.
        quick_gelu: Whether the weights were trained with OpenAI's approximation of GELU.
        compact: Whether the text tower knows only some of CLIP's tokens; its weights say which.
        stem: Builder of the patch embedding; None for CLIP's single strided convolution.
        ln_pre: Whether tokens are normalised before the first block, as CLIP's are.
        signed: Whether similarities of things that do not fit go below 0, which those of the large models never do.
        short_side: Shorter side in pixels of whole images for dense features; CLIP-DINOiser's for the large towers.
        unknown: What becomes of words that are not known, for messages.
    """

    patch: int
    side: int = 224
    width: int = 768
    layers: int = 12
    heads: int = 12
    embed_dim: int = 512
    text_width: int = 512
    text_layers: int = 12
    text_heads: int = 8
    context: int = 77
    quick_gelu: bool = False
    compact: bool = False
    stem: Callable[[int], nn.Module] | None = None
    ln_pre: bool = True
    signed: bool = False
    short_side: int = 448
    unknown: str = "it will guess"


CLIP_SPECS: dict[str, ClipSpec] = {
    "clip_vitb32": ClipSpec(patch=32),
    "clip_vitb16": ClipSpec(patch=16),
    "clip_vitb32_openai": ClipSpec(patch=32, quick_gelu=True),
    "clip_vitb16_openai": ClipSpec(patch=16, quick_gelu=True),
    "tiny_clip": ClipSpec(
        patch=8,
        side=48,
        width=128,
        layers=3,
        heads=4,
        embed_dim=128,
        text_width=128,
        text_layers=2,
        text_heads=4,
        compact=True,
        stem=DeepStem,
        ln_pre=False,
        signed=True,
        short_side=192,
        unknown="it will guess; lite_clip knows ordinary nouns",
    ),
}
"""Pairs of transformers by name, which is also that of their weights in the registry."""

CLIP_NAMES = (*CLIP_SPECS, LITE_CLIP, *TIMM_CLIP_SPECS)
"""All pairs of towers."""


class ClipTokens(NamedTuple):
    """An image tower's tokens shortly before its end.

    Args:
        last: Input of the last block, float32 [B, 1 + N, W], CLS first.
        middle: What enters the MLP of the third-last block, float32 [B, N, W]: the features that CLIP-DINOiser reads.
        grid: Patch rows and columns.
    """

    last: Tensor
    middle: Tensor
    grid: Grid


class ClipImage(nn.Module):
    """CLIP's image tower: `(B, 3, S, S) -> (B, D)`.

    Args:
        visual: open_clip's transformer; its state_dict keeps open_clip's layout.
        spec: The architecture it was built from.
    """

    mean = CLIP_MEAN
    std = CLIP_STD
    interpolation = "bicubic"
    logit_scale = 100.0
    """Factor of cosines before the softmax."""

    def __init__(self, visual: VisionTransformer, spec: ClipSpec) -> None:
        super().__init__()
        self.visual = visual
        self.spec = spec
        self.patch = spec.patch
        self.side = spec.side
        self.embed_dim = spec.embed_dim
        self._positions = Positions(sized_pos_embed)

    def forward(self, images: Tensor) -> Tensor:
        """Embed whole images: float32 [B, D], not normalised to unit length.

        Args:
            images: float32 [B, 3, S, S], normalised with `mean` and `std`; S is `side`.
        """
        x = self._embedded(images)
        for block in self._blocks():
            x, _ = run_block(block, x)
        pooled: Tensor = self.visual.ln_post(x[:, 0]) @ self.visual.proj
        return pooled.float()

    def tokens(self, images: Tensor) -> ClipTokens:
        """Return tokens of images of any size; the position embedding is resampled, its parameter left untouched.

        Args:
            images: float32 [B, 3, H, W], normalised with `mean` and `std`; H and W multiples of `patch`.

        Raises:
            InputError: If a side is not a positive multiple of the patch size.
        """
        x = middle = self._embedded(images)
        for number, block in enumerate(self._blocks()[:-1], start=1):
            x, entering_mlp = run_block(block, x)
            if number == self.spec.layers - 2:
                middle = entering_mlp
        return ClipTokens(x.float(), middle[:, 1:].float(), patch_grid(images.shape[-2:], self.patch))

    def _embedded(self, images: Tensor) -> Tensor:
        """Return the input of the first block, CLS first: [B, 1 + N, W]."""
        position = self._positions(self.visual.positional_embedding[None], patch_grid(images.shape[-2:], self.patch))
        patches = self.visual.conv1(images).flatten(2).transpose(1, 2)
        first = self.visual.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
        embedded: Tensor = self.visual.ln_pre(torch.cat([first, patches], dim=1) + position)
        return embedded

    def _blocks(self) -> list[ResidualAttentionBlock]:
        return list(cast(Iterable[ResidualAttentionBlock], self.visual.transformer.resblocks))


ImageTower = ClipImage | LiteImage | TimmImage
"""What embeds images, whatever the architecture."""


def run_block(block: ResidualAttentionBlock, x: Tensor) -> tuple[Tensor, Tensor]:
    """Run one block of an image tower.

    Attention is written out: PyTorch's module transposes the batch, and under autocast then copies its weights once for
    each image.

    Args:
        block: open_clip's.
        x: Tokens [B, N, W].

    Returns:
        Its output [B, N, W], and what enters its MLP [B, N, W].
    """
    attention = block.attn
    qkv = F.linear(block.ln_1(x), attention.in_proj_weight, attention.in_proj_bias)
    q, k, v = qkv.unflatten(-1, (3, attention.num_heads, -1)).permute(2, 0, 3, 1, 4)
    mixed = attend(q, k, v).transpose(1, 2).flatten(2)
    x = x + block.ls_1(attention.out_proj(mixed))
    normed = block.ln_2(x)
    return x + block.ls_2(block.mlp(normed)), normed


def find_tower_spec(name: str) -> ClipSpec | LiteSpec | TimmClipSpec:
    """Look up an architecture of any kind.

    Raises:
        ParameterError: If the name is unknown.
    """
    if name in TIMM_CLIP_SPECS:
        return TIMM_CLIP_SPECS[name]
    return LiteSpec() if name == LITE_CLIP else find_clip_spec(name)


def build_image_tower(name: str) -> ImageTower:
    """Return an image tower of any kind with random weights.

    Raises:
        ParameterError: If the name is unknown.
    """
    if name in TIMM_CLIP_SPECS:
        return build_timm_image(name)
    return LiteImage(LiteSpec()) if name == LITE_CLIP else build_clip_image(name)


def find_clip_spec(name: str) -> ClipSpec:
    """Look up an architecture of CLIP's own transformers.

    Raises:
        ParameterError: If the name is unknown, or its towers are others.
    """
    if name in CLIP_NAMES and name not in CLIP_SPECS:
        raise ParameterError(f"{name} is no transformer of CLIP's own; those are {', '.join(CLIP_SPECS)}")
    if name not in CLIP_SPECS:
        raise ParameterError(f"unknown CLIP model {name!r}; known: {', '.join(CLIP_NAMES)}")
    return CLIP_SPECS[name]


def build_clip_image(name: str) -> ClipImage:
    """Return an image tower with random weights.

    Raises:
        ParameterError: If the name is unknown.
    """
    spec = find_clip_spec(name)
    visual = VisionTransformer(
        image_size=spec.side,
        patch_size=spec.patch,
        width=spec.width,
        layers=spec.layers,
        heads=spec.heads,
        mlp_ratio=4.0,
        output_dim=spec.embed_dim,
        no_ln_pre=not spec.ln_pre,
        act_layer=QuickGELU if spec.quick_gelu else nn.GELU,
    )
    if spec.stem is not None:
        visual.conv1 = spec.stem(spec.width)
    return ClipImage(visual, spec)


def build_text_transformer(name: str, vocabulary: int | None = None) -> TextTransformer:
    """Return a text tower with random weights: token ids int64 [B, context] to float32 [B, D].

    Args:
        name: A key of `CLIP_SPECS`.
        vocabulary: Number of token ids; None for all of CLIP's 49,408.

    Raises:
        ParameterError: If the name is unknown.
    """
    spec = find_clip_spec(name)
    return TextTransformer(
        context_length=spec.context,
        vocab_size=vocabulary or 49_408,
        width=spec.text_width,
        heads=spec.text_heads,
        layers=spec.text_layers,
        output_dim=spec.embed_dim,
        act_layer=QuickGELU if spec.quick_gelu else nn.GELU,
    )
