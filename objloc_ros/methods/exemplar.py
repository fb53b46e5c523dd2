"""A class from one example: patches that look like those inside a box, and not like what was around it.

No paper's method but nearest neighbours, the plainest of few-shot learners (`bench/exemplars.py` says how well it
works). A patch is described by the backbone's value and by its colour, as what is shown is mostly one thing, not a
kind of thing. It belongs to the class as far as it is nearer to the patches that were shown than to the rest of that
image; how much nearer the shown patches are to each other is the unit. All of it is computed in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from objloc_ros.errors import InputError

NEIGHBOURS = 3
"""Patches to whose mean similarity a patch is compared: a single one may be an accident."""

MIN_CONTRAST = 0.25
"""Least contrast of a patch of the class, in the contrast of the median shown patch."""

MIN_NEARNESS = 0.65
"""Least similarity of a patch of the class to the shown ones, in the similarity of the median shown patch to them: what
looks like nothing in the exemplar's image is not of the class, though it may look even less like the rest."""

MAX_SHOWN, MAX_AROUND = 128, 512
"""Most patches that are kept, evenly spaced: frames cost that many similarities for each of their own patches."""

COLOUR_SHARE = 1 / 3
"""Of the colour in the similarity of two patches; the rest is the values'."""

BUMPS = (torch.linspace(0, 1, 5), torch.linspace(0.25, 0.75, 9), torch.linspace(0.25, 0.75, 9))
"""Centres of the soft bins of L, a and b, each in [0, 1] as OpenCV scales them in a byte."""

BUMP_WIDTHS = (0.18, 0.06, 0.06)


@dataclass(frozen=True, eq=False)
class Exemplar:
    """What was shown.

    Args:
        shown: Unit vectors float32 [P, D] of the patches of the thing.
        around: Unit vectors float32 [M, D] of patches of the rest of its image.
        contrast: How much nearer the median shown patch is to the others than to those around.
        nearness: How near it is to the others.
    """

    shown: Tensor
    around: Tensor
    contrast: float
    nearness: float


def describe_patches(values: Tensor, colours: Tensor) -> Tensor:
    """Describe patches for comparison by their dot product.

    Args:
        values: float32 [N, C], the backbone's values.
        colours: float32 [N, 3], mean L, a and b of each patch in [0, 1].

    Returns:
        Unit vectors float32 [N, C + 405].
    """
    lightness, a, b = (
        torch.exp(-(((colour[:, None] - centres.to(colour)) / width) ** 2))
        for colour, centres, width in zip(colours.float().T, BUMPS, BUMP_WIDTHS, strict=True)
    )  # N bins each
    bins = (lightness[:, :, None, None] * a[:, None, :, None] * b[:, None, None, :]).flatten(1)  # N 405
    parts = (F.normalize(values.float(), dim=1), F.normalize(bins + 1e-6, dim=1))
    return torch.cat([(1 - COLOUR_SHARE) ** 0.5 * parts[0], COLOUR_SHARE**0.5 * parts[1]], 1)


def learn_exemplar(patches: Tensor, inside: Tensor) -> Exemplar:
    """Learn what is inside a box, without those patches there that look rather like the ones around it.

    They have less than half the contrast of the median patch of the box that is nearer to the others there at all.

    Args:
        patches: Unit vectors float32 [N, D] of an image.
        inside: bool [N], the patches in the box.

    Raises:
        InputError: If the box holds no patch, or all of them.
    """
    if not inside.any() or inside.all():
        raise InputError(
            f"an exemplar needs patches inside its box and around it, got {int(inside.sum())} of {len(inside)} inside"
        )
    shown, around = patches[inside], _thin(patches[~inside], MAX_AROUND)
    nearness, contrast = _measure(shown, around)
    own = contrast > 0
    if own.any():
        own = contrast >= contrast[own].median() / 2
        shown, nearness, contrast = shown[own], nearness[own], contrast[own]
    return Exemplar(_thin(shown, MAX_SHOWN), around, max(float(contrast.median()), 0.02), float(nearness.median()))


def find_exemplar(patches: Tensor, exemplar: Exemplar) -> Tensor:
    """Say how well patches of another image suit an exemplar.

    Args:
        patches: Unit vectors float32 [N, D].
        exemplar: What was shown.

    Returns:
        float32 [N], at most 1: `MIN_CONTRAST` and more for patches of the class.
    """
    nearness = _top_mean(patches @ exemplar.shown.T)
    contrast = (nearness - _top_mean(patches @ exemplar.around.T)) / exemplar.contrast
    contrast[nearness < MIN_NEARNESS * exemplar.nearness] = 0
    return contrast.clamp(-1, 1)


def _measure(shown: Tensor, around: Tensor) -> tuple[Tensor, Tensor]:
    """Return how near each shown patch is to the others, and how much nearer than to those around: float32 [P] each."""
    similarities = shown @ shown.T
    if len(shown) > 1:
        similarities.fill_diagonal_(-1)
    nearness = _top_mean(similarities, min(NEIGHBOURS, max(1, len(shown) - 1)))
    return nearness, nearness - _top_mean(shown @ around.T)


def _top_mean(similarities: Tensor, count: int = NEIGHBOURS) -> Tensor:
    return similarities.topk(min(count, similarities.shape[1]), dim=1).values.mean(1)


def _thin(rows: Tensor, most: int) -> Tensor:
    """Keep at most so many rows, evenly spaced."""
    if len(rows) <= most:
        return rows
    return rows[torch.linspace(0, len(rows) - 1, most, device=rows.device).round().long()]
