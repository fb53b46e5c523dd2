"""Metrics on arrays small enough to compute by hand."""

import numpy as np
import pytest

from objloc_ros.metrics import AveragePrecision, CorLoc, ScoredImage, iou


def boxes(*rows):
    return np.array(rows, np.float32).reshape(-1, 4)


@pytest.mark.parametrize(
    ("box", "hit"),
    [
        ((0, 0, 16, 8), True),  # the object itself
        ((0, 0, 32, 8), True),  # an IoU of exactly one half counts
        ((0, 0, 33, 8), False),
        ((32, 0, 48, 8), False),
        ((40, 40, 47, 47), True),  # any object will do
        (None, False),  # no object found
    ],
)
def test_a_hit_needs_half_of_the_union(box, hit):
    metric = CorLoc()
    metric.update([box], [boxes((0, 0, 16, 8), (40, 40, 48, 48))])
    assert (metric.hits, metric.images) == (int(hit), 1)


def test_nothing_hits_an_empty_image():
    metric = CorLoc()
    metric.update([(0, 0, 4, 4)], [boxes()])
    assert metric.compute() == 0


def test_iou_of_every_pair():
    got = iou(boxes((0, 0, 4, 4), (2, 2, 6, 6)), boxes((0, 0, 4, 4), (4, 4, 8, 8), (0, 0, 2, 2)))
    np.testing.assert_allclose(got, [[1, 0, 1 / 4], [4 / 28, 4 / 28, 0]])
    assert iou(boxes(), boxes((0, 0, 1, 1))).shape == (0, 1)


def precision(*images):
    metric = AveragePrecision()
    for image in images:
        metric.update(image)
    return metric.compute()


TRUTH = boxes((0, 0, 10, 10), (20, 20, 30, 30))


@pytest.mark.parametrize(
    ("found", "scores", "expected"),
    [
        (TRUTH, [0.9, 0.8], {"ap": 1, "ap50": 1, "ar100": 1, "recall50": 1}),
        (TRUTH[:1], [0.9], {"ap": 51 / 101, "ap50": 51 / 101, "ar100": 0.5, "recall50": 0.5}),
        # A wrong box above the right one halves the precision all along.
        (boxes((50, 50, 60, 60), *TRUTH), [0.9, 0.8, 0.7], {"ap50": 2 / 3, "recall50": 1}),
        # Below it, it does no harm.
        (boxes((50, 50, 60, 60), *TRUTH), [0.1, 0.8, 0.7], {"ap50": 1, "recall50": 1}),
        # An IoU of 0.6 counts at the thresholds 0.5, 0.55 and 0.6 of ten.
        (boxes((0, 0, 10, 6), (20, 20, 30, 26)), [0.9, 0.8], {"ap": 0.3, "ap50": 1, "ar100": 0.3}),
        (boxes(), [], {"ap": 0, "ap50": 0, "ar100": 0, "recall50": 0}),
        (boxes((50, 50, 60, 60)), [0.9], {"ap": 0, "ap50": 0, "ar100": 0, "recall50": 0}),
    ],
)
def test_average_precision_and_recall(found, scores, expected, capsys):
    got = precision(ScoredImage(found, np.array(scores, np.float32), TRUTH))
    for name, value in expected.items():
        assert got[name] == pytest.approx(value, abs=1e-6), name
    assert capsys.readouterr().out == ""


def test_images_are_ranked_together():
    """The other image's better score comes first, and it is wrong."""
    right = ScoredImage(TRUTH[:1], np.array([0.5]), TRUTH[:1])
    wrong = ScoredImage(boxes((50, 50, 60, 60)), np.array([0.9]), boxes((0, 0, 5, 5)))
    assert precision(right, wrong)["ap50"] == pytest.approx(0.5 * 51 / 101)


def test_no_image_scores_nothing():
    assert set(precision().values()) == {0.0}
