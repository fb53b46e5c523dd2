"""What is known from a camera's earlier frames: the objects of discovery.

Masks are carried over by label propagation on the backbone's own features (Jabri et al., "Space-Time Correspondence as
a Contrastive Random Walk", NeurIPS 2020; Caron et al., ICCV 2021, section 4.2): a patch takes the labels of the patches
of the previous frame that it resembles most. What is found anew updates the object that it overlaps; an object that is
not found again stays as long as what is carried over stands out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from objloc_ros.methods.patch_object import PatchObject, separation
from objloc_ros.ops.regions import components
from objloc_ros.types import Grid

VOTING_PATCHES = 5
"""Number of patches of the previous frame that vote on the label of a patch."""

VOTE_TEMPERATURE = 0.1
"""Temperature of the softmax over the cosines of the voting patches, as in the papers."""

MATCH_IOU = 0.3
"""Least IoU of an object found with a known one to count as the same object."""

MAX_NEW_OVERLAP = 0.5
"""Largest part of an object, or of a known one, that the two may share if the object counts as new."""

MIN_SEPARATION = 0.05
"""Least separation (`patch_object.separation`) of an object that is carried over."""

MIN_SEPARATION_RATIO = 0.7
"""Least separation of an object that is carried over, relative to that when it was last found."""

MAX_MISSED_FRAMES = 15
"""Number of frames for which an object stays without being found again."""


@dataclass(frozen=True)
class KnownObject:
    """One object of a video.

    Args:
        found: Its mask and seed in the latest frame.
        score: Its separation when it was last found.
        age: Frames since it appeared, 0 in the first.
        missed: Frames since it was last found.
        confirmed: Whether it was found in more than one frame.
    """

    found: PatchObject
    score: float
    age: int = 0
    missed: int = 0
    confirmed: bool = False

    def is_kept(self, separation: float) -> bool:
        """Return whether an object that was not found is kept, given the separation of its carried-over mask."""
        return self.missed <= MAX_MISSED_FRAMES and separation >= max(MIN_SEPARATION, MIN_SEPARATION_RATIO * self.score)


class Memory:
    """The objects of one camera and one method; call `update` with every frame in turn."""

    def __init__(self) -> None:
        self._known: list[KnownObject] = []
        self._features: Tensor | None = None
        self._grid: Grid = (0, 0)

    def update(
        self, features: Tensor, grid: Grid, objects: Sequence[PatchObject], *, several: bool = False
    ) -> list[PatchObject]:
        """Carry the known objects over to the next frame and match them with what was found there.

        Args:
            features: Keys float32 [N, C] of the frame.
            grid: Patch rows and columns (h, w). A frame of another grid is the first of a new video.
            objects: What the method found in this frame alone.
            several: Whether the method looks for several objects: one that is new and not found again was then an
                error. A method of one object may just have looked elsewhere.

        Returns:
            The objects of this frame. A new one is held back until the next frame: if it was an error, it is gone by
            then. In the first frame all are returned.
        """
        unit = F.normalize(features.float(), dim=1)
        is_first = self._features is None or self._grid != grid or self._features.shape != unit.shape
        carried = [] if is_first else self._carry_over(unit, grid)
        self._features, self._grid = unit, grid
        self._known = _merge(unit, carried, [found for found in objects if found.mask.any()], several)
        return [known.found for known in self._known if is_first or known.age]

    def _carry_over(self, unit: Tensor, grid: Grid) -> list[KnownObject]:
        """Return the known objects with the masks that the new frame's features give them, which may be empty."""
        if not self._known or self._features is None:
            return []
        similarity, nearest = (unit @ self._features.T).topk(min(VOTING_PATCHES, len(unit)), dim=1)  # each N k
        similarity, nearest = similarity.cpu(), nearest.cpu()
        labels = torch.stack([known.found.mask.flatten() for known in self._known], dim=1).float()  # N objects
        weights = (similarity / VOTE_TEMPERATURE).softmax(1)
        votes = torch.einsum("nk,nko->on", weights, labels[nearest])  # objects N
        masks = [_select_largest_region((vote > 0.5).view(grid)) for vote in votes]  # each h w
        seeds = [int((vote * mask.flatten()).argmax()) for vote, mask in zip(votes, masks, strict=True)]
        return [
            replace(known, found=replace(known.found, mask=mask, seed=seed), age=known.age + 1, missed=known.missed + 1)
            for mask, seed, known in zip(masks, seeds, self._known, strict=True)
        ]


def _merge(
    unit: Tensor, carried: Sequence[KnownObject], objects: Sequence[PatchObject], several: bool
) -> list[KnownObject]:
    """Match objects found with those carried over, keep those that still stand out, and add new ones."""
    found_masks, carried_masks = [found.mask for found in objects], [known.found.mask for known in carried]
    scores, carried_scores = separation(unit, found_masks), separation(unit, carried_masks)
    match = _match_masks(carried_masks, found_masks)
    merged = []
    for i, known in enumerate(carried):
        if i in match:
            merged.append(KnownObject(objects[match[i]], float(scores[match[i]]), known.age, confirmed=True))
        elif (known.confirmed or not several) and known.is_kept(carried_scores[i]):
            merged.append(known)
    unmatched = [j for j in range(len(objects)) if j not in match.values()]
    new = [
        j for j in unmatched if all(_overlap(known.found.mask, found_masks[j]) <= MAX_NEW_OVERLAP for known in merged)
    ]
    return merged + [KnownObject(objects[j], float(scores[j])) for j in new]


def _match_masks(known: Sequence[Tensor], found: Sequence[Tensor]) -> dict[int, int]:
    """Return the index of the found mask that matches each known one, matched by the largest IoU first."""
    overlaps = [
        (int((a & b).sum()) / max(int((a | b).sum()), 1), i, j)
        for i, a in enumerate(known)
        for j, b in enumerate(found)
    ]
    match: dict[int, int] = {}
    for iou, i, j in sorted(overlaps, key=lambda overlap: -overlap[0]):
        if iou >= MATCH_IOU and i not in match and j not in match.values():
            match[i] = j
    return match


def _overlap(known: Tensor, found: Tensor) -> float:
    """Return the part of the smaller of two masks that both share."""
    return int((known & found).sum()) / max(min(int(known.sum()), int(found.sum())), 1)


def _select_largest_region(mask: Tensor) -> Tensor:
    """Return the largest 4-connected region of a mask: bool [h, w]."""
    patches = mask.numpy()
    regions = components(patches)
    return torch.from_numpy(np.asarray((regions.labels == regions.largest()) & patches))
