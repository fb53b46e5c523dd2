"""Masks moved to the edges of their image, by either way, and left alone."""

import numpy as np
import pytest

from objloc_ros.methods.refinement import refine


def scene():
    image = np.full((96, 128, 3), 50, np.uint8)
    image[24:72, 32:96] = (210, 180, 40)
    truth = image[:, :, 0] == 210
    coarse = np.zeros_like(truth)
    coarse[20:72, 32:100] = True
    return image, truth, coarse


def iou(a, b):
    return np.count_nonzero(a & b) / np.count_nonzero(a | b)


@pytest.mark.parametrize("post", ["bilateral", "crf"])
def test_a_mask_moves_to_the_objects_edges(post):
    image, truth, coarse = scene()
    (refined,) = refine([coarse], image, post)
    assert iou(refined, truth) > iou(coarse, truth) + 0.1


def test_none_leaves_masks_as_they_are():
    image, truth, coarse = scene()
    kept = refine([coarse, truth], image, "none")
    np.testing.assert_array_equal(kept, [coarse, truth])


def test_a_mask_that_would_move_away_stays_or_goes():
    image, truth, _ = scene()
    scattered = np.random.default_rng(0).random(truth.shape) < 0.1
    (kept,) = refine([scattered], image, "bilateral")
    (dropped,) = refine([scattered], image, "crf")
    np.testing.assert_array_equal(kept, scattered)
    assert not dropped.any()


@pytest.mark.parametrize("post", ["none", "bilateral", "crf"])
def test_empty_masks_and_no_masks_are_fine(post):
    image, truth, _ = scene()
    (refined,) = refine([np.zeros_like(truth)], image, post)
    assert not refined.any()
    assert refine([], image, post) == []
