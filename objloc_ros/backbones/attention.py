"""Self-attention for both kinds of transformer; in bfloat16 on a CPU, twice as fast as PyTorch's fused kernel.

That kernel keeps scores in float32 and gains little from bfloat16 units. Here scores are bfloat16, as queries and keys
are already, and matrix products make them: of as many heads, or as many queries of one, at a time as the cache holds.
The softmax is float32 inside.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from timm.models.vision_transformer import Attention as TimmAttention
from torch import Tensor
from torch.nn import functional as F

MAX_SCORES = 2**20
"""Scores at a time: 2 MiB."""

MIN_TOKENS = 256
"""Below this many a product is too small to be worth a call of its own."""


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Compute attention, softmax(q k^T / sqrt(d)) v (Vaswani et al., NeurIPS 2017, eq. 1).

    Args:
        q: Queries [B, heads, N, d].
        k: Keys of that shape.
        v: Values of that shape.

    Returns:
        [B, heads, N, d].
    """
    in_products = q.dtype == torch.bfloat16 and q.device.type == "cpu" and not torch.is_grad_enabled()
    if not in_products or q.shape[2] < MIN_TOKENS:
        return F.scaled_dot_product_attention(q, k, v)
    mixed = torch.empty(q.shape, dtype=q.dtype)
    _mix((q * q.shape[-1] ** -0.5).flatten(0, 1), k.flatten(0, 1), v.flatten(0, 1), mixed.flatten(0, 1))  # B*heads N d
    return mixed


def _mix(q: Tensor, k: Tensor, v: Tensor, mixed: Tensor) -> None:
    """Write the attention of all heads of all images, [heads, N, d], into `mixed`; queries are already scaled."""
    tokens = q.shape[1]
    heads = max(1, min(len(q), MAX_SCORES // tokens**2))
    rows = min(tokens, max(1, MAX_SCORES // (heads * tokens)))
    scores, weights = q.new_empty(2, heads, rows, tokens)
    for some_q, some_k, some_v, output in zip(
        q.split(heads), k.mT.split(heads), v.split(heads), mixed.split(heads), strict=True
    ):
        for some_rows, output_rows in zip(some_q.split(rows, 1), output.split(rows, 1), strict=True):
            place = slice(len(some_rows)), slice(some_rows.shape[1])
            torch.bmm(some_rows, some_k, out=scores[place])
            torch.softmax(scores[place], -1, out=weights[place])
            torch.bmm(weights[place], some_v, out=output_rows)


class Attention(TimmAttention):
    """timm's module, of which it has the parameters, around `attend`."""

    def forward(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        """Mix tokens [B, N, C]; masks are not for images."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, self.head_dim)).permute(2, 0, 3, 1, 4)
        mixed = attend(q, k, v).transpose(1, 2).flatten(2)
        return cast(Tensor, self.proj(mixed))
