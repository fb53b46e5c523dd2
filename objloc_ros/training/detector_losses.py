"""Which patch answers for which object, and how wrong its answers are: assignment and losses of the token detector.

As in FCOS (Tian et al., ICCV 2019) patches near the middle of an object answer for it, and the smaller of two objects
wins. The score learns the overlap of the box it stands for (quality focal loss, Li et al., NeurIPS 2020), boxes the
generalised IoU (Rezatofighi et al., CVPR 2019), masks Dice and cross-entropy (Tian et al., ECCV 2020), categories
cross-entropy. All losses are sums, so that batches in parts, and on several machines, add up to the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import cross_entropy
from torchvision.ops import generalized_box_iou_loss

from objloc_ros.methods.token_detector import PIXELS_PER_PATCH, Dense, mask_logits, place_boxes
from objloc_ros.ops.drop_loss import drop_weights
from objloc_ros.types import Grid

MIN_RADIUS_PATCHES = 1.5
"""Patches this near to the centre of their object answer for it, however small it is."""

RADIUS_FRACTION = 0.25
"""The same as a part of the longer side of the object's box."""

MIN_QUALITY = 0.2
"""Score that a patch of an object learns even if its box is nowhere near: boxes start poor."""

TERMS = ("objectness", "boxes", "categories", "masks")
"""The parts of the loss."""

NOBODY = -1
"""Owner of a patch that shows no object's middle."""


@dataclass(frozen=True)
class ObjectTargets:
    """The objects of one image on its patch grid.

    Args:
        owner: Number of the object that each patch answers for, or `NOBODY`, int64 [h, w].
        boxes: float32 [n, 4] as (x1, y1, x2, y2) in patches, max exclusive.
        masks: bool [n, 2h, 2w].
        box_only: Objects whose mask is not known, bool [n].
        categories: int64 [n].
        sampled: Patches whose masks are compared, int64 [m, 2] as (row, column).
    """

    owner: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.float32]
    masks: npt.NDArray[np.bool_]
    box_only: npt.NDArray[np.bool_]
    categories: npt.NDArray[np.int64]
    sampled: npt.NDArray[np.int64]


class Losses(NamedTuple):
    """Sums over a batch, and what to divide them by.

    Args:
        objectness: Of all patches, scalar; to be divided by `positives`, as the next two.
        boxes: Of the patches that answer for an object.
        categories: The same; 0 where there is one class.
        masks: Of the sampled patches, to be divided by `compared`.
        positives: Number of patches that answer for an object.
        compared: Number of masks that were compared.
    """

    objectness: Tensor
    boxes: Tensor
    categories: Tensor
    masks: Tensor
    positives: int
    compared: int

    def means(self, positives: float | None = None, compared: float | None = None) -> dict[str, Tensor]:
        """Return the terms of the loss by name, divided by numbers that may be those of a larger batch."""
        number = max(self.positives if positives is None else positives, 1.0)
        masks = max(self.compared if compared is None else compared, 1.0)
        sums = (self.objectness, self.boxes, self.categories, self.masks)
        return {name: value / by for name, value, by in zip(TERMS, sums, (number, number, number, masks), strict=True)}


def assign_patches(
    boxes: npt.NDArray[np.float32], masks: npt.NDArray[np.bool_], box_only: npt.NDArray[np.bool_]
) -> npt.NDArray[np.int64]:
    """Say which patch answers for which object.

    An object owns the patches that its mask covers by half or more and whose centres lie within max(1.5 patches, a
    quarter of the longer side of its box) of the centre of its box; where it would own none, the patch of its mask that
    is nearest to that centre. Of an object without a mask the whole box counts. Where several want a patch, the
    smallest gets it, the first among equals.

    Args:
        boxes: float32 [n, 4] as (x1, y1, x2, y2) in patches.
        masks: bool [n, 2h, 2w]; of objects without a mask, their boxes'.
        box_only: Which are without a mask, bool [n].

    Returns:
        Number of the object, or `NOBODY`, int64 [h, w].
    """
    covered = _cover_patches(masks)  # n h w
    owner = np.full(covered.shape[1:], NOBODY, np.int64)
    areas = masks.sum((1, 2))
    for number in sorted(range(len(boxes)), key=lambda i: (-areas[i], -i)):  # what is painted last stays
        owner[_claim(boxes[number], covered[number], bool(box_only[number]))] = number
    return owner


def _claim(box: npt.NDArray[np.float32], covered: npt.NDArray[np.float64], box_only: bool) -> npt.NDArray[np.bool_]:
    """Return the patches that an object wants, at least one, bool [h, w]; `covered` says how much of each is its."""
    x1, y1, x2, y2 = (float(side) for side in box)
    rows, columns = covered.shape
    y, x = np.arange(rows)[:, None] + 0.5, np.arange(columns) + 0.5
    distance = np.hypot(x - (x1 + x2) / 2, y - (y1 + y2) / 2)
    if box_only:
        wanted = (x > x1) & (x < x2) & (y > y1) & (y < y2)
    else:
        radius = max(MIN_RADIUS_PATCHES, RADIUS_FRACTION * max(x2 - x1, y2 - y1))
        wanted = (covered >= 0.5) & (distance <= radius)
    if not wanted.any():
        touched = covered > 0 if covered.any() else np.ones_like(wanted)
        wanted.flat[np.where(touched, distance, np.inf).argmin()] = True
    return wanted


def _cover_patches(masks: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Return how much of each patch masks [n, 2h, 2w] cover, in [0, 1]: float64 [n, h, w]."""
    count, height, width = masks.shape
    k = PIXELS_PER_PATCH
    cells: npt.NDArray[np.float64] = masks.reshape(count, height // k, k, width // k, k).mean((2, 4))
    return cells


def sample_positives(
    owner: npt.NDArray[np.int64], objects: Sequence[int], limit: int, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Draw up to `limit` patches of each of some objects.

    Returns:
        int64 [m, 2] as (row, column), object after object.
    """
    places = np.flatnonzero(owner >= 0)
    owners = owner.flat[places]
    chosen = [np.sort(rng.permutation(places[owners == number])[:limit]) for number in objects]
    together = np.concatenate(chosen) if chosen else places[:0]
    return np.stack(np.divmod(together, owner.shape[1]), axis=1)


def quality_focal_loss(logits: Tensor, quality: Tensor) -> Tensor:
    """Return |quality - p|^2 times the cross-entropy of each logit with its quality in [0, 1], p = sigmoid(logit)."""
    distance = (quality - logits.sigmoid()).square()
    return distance * bce(logits, quality, reduction="none")


def dice_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Return 1 - Dice coefficient of each mask with its prediction: [n] from logits and masks [n, H, W]."""
    found, true = logits.sigmoid().flatten(1), masks.flatten(1).to(logits.dtype)
    return 1 - (2 * (found * true).sum(1) + 1) / (found.sum(1) + true.sum(1) + 1)


def pairwise_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the intersection over union of each box [n, 4] with the one in the same place: [n]."""
    size = torch.minimum(boxes[:, 2:], others[:, 2:]) - torch.maximum(boxes[:, :2], others[:, :2])
    common = size.clamp_min(0).prod(1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (others[:, 2:] - others[:, :2]).prod(1)
    return common / (areas - common).clamp_min(1e-7)


def detector_losses(dense: Dense, targets: Sequence[ObjectTargets], *, drop_far: float = 1.0) -> Losses:
    """Compare the answers for a batch with what is known of its images.

    Args:
        dense: The network's answers for B images.
        targets: What they show, one element per image.
        drop_far: Weight of the objectness of patches whose predicted box overlaps no object of their image by an IoU
            above 0.01 (the rule of CutLER's DropLoss); 1 treats all alike. Images without objects are not affected.
    """
    parts = [_compare_image(dense, image, target, drop_far) for image, target in enumerate(targets)]
    objectness, boxes, categories, masks = (
        torch.stack(terms).sum() for terms in zip(*(p[:4] for p in parts), strict=True)
    )
    # Every weight gets a gradient, if only 0, in batches without objects, too.
    untouched = torch.stack([answers.sum() for answers in dense if answers is not None]).sum() * 0
    positives, compared = sum(part.positives for part in parts), sum(part.compared for part in parts)
    return Losses(objectness + untouched, boxes, categories, masks, positives, compared)


def _compare_image(dense: Dense, image: int, targets: ObjectTargets, drop_far: float) -> Losses:
    """Compare the answers for one image with its targets."""
    logits = dense.objectness[image].float()  # h w
    device, zero = logits.device, logits.new_zeros(())
    owner, true_boxes = torch.from_numpy(targets.owner).to(device), torch.from_numpy(targets.boxes).to(device)
    rows, columns = (owner != NOBODY).nonzero(as_tuple=True)
    owners = owner[rows, columns]
    found, wanted = place_boxes(dense, image, rows, columns), true_boxes[owners]
    quality = torch.zeros_like(logits)
    quality[rows, columns] = pairwise_iou(found.detach(), wanted).clamp(MIN_QUALITY, 1.0)
    objectness = (quality_focal_loss(logits, quality) * _weigh_patches(dense, image, true_boxes, drop_far)).sum()
    boxes = generalized_box_iou_loss(found, wanted, reduction="sum") if len(owners) else zero
    categories = zero
    if dense.categories is not None and len(owners):
        answers = dense.categories[image, :, rows, columns].float().T  # n K
        known = torch.from_numpy(targets.categories).to(device)
        categories = cross_entropy(answers, known[owners], reduction="sum")
    return Losses(
        objectness, boxes, categories, _compare_masks(dense, image, targets), len(owners), len(targets.sampled)
    )


def _weigh_patches(dense: Dense, image: int, true_boxes: Tensor, drop_far: float) -> Tensor:
    """Return the weight of each patch's objectness, [h, w] or a scalar."""
    grid: Grid = (dense.objectness.shape[1], dense.objectness.shape[2])
    if drop_far == 1 or not len(true_boxes):
        return dense.objectness.new_ones(())
    patches = torch.arange(grid[0] * grid[1], device=true_boxes.device)
    with torch.no_grad():
        near = drop_weights(place_boxes(dense, image, patches // grid[1], patches % grid[1]), true_boxes)
    return (drop_far + (1 - drop_far) * near).view(grid)


def _compare_masks(dense: Dense, image: int, targets: ObjectTargets) -> Tensor:
    """Return the sum of the mask losses of the sampled patches of an image."""
    if not len(targets.sampled):
        return dense.objectness.new_zeros(())
    rows, columns = torch.from_numpy(targets.sampled).to(dense.objectness.device).T
    owners = targets.owner[tuple(targets.sampled.T)]
    masks = torch.from_numpy(targets.masks[owners]).to(rows.device)
    logits = mask_logits(dense, image, rows, columns)
    return (dice_loss(logits, masks) + bce(logits, masks.float(), reduction="none").mean((1, 2))).sum()
