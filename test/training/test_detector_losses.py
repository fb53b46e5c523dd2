from __future__ import annotations

import numpy as np
import pytest
import torch

from objloc_ros.methods.token_detector import Dense, TokenDetector, decode
from objloc_ros.training.detector_losses import (
    NOBODY,
    TERMS,
    ObjectTargets,
    assign_patches,
    detector_losses,
    dice_loss,
    pairwise_iou,
    quality_focal_loss,
    sample_positives,
)

GRID = (10, 12)


def make_targets(boxes: list[list[float]], *, box_only: bool = False, categories: list[int] | None = None):
    """Targets of rectangles on the grid, all their patches sampled."""
    masks = np.zeros((len(boxes), 2 * GRID[0], 2 * GRID[1]), bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[int(2 * y1) : int(2 * y2), int(2 * x1) : int(2 * x2)] = True
    only = np.full(len(boxes), box_only)
    array = np.array(boxes, np.float32).reshape(-1, 4)
    owner = assign_patches(array, masks, only)
    sampled = sample_positives(owner, [] if box_only else range(len(boxes)), 99, np.random.default_rng(0))
    numbers = np.array(categories if categories is not None else [0] * len(boxes), np.int64)
    return ObjectTargets(owner, array, masks, only, numbers, sampled)


def make_dense(images: int, *, classes: int = 1, seed: int = 0) -> Dense:
    generator = torch.Generator().manual_seed(seed)
    rows, columns = GRID
    parts = {
        "objectness": (images, rows, columns),
        "boxes": (images, 4, rows, columns),
        "kernels": (images, 22, rows, columns),
        "pixels": (images, 16, 2 * rows, 2 * columns),
        "categories": (images, classes, rows, columns),
    }
    drawn = {name: torch.randn(*shape, generator=generator, dtype=torch.float64) for name, shape in parts.items()}
    drawn["boxes"] = drawn["boxes"].exp()
    return Dense(**(drawn | ({"categories": None} if classes == 1 else {})))


def loss(dense: Dense, targets: list[ObjectTargets], **options: float) -> torch.Tensor:
    return torch.stack(list(detector_losses(dense, targets, **options).means().values())).sum()


def test_the_middle_of_an_object_answers_for_it() -> None:
    owner = make_targets([[1, 1, 11, 9]]).owner
    y, x = np.mgrid[: GRID[0], : GRID[1]] + 0.5
    np.testing.assert_array_equal(owner == 0, np.hypot(x - 6, y - 5) <= 2.5)  # a quarter of the longer side, 10


def test_a_small_object_answers_within_a_patch_and_a_half() -> None:
    owner = make_targets([[3, 3, 5, 5]]).owner
    assert np.argwhere(owner == 0).tolist() == [[3, 3], [3, 4], [4, 3], [4, 4]]


def test_the_smaller_object_wins_and_the_first_of_equal_ones() -> None:
    large, small = [0, 0, 12, 10], [5, 4, 7, 6]
    for boxes, winner in (([large, small], 1), ([small, large], 0), ([small, small], 0)):
        owner = make_targets(boxes).owner
        assert owner[4, 5] == winner
    assert (make_targets([large, small]).owner == 0).any()


def test_every_object_owns_a_patch() -> None:
    masks = np.zeros((3, 2 * GRID[0], 2 * GRID[1]), bool)
    masks[0, 2, 2] = True  # a quarter of a patch
    masks[1, 8:16, 4:20] = True
    masks[1, 8:14, 6:18] = False  # an arch: nothing of it is near its centre
    boxes = np.array([[1, 1, 1.5, 1.5], [2, 4, 10, 8], [11.9, 9.9, 12, 10]], np.float32)  # the last leaves no trace
    owner = assign_patches(boxes, masks, np.zeros(3, bool))
    assert np.argwhere(owner == 0).tolist() == [[1, 1]]
    assert (owner == 1).any()
    assert masks[1].reshape(GRID[0], 2, GRID[1], 2).any((1, 3))[owner == 1].all()
    assert np.argwhere(owner == 2).tolist() == [[9, 11]]


def test_the_whole_box_answers_where_there_is_no_mask() -> None:
    targets = make_targets([[1, 2, 9, 8]], box_only=True)
    assert (targets.owner[2:8, 1:9] == 0).all()
    assert np.count_nonzero(targets.owner == 0) == 48
    losses = detector_losses(make_dense(1), [targets])
    assert losses.masks == 0
    assert losses.compared == 0
    assert losses.positives == 48


def test_positives_are_drawn_per_object_without_repeats() -> None:
    owner = np.full(GRID, NOBODY)
    owner[:5, :5], owner[8, 8] = 0, 1
    drawn = sample_positives(owner, [0, 1, 2], 6, np.random.default_rng(3))
    assert owner[tuple(drawn.T)].tolist() == [0] * 6 + [1]
    assert len({tuple(place) for place in drawn.tolist()}) == 7
    assert sample_positives(owner, [], 6, np.random.default_rng(3)).shape == (0, 2)


def test_quality_focal_loss_vanishes_where_the_score_is_the_quality() -> None:
    quality = torch.tensor([0.2, 0.5, 0.9])
    assert quality_focal_loss(torch.logit(quality), quality).abs().max() < 1e-6
    logit, target = torch.tensor([1.0]), torch.tensor([0.0])
    p = 1 / (1 + np.exp(-1.0))
    assert quality_focal_loss(logit, target).item() == pytest.approx(-(p**2) * np.log(1 - p), rel=1e-6)


def test_dice_and_iou_of_known_pairs() -> None:
    mask = torch.zeros(1, 4, 4)
    mask[:, :2] = 1
    sure = 50.0
    assert dice_loss(sure * (2 * mask - 1), mask).item() == pytest.approx(0, abs=1e-6)
    assert dice_loss(-sure * (2 * mask - 1), mask).item() == pytest.approx(1 - 1 / 17)
    boxes, others = torch.tensor([[0.0, 0, 2, 2], [0, 0, 1, 1]]), torch.tensor([[1.0, 0, 3, 2], [5, 5, 6, 6]])
    assert pairwise_iou(boxes, others).tolist() == pytest.approx([1 / 3, 0])


@pytest.mark.parametrize(("term", "width"), [("boxes", 1e-4), ("categories", 1e-3), ("masks", 1e-3)])
def test_gradients_are_those_of_finite_differences(term: str, width: float) -> None:
    """The score has a target that is itself an overlap, through which no gradient goes; it is left out."""
    targets = [make_targets([[1, 1, 6, 6], [7, 5, 12, 9]], categories=[2, 0])]
    dense = make_dense(1, classes=3)
    generator = torch.Generator().manual_seed(1)
    directions = [torch.randn(part.shape, generator=generator, dtype=torch.float64) for part in dense]

    def total(step: torch.Tensor | float) -> torch.Tensor:
        moved = Dense(*(part + step * way for part, way in zip(dense, directions, strict=True)))
        return detector_losses(moved, targets).means()[term]

    step = torch.zeros((), requires_grad=True, dtype=torch.float64)
    (slope,) = torch.autograd.grad(total(step), step)
    assert slope.item() == pytest.approx(((total(width) - total(-width)) / (2 * width)).item(), rel=0.02)


@pytest.mark.parametrize("empty", [0, 1, 2])
def test_an_image_without_objects_may_stand_anywhere_in_a_batch(empty: int) -> None:
    full = [make_targets([[1, 1, 6, 6]]), make_targets([[4, 2, 10, 9], [0, 0, 2, 2]])]
    targets = [*full[:empty], make_targets([]), *full[empty:]]
    dense = make_dense(3)
    together = detector_losses(dense, targets)
    alone = [detector_losses(Dense(*(p[i : i + 1] for p in dense[:4])), [one]) for i, one in enumerate(targets)]
    for term in range(4):
        assert together[term].item() == pytest.approx(sum(one[term].item() for one in alone), rel=1e-6)
    assert together.positives == sum(one.positives for one in alone)
    assert alone[empty].positives == 0
    assert alone[empty].objectness > 0
    assert detector_losses(dense, targets, drop_far=0.0).objectness > 0  # an image said to be empty is empty


def test_without_any_object_every_weight_gets_a_finite_gradient() -> None:
    torch.manual_seed(0)
    detector = TokenDetector(5, ("cat", "dog"), width=8)
    value = loss(detector(torch.randn(2, 5, *GRID)), [make_targets([]), make_targets([])])
    value.backward()
    gradients = {name: weight.grad for name, weight in detector.named_parameters()}
    assert all(gradient is not None and torch.isfinite(gradient).all() for gradient in gradients.values())
    assert gradients["objectness.bias"].item() > 0  # scores go down
    assert gradients["kernels.weight"].abs().max() == 0


def test_dropping_spares_what_overlaps_no_label_and_nothing_else() -> None:
    targets = make_targets([[1, 1, 4, 4]])
    dense = make_dense(1)
    dense.boxes[:] = 0.4  # every patch predicts a box of about itself
    near = np.zeros(GRID, bool)
    near[1:4, 1:4] = True
    value = {weight: detector_losses(dense, [targets], drop_far=weight).objectness for weight in (0.0, 0.25, 1.0)}
    quality = torch.zeros(GRID, dtype=torch.float32)
    rows, columns = np.nonzero(targets.owner == 0)
    quality[rows, columns] = 0.2  # their overlap is less
    each = quality_focal_loss(dense.objectness[0].float(), quality)
    assert value[1.0].item() == pytest.approx(each.sum().item(), rel=1e-5)
    assert value[0.0].item() == pytest.approx(each[torch.from_numpy(near)].sum().item(), rel=1e-5)
    assert value[0.25].item() == pytest.approx(0.75 * value[0.0].item() + 0.25 * value[1.0].item(), rel=1e-5)


def test_sums_of_parts_are_the_sums_of_the_whole() -> None:
    """What several processes, or images of several sizes, add up to."""
    targets = [make_targets([[1, 1, 6, 6]]), make_targets([[4, 2, 10, 9], [0, 0, 2, 2]])]
    dense = make_dense(2)
    whole = detector_losses(dense, targets)
    parts = [detector_losses(Dense(*(p[i : i + 1] for p in dense[:4])), targets[i : i + 1]) for i in (0, 1)]
    counts = sum(part.positives for part in parts), sum(part.compared for part in parts)
    means = [part.means(*counts) for part in parts]
    for name in TERMS:
        assert sum(one[name].item() for one in means) == pytest.approx(whole.means()[name].item(), rel=1e-6)


def test_a_detector_learns_planted_objects() -> None:
    """Tokens that say where the objects are, among channels of noise."""
    torch.manual_seed(0)
    targets = [make_targets([[1, 1, 5, 6]]), make_targets([[2, 1, 6, 4], [7, 5, 12, 9]]), make_targets([])]
    tokens = 0.3 * torch.randn(3, 6, *GRID)
    for image, one in enumerate(targets):
        for number, (x1, y1, x2, y2) in enumerate(one.boxes.astype(int)):
            tokens[image, number, y1:y2, x1:x2] += 3
    detector = TokenDetector(6, width=32)
    optimiser = torch.optim.AdamW(detector.parameters(), 3e-3)
    for _ in range(120):
        optimiser.zero_grad()
        loss(detector(tokens), targets).backward()
        optimiser.step()
    for found, one in zip(decode(detector(tokens), threshold=0.3), targets, strict=True):
        assert len(found.boxes) == len(one.boxes)
        for box, mask in zip(one.boxes, one.masks, strict=True):
            best = pairwise_iou(found.boxes, torch.from_numpy(box).expand(len(found.boxes), 4)).argmax()
            union = found.masks[best].numpy() | mask
            assert np.count_nonzero(found.masks[best].numpy() & mask) / np.count_nonzero(union) > 0.8
