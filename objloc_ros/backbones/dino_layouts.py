"""What Meta, timm and transformers call the tensors of DINOv2 and DINOv3, and what they make of them.

- DINOv2 with registers: Meta's table of positions has a row for CLS, which timm has added to the token.
- DINOv3: keys have no bias. Meta masks it; timm keeps those of queries and values, or none where all are zero. In
  transformers queries, keys and values have a projection each.
- DINOv3: Meta's files hold the periods of the rotary positions; elsewhere they are computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

_NAMES = (
    ("embeddings.patch_embeddings.", "patch_embed.proj."),
    ("embeddings.", ""),
    ("register_tokens", "reg_token"),
    ("storage_tokens", "reg_token"),
    ("model.layer.", "blocks."),
    ("layer.", "blocks."),
    (".attention.o_proj.", ".attn.proj."),
    (".attention.q_proj.bias", ".attn.q_bias"),
    (".attention.v_proj.bias", ".attn.v_bias"),
    (".attention.", ".attn."),
    (".layer_scale1.lambda1", ".ls1.gamma"),
    (".layer_scale2.lambda1", ".ls2.gamma"),
    (".gamma_1", ".ls1.gamma"),
    (".gamma_2", ".ls2.gamma"),
    (".mlp.up_proj.", ".mlp.fc1."),
    (".mlp.down_proj.", ".mlp.fc2."),
)
"""Parts of names, theirs and ours, which are timm's for VisionTransformer; replaced in this order."""

_UNREAD = ("mask_token", ".bias_mask")
"""Ends of names: what only training reads, and the mask of the keys' bias."""


def unify_layout(state: Mapping[str, Any], expected: Mapping[str, Tensor]) -> dict[str, Any]:
    """Bring the tensors of a file to our layout; what is of none of these is left for `weights.conform` to judge.

    Args:
        state: Tensors by their names in the file.
        expected: Our layout: the state of a network of the architecture.
    """
    renamed = {_rename(key): value for key, value in state.items() if not key.endswith(_UNREAD)}
    if all(isinstance(value, Tensor) for value in renamed.values()):
        if "reg_token" in expected and "pos_embed" in expected:
            _move_cls_position(renamed, expected)
        if "rope_embed.periods" in expected:
            renamed.setdefault("rope_embed.periods", expected["rope_embed.periods"])
            _join_projections(renamed, expected)
    return renamed


def _rename(key: str) -> str:
    for theirs, ours in _NAMES:
        key = key.replace(theirs, ours)
    return key


def _move_cls_position(state: dict[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Add the first row of a table of positions [1, 1 + N, C] to the CLS token, where it is one row too many."""
    _, count, width = expected["pos_embed"].shape
    shapes = [state[key].shape if key in state else None for key in ("cls_token", "pos_embed")]
    if shapes == [(1, 1, width), (1, 1 + count, width)]:
        of_cls, state["pos_embed"] = state["pos_embed"].tensor_split([1], dim=1)
        state["cls_token"] = state["cls_token"] + of_cls


def _join_projections(state: dict[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Give each block one projection [3 C, C] to queries, keys and values, and one bias [3 C] that is zero for keys."""
    for key, like in expected.items():
        if key.endswith(".qkv.weight") and key not in state:
            names = [key.replace("qkv", part) for part in ("q_proj", "k_proj", "v_proj")]
            parts = [state[name] for name in names if name in state]
            if [part.shape for part in parts] == [(len(like) // 3, like.shape[1])] * 3:
                state[key] = torch.cat(parts)
                for name in names:
                    del state[name]
        elif key.endswith(".qkv.bias"):
            _join_biases(state, key, like)


def _join_biases(state: dict[str, Tensor], key: str, like: Tensor) -> None:
    none = like.new_zeros(len(like) // 3)
    names = [key.replace("qkv.bias", part) for part in ("q_bias", "v_bias")]
    of_queries, of_values = (state.get(name, none) for name in names)
    if key in state and state[key].shape == like.shape:
        of_queries, _, of_values = state[key].chunk(3)
    if of_queries.shape == of_values.shape == none.shape:
        state[key] = torch.cat([of_queries, none, of_values])
        for name in names:
            state.pop(name, None)
