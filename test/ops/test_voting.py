"""The vote among candidate masks: who takes part, who wins, and what is refused."""

import numpy as np
import pytest

from objloc_ros.errors import InputError
from objloc_ros.ops.voting import overlaps, vote


def mask(*boxes, size=(10, 10)):
    """A mask that is true in boxes (top, left, bottom, right), max exclusive."""
    drawn = np.zeros(size, bool)
    for top, left, bottom, right in boxes:
        drawn[top:bottom, left:right] = True
    return drawn


CENTRE, NEAR, FAR = mask((2, 2, 8, 8)), mask((2, 2, 8, 7)), mask((0, 0, 2, 2))
EMPTY = mask()
TOP_AND_BOTTOM, SIDES = mask((0, 3, 10, 5)), mask((3, 0, 4, 1), (7, 9, 8, 10))


def test_the_mask_that_others_resemble_wins():
    outcome = vote(np.stack([FAR, NEAR, CENTRE, NEAR]))
    assert outcome.winner == 1  # the first of two equal ones
    assert outcome.kept.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(outcome.scores, [1, 2 + 5 / 6, 1 + 2 * 5 / 6, 2 + 5 / 6], atol=1e-6)
    assert outcome.confidence == pytest.approx((2 + 5 / 6) / 4)


def test_empty_masks_and_those_that_touch_opposite_borders_have_no_vote():
    outcome = vote(np.stack([EMPTY, TOP_AND_BOTTOM, SIDES, FAR, mask((0, 0, 2, 10)), CENTRE]))
    assert outcome.kept.tolist() == [3, 5]
    assert outcome.winner == 3


@pytest.mark.parametrize("masks", [[EMPTY, TOP_AND_BOTTOM, SIDES], [EMPTY, EMPTY], [TOP_AND_BOTTOM]])
def test_if_none_may_take_part_all_do(masks):
    outcome = vote(np.stack(masks))
    assert outcome.kept.tolist() == list(range(len(masks)))
    assert 0 <= outcome.confidence <= 1


def test_small_ones_and_large_boxes_stay_out_if_asked():
    small, corners = mask((4, 4, 6, 6)), mask((0, 0, 1, 1), (9, 9, 10, 10))
    masks = np.stack([small, mask((0, 0, 9, 9)), CENTRE])
    assert vote(masks).kept.tolist() == [0, 1, 2]
    assert vote(masks, small_large=True).kept.tolist() == [1, 2]
    assert vote(np.stack([corners, CENTRE]), small_large=True).kept.tolist() == [1]
    large = np.stack([mask((0, 0, 99, 99), size=(100, 100)), mask((20, 20, 80, 80), size=(100, 100))])
    assert vote(large, small_large=True).kept.tolist() == [1]


def test_a_vote_does_not_depend_on_how_masks_are_written():
    masks = np.stack([FAR, CENTRE, NEAR])
    for written in (masks.astype(np.uint8) * 255, masks.astype(np.float32), masks[:, ::-1][:, ::-1]):
        assert vote(written).winner == vote(masks).winner


def test_overlaps_of_empty_masks_are_zero():
    np.testing.assert_allclose(overlaps(np.stack([EMPTY, EMPTY, CENTRE])), np.diag([0, 0, 1]), atol=1e-6)


@pytest.mark.parametrize("shape", [(0, 4, 4), (3, 0, 4), (4, 4)])
def test_no_mask_is_no_vote(shape):
    with pytest.raises(InputError, match=r"masks \[n, h, w\] with at least one of each, got"):
        vote(np.zeros(shape, bool))
