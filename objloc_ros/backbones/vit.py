"""Vision transformers whose last block is read, not run: keys, queries, values and CLS attention in one pass.

The localisation methods use the facets of the last self-attention layer of a self-supervised ViT (Caron et al.,
"Emerging Properties in Self-Supervised Vision Transformers", ICCV 2021). They need neither that block's output nor its
N x N attention map, so both are skipped: every earlier block runs with fused attention, the last one only projects.

DINOv2 (Oquab et al., 2023) adds layer scale, its later variant registers (Darcet et al., "Vision Transformers Need
Registers", ICLR 2024): tokens without a place, which no method sees. DINOv3 (Siméoni et al., 2025) turns queries and
keys by their place, see `rope`; methods see them unturned, so that patches compare by what they show.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import cast

import torch
from timm.layers import LayerNorm, PatchEmbed
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from objloc_ros.backbones.attention import Attention
from objloc_ros.backbones.positions import Positions, antialiased_pos_embed, dino_pos_embed, sized_pos_embed
from objloc_ros.backbones.rope import RopeAttention, RopeBlock, RopePeriods, rope_turns, turn
from objloc_ros.backbones.specs import IMAGENET_MEAN, IMAGENET_STD, SPECS, ViTSpec, patch_grid
from objloc_ros.backbones.stem import PyramidStem
from objloc_ros.errors import ParameterError
from objloc_ros.types import Features, Grid

STEMS: dict[str, Callable[..., nn.Module]] = {
    "patch": partial(PatchEmbed, strict_img_size=False),  # without timm's check that images have the base size
    "pyramid": PyramidStem,
}
"""Builders of the patch embeddings, see `ViTSpec.stem`."""


class ViT(nn.Module):
    """A timm VisionTransformer read at its last block: `(B, 3, H, W) -> Features` with `(B, N, C)` facets.

    Args:
        vit: The transformer; its state_dict keeps the timm (and DINO) layout.
        spec: The architecture it was built from.

    Attributes:
        positions: Resamples the learned position embedding to a grid of patches; for rotary ones computes the turns.
    """

    mean = IMAGENET_MEAN
    std = IMAGENET_STD

    def __init__(self, vit: VisionTransformer, spec: ViTSpec) -> None:
        super().__init__()
        self.vit = vit
        self.spec = spec
        self.patch = spec.patch
        self.embed_dim = spec.embed_dim
        self.n_heads = spec.n_heads
        rules: dict[str, Callable[[Tensor, Grid], Tensor]] = {
            "dino": dino_pos_embed,
            "size": sized_pos_embed,
            "antialias": antialiased_pos_embed,
            "rope": partial(rope_turns, leads=spec.leads),
        }
        self.positions: Callable[[Tensor, Grid], Tensor] = Positions(rules[spec.pos_embed])

    def forward(self, images: Tensor) -> Features:
        """Return the facets of the last block.

        Args:
            images: float32 [B, 3, H, W], normalised with `mean` and `std`; H and W multiples of `patch`.

        Raises:
            InputError: If a side is not a positive multiple of the patch size.
        """
        grid = patch_grid(images.shape[-2:], self.patch)
        *blocks, last = cast(Iterable[Block], self.vit.blocks)
        x = self._run_blocks(images, grid, blocks)  # B leads+N C
        q, k, v = self._project(last, x)  # each B leads+N C
        cls_attention = self._attend_from_cls(q, k, grid)  # B heads N
        q, k, v = (facet[:, self.spec.leads :] for facet in (q, k, v))  # each B N C
        return Features(keys=k, queries=q, values=v, cls_attention=cls_attention, grid=grid)

    def _project(self, last: Block, x: Tensor) -> tuple[Tensor, ...]:
        """Project tokens [B, leads + N, C] to queries, keys and values of a block, float32 [B, leads + N, C] each."""
        qkv: Tensor = cast(nn.Linear, last.attn.qkv)(last.norm1(x)).float()
        return qkv.unflatten(-1, (3, -1)).unbind(2)

    def _attend_from_cls(self, q: Tensor, k: Tensor, grid: Grid) -> Tensor:
        """Compute the CLS attention [B, heads, N] of queries and keys [B, leads + N, C] as they were projected."""
        q, k = (facet.unflatten(-1, (self.n_heads, -1)) for facet in (q, k))  # each B leads+N heads d
        if (turns := self._turns(grid)) is not None:
            k = turn(k.transpose(1, 2), turns).transpose(1, 2)  # the CLS query is not turned
        return attend_from_cls(q, k, leads=self.spec.leads)

    def encode_cls(self, images: Tensor) -> Tensor:
        """Return the CLS token after all blocks and the final norm, DINO's descriptor of a whole image.

        The embedded backbone has learned keys, not this: its last block's output was never trained.

        Args:
            images: float32 [B, 3, H, W], normalised with `mean` and `std`; H and W multiples of `patch`.

        Returns:
            float32 [B, C].

        Raises:
            InputError: If a side is not a positive multiple of the patch size.
        """
        grid = patch_grid(images.shape[-2:], self.patch)
        x = self._run_blocks(images, grid, cast(Iterable[Block], self.vit.blocks))
        cls_token: Tensor = self.vit.norm(x[:, 0])
        return cls_token.float()

    def _run_blocks(self, images: Tensor, grid: Grid, blocks: Iterable[Block]) -> Tensor:
        """Embed images [B, 3, H, W] and run some blocks: [B, leads + N, C]."""
        x, turns = self._embed(images, grid), self._turns(grid)
        for block in blocks:
            x = block(x) if turns is None else block(x, turns)
        return x

    def _embed(self, images: Tensor, grid: Grid) -> Tensor:
        """Return the input of the first block, [B, leads + N, C]: CLS, registers, patches."""
        x = self.vit.patch_embed(images)  # B N C
        learned = self.spec.pos_embed != "rope"
        table = self.positions(cast(Tensor, self.vit.pos_embed), grid) if learned else None
        if table is not None and self.spec.registers:  # then CLS has no position either
            x, table = x + table, None
        leads = torch.cat([token for token in (self.vit.cls_token, self.vit.reg_token) if token is not None], dim=1)
        # len(x) would be fixed in an export
        x = torch.cat([leads.expand(x.shape[0], -1, -1).to(x.dtype), x], dim=1)  # B leads+N C
        return x if table is None else x + table

    def _turns(self, grid: Grid) -> Tensor | None:
        """Return the angles of rotary positions, [2, leads + N, d]; None where positions are learned."""
        if self.spec.pos_embed != "rope":
            return None
        return self.positions(cast(RopePeriods, self.vit.rope_embed).periods, grid)


def attend_from_cls(q: Tensor, k: Tensor, leads: int = 1) -> Tensor:
    """Compute the attention of the CLS query over the patches.

    Args:
        q: Queries [B, leads + N, heads, d], CLS first.
        k: Keys [B, leads + N, heads, d].
        leads: Tokens before the patches: CLS and registers.

    Returns:
        [B, heads, N]: one row of softmax(q k^T / sqrt(d)) per head, columns of the other tokens dropped and not
        re-normalised.
    """
    logits = torch.einsum("bhd,bnhd->bhn", q[:, 0], k) / math.sqrt(q.shape[-1])
    return logits.softmax(-1)[:, :, leads:]


def build_vit(name: str) -> ViT:
    """Return a backbone with random weights.

    Args:
        name: A key of `SPECS`.

    Raises:
        ParameterError: If the name is unknown.
    """
    if name not in SPECS:
        raise ParameterError(f"unknown backbone {name!r}; known: {', '.join(SPECS)}")
    return ViT(build_transformer(SPECS[name]), SPECS[name])


def build_transformer(spec: ViTSpec) -> VisionTransformer:
    """Return timm's transformer of an architecture, without a head, with random weights."""
    rotary = spec.pos_embed == "rope"
    vit = VisionTransformer(
        img_size=spec.base,
        patch_size=spec.patch,
        embed_dim=spec.embed_dim,
        depth=spec.depth,
        num_heads=spec.n_heads,
        num_classes=0,
        global_pool="",
        embed_layer=STEMS[spec.stem],
        norm_layer=partial(LayerNorm, eps=spec.norm_eps),
        init_values=1e-5 if spec.layer_scale else None,
        reg_tokens=spec.registers,
        no_embed_class=spec.registers > 0,
        pos_embed="none" if rotary else "learn",
        block_fn=RopeBlock if rotary else Block,
        attn_layer=RopeAttention if rotary else Attention,
    )
    if rotary:
        vit.rope_embed = RopePeriods(spec.embed_dim // spec.n_heads)
    return vit
