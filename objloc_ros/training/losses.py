"""What compositing teaches for free: which tokens belong together and which stand out.

No loss here sees a class or a human label; the only signal is which token came from which cut-out of which scene.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from objloc_ros.training.views import UNCLEAR

SHARPNESS = 8.0
"""Cosines are turned into logits by SHARPNESS * (cosine - MARGIN)."""

MARGIN = 0.1
"""Between LOST's threshold on similarities (0) and those of TokenCut (0.2) and FOUND (0.3)."""

OTHER_OBJECT = 0.3
"""Weight of telling two objects apart, relative to telling an object from the ground."""


def grouping_loss(keys: Tensor, labels: Tensor, swapped: Tensor) -> Tensor:
    """Tokens of one cut-out attract, object and ground repel; ground attracts ground of the same background.

    Each token averages over its partners and objects weigh as much as grounds, so that small objects count.

    Args:
        keys: float32 [B, V * N, C], the tokens of V views of a scene one after another.
        labels: int64 [B, V * N]: 0 ground, i the i-th cut-out, 255 unclear.
        swapped: bool [B], whether the views have different backgrounds.
    """
    cosine = F.normalize(keys, dim=-1)
    logits = SHARPNESS * (cosine @ cosine.transpose(1, 2) - MARGIN)
    is_object, is_ground = (labels > 0) & (labels < UNCLEAR), labels == 0
    same = labels[:, :, None] == labels[:, None]
    half = labels.shape[1] // 2
    view = torch.arange(labels.shape[1], device=labels.device) >= half
    apart = (view[:, None] != view[None]) & swapped[:, None, None]
    both_objects = is_object[:, :, None] & is_object[:, None]
    both_grounds = is_ground[:, :, None] & is_ground[:, None]
    attract = (both_objects & same) | (both_grounds & ~apart)
    repel = (is_object[:, :, None] & is_ground[:, None]).float()
    repel = repel + repel.transpose(1, 2) + OTHER_OBJECT * (both_objects & ~same)
    per_token = _row_mean(F.softplus(-logits), attract.float()) + _row_mean(F.softplus(logits), repel)
    return _mean(per_token, is_object) + _mean(per_token, is_ground)


def attention_loss(cls_attention: Tensor, labels: Tensor) -> Tensor:
    """Negative log of the CLS attention that falls on cut-outs, averaged over heads and views that show one.

    Args:
        cls_attention: float32 [B, heads, N].
        labels: int64 [B, N].
    """
    is_object = (labels > 0) & (labels < UNCLEAR)
    mass = (cls_attention * is_object[:, None]).sum(-1)
    return _mean(-torch.log(mass + 1e-3).mean(1), is_object.any(1))


def _row_mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum(-1) / weights.sum(-1).clamp(min=1)


def _mean(values: Tensor, where: Tensor) -> Tensor:
    return (values * where).sum() / where.sum().clamp(min=1)
