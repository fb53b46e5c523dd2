"""SelfMask's losses and learning rate, against the original's outputs and by hand."""

import numpy as np
import pytest
import torch
from golden_cases import IS_ILL_POSED, find_cases, load_case, to_device

from objloc_ros.methods.selfmask import Masks
from objloc_ros.training.selfmask import dice_losses, ranking_loss, selfmask_loss
from objloc_ros.training.selfmask_data import decay_rate


@pytest.mark.parametrize("path", find_cases("selfmask_loss"), ids=lambda path: path.stem)
def test_losses_and_gradients_are_the_originals(path):
    case = load_case(path)
    masks, objectness = (to_device(case[name]).requires_grad_() for name in ("pred", "objectness"))
    targets = to_device(case["gt"])[:, 0].float()
    loss = selfmask_loss(Masks(masks, objectness), targets, literal=True)
    loss.total.backward()
    assert loss.images == len(case["gt"])
    for ours, theirs in ((loss.total, "loss"), (loss.dice, "dice_sum"), (loss.ranking, "ranking_sum")):
        assert ours.item() == pytest.approx(case[theirs], rel=1e-5)
    np.testing.assert_allclose(objectness.grad.cpu(), case["grad_objectness"], atol=1e-6)
    assert masks.grad.abs().sum().item() == pytest.approx(case["grad_pred_abs_sum"], rel=1e-5)
    mended = selfmask_loss(Masks(masks, objectness), targets).ranking
    assert mended.item() == pytest.approx(case["own_fixed_ranking_sum"], rel=1e-5)
    taught = case["gt"].any((1, 2, 3))
    assert IS_ILL_POSED["selfmask_loss"](case) == (not taught.all())
    assert not masks.grad[~taught].any()
    dice = dice_losses(masks, targets)
    np.testing.assert_allclose(dice.detach().cpu(), case["dice"], atol=1e-6)
    np.testing.assert_array_equal(dice.cpu()[taught, -1].argmin(1), case["best_query"][taught])


def test_the_better_mask_must_have_the_higher_objectness():
    dice = torch.tensor([[[0.9, 0.1, 0.5]]])
    right, wrong = torch.tensor([[[0.2, 0.8, 0.4]]]), torch.tensor([[[0.8, 0.2, 0.4]]])
    assert ranking_loss(dice, right).tolist() == [[0.0]]
    torch.testing.assert_close(ranking_loss(dice, wrong), torch.tensor([[0.6 + 0.4 + 0.2]]))
    torch.testing.assert_close(ranking_loss(dice, right, literal=True), torch.tensor([[0.6 + 0.4 + 0.2]]))
    assert ranking_loss(dice, wrong, literal=True).tolist() == [[0.0]]


def test_a_perfect_mask_costs_nothing_and_a_batch_without_masks_neither():
    targets = torch.zeros(2, 4, 4)
    targets[:, 1:3, 1:3] = 1
    predicted = Masks(targets[:, None, None], torch.full((2, 1, 1, 1), 0.5))
    assert selfmask_loss(predicted, targets).total.item() == 0
    assert selfmask_loss(predicted, torch.zeros(2, 4, 4)).total.item() == 0


def test_the_rate_falls_over_the_whole_run():
    (path,) = find_cases("selfmask_rate")
    case = load_case(path)
    steps, per_epoch = int(case["epochs"] * case["iters"]), int(case["iters"])
    counted = [step if step == 0 else (step - 1) % per_epoch + 1 for step in range(steps)]  # anew for each epoch
    original = [decay_rate(float(case["base"]), step, steps) for step in counted]
    np.testing.assert_allclose(original, case["rates"], rtol=1e-6)
    ours = [decay_rate(1.0, step, steps) for step in range(steps + 1)]
    assert (ours[0], ours[-1]) == (1.0, 0.0)
    assert ours == sorted(ours, reverse=True)
