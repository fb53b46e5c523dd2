"""Probabilistic Hough matching, against the original and on shifted boxes."""

from __future__ import annotations

import numpy as np
import pytest
from golden_cases import find_cases, load_case

from objloc_ros.ops.hough_matching import combine_directions, keep_best_pairs, match_regions


@pytest.mark.parametrize("path", find_cases("lod_phm"), ids=lambda path: path.stem)
def test_scores_are_those_of_the_original(path) -> None:
    case = load_case(path)
    size, other = (tuple(int(side) for side in case[name]) for name in ("size_a", "size_b"))
    similarity = case["feat_a"].astype(np.float64) @ case["feat_b"].astype(np.float64).T
    forth = match_regions(case["boxes_a"], case["boxes_b"], similarity, size, other)
    back = match_regions(case["boxes_b"], case["boxes_a"], similarity.T, other, size)
    np.testing.assert_allclose(forth, case["phm_ab"], rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(back, case["phm_ba"], rtol=1e-5, atol=1e-7)
    confidence = combine_directions(forth, back)
    np.testing.assert_allclose(confidence, case["confidence"], rtol=1e-5, atol=1e-2)
    rows, columns, values = keep_best_pairs(confidence, int(case["keep"]))
    assert set(zip(rows, columns, strict=True)) == set(zip(case["sparse_i"], case["sparse_j"], strict=True))
    assert (np.diff(values) <= 0).all()


def test_pairs_that_agree_on_a_shift_support_each_other() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 60, (12, 2))
    boxes = np.hstack([corners, corners + rng.uniform(15, 30, (12, 2))])
    shifted = boxes + np.array([20, 10, 20, 10])
    scores = match_regions(boxes, shifted, np.ones((12, 12)), (100, 100), (120, 120))
    assert (scores.argmax(axis=1) == np.arange(12)).all(), "though all descriptors are equal"


def test_other_shapes_and_negative_similarities_do_not_vote() -> None:
    upright, flat = np.array([[10, 10, 20, 40]]), np.array([[10, 10, 40, 20]])
    assert match_regions(upright, flat, np.ones((1, 1)), (80, 80), (80, 80)) == 0
    assert match_regions(upright, upright, -np.ones((1, 1)), (80, 80), (80, 80)) == 0
    assert match_regions(upright, upright, np.ones((1, 1)), (80, 80), (80, 80)) > 0
    nothing = np.zeros((0, 4))
    assert match_regions(nothing, upright, np.ones((0, 1)), (80, 80), (80, 80)).shape == (0, 1)
