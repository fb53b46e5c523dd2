"""The three saliency protocols on maps small enough to compute by hand, where they differ."""

from __future__ import annotations

import json

import numpy as np
import pytest

from objloc_ros.errors import InputError
from objloc_ros.metrics.saliency import Saliency, SaliencyScore, score

FULL, EMPTY = np.full((1, 4), 255, np.uint8), np.zeros((1, 4), np.uint8)
HALF = np.array([[255, 255, 0, 0]], np.uint8)
EPS = 1e-7


def soft(*values: float) -> np.ndarray:
    return np.array([values], np.float64)


def averaged(*scores: SaliencyScore) -> dict[str, float]:
    metric = Saliency()
    for image in scores:
        metric.update(image)
    return metric.compute()


def f(beta2: float, precision: float, recall: float) -> float:
    return (1 + beta2) * precision * recall / (beta2 * precision + recall)


@pytest.mark.parametrize(
    ("prediction", "truth", "iou", "accuracy"),
    [
        (soft(1, 1, 0, 0), HALF, 1, 1),
        (soft(1, 0, 1, 0), HALF, 1 / 3, 1 / 2),
        (soft(0.5, 0.51, 0, 0), HALF, 1 / 2, 3 / 4),  # one half is background
        (soft(0, 0, 0, 0), EMPTY, 0, 1),  # both empty: 0 by the epsilon, not NaN
        (soft(1, 1, 1, 1), EMPTY, 0, 0),
        (soft(0, 0, 0, 0), FULL, 0, 0),
    ],
)
def test_iou_and_accuracy(prediction: np.ndarray, truth: np.ndarray, iou: float, accuracy: float) -> None:
    got = score(prediction, truth)
    assert (got.iou, got.accuracy) == pytest.approx((iou, accuracy), abs=1e-6)


@pytest.mark.parametrize(
    ("rule", "object_pixels"),
    [
        ("positive", [False, True, True, True]),
        ("full", [False, False, False, True]),
        ("half", [False, False, True, True]),
    ],
)
def test_what_counts_as_object(rule: str, object_pixels: list[bool]) -> None:
    truth = np.array([[0, 1, 128, 255]], np.uint8)
    assert score(np.array([object_pixels], np.float64), truth, truth_rule=rule).accuracy == 1  # type: ignore[arg-type]


def test_beta_is_squared_twice_in_one_protocol() -> None:
    """Everything chosen: precision 1/2, recall 1 at every threshold."""
    got = score(soft(1, 1, 1, 1), HALF)
    assert got.maxf_selfmask == pytest.approx(f(0.09, 1 / 2, 1), abs=1e-6)
    assert got.f_tokencut == pytest.approx([f(0.3, 1 / 2, 1)] * 255)
    assert f(0.09, 1 / 2, 1) < f(0.3, 1 / 2, 1)


def test_curves_for_plots() -> None:
    """Of pixels at 0.9 and 0.3, the first is object: both are chosen below 0.3 only."""
    got = score(soft(0.9, 0.3, 0, 0), np.array([[255, 0, 255, 0]], np.uint8))
    for name, below, between, above in (("precision", 0.5, 1, 0), ("recall", 0.5, 0.5, 0)):
        expected = [below] * 16 + [between] * 30 + [above] * 5  # thresholds i / 51: 15/51 < 0.3 < 16/51, 45/51 < 0.9
        assert getattr(got, name) == pytest.approx(expected, abs=1e-4)


def test_the_mean_of_the_best_is_not_the_best_of_the_mean() -> None:
    """Each map is perfect, below its own threshold only: 0.2 in one image, 0.8 in the other."""
    low = score(soft(0.2, 0.2, 0, 0), HALF)  # nothing is chosen from 51/255 on
    high = score(soft(0.8, 0.8, 0.6, 0.6), HALF)  # all is chosen below 153/255
    got = averaged(low, high)
    assert got["maxf_selfmask"] == pytest.approx(1, abs=1e-6)
    assert got["maxf_tokencut"] == pytest.approx((1 + f(0.3, 1 / 2, 1)) / 2)


@pytest.mark.parametrize(
    ("prediction", "truth", "expected"),
    [
        (soft(0, 0, 0, 0), HALF, 0),  # precision 1 by definition, recall 0
        (soft(0, 0, 0, 0), EMPTY, 1),  # both 1 by definition
        (soft(1, 0, 0, 0), EMPTY, 0),  # precision 0, recall 1
        (soft(0, 0, 1, 1), HALF, 0),  # both 0: F is 0, not NaN
    ],
)
def test_tokencuts_degenerate_cases(prediction: np.ndarray, truth: np.ndarray, expected: float) -> None:
    assert score(prediction, truth).f_tokencut == pytest.approx([expected] * 255)


@pytest.mark.parametrize(("prediction", "truth"), [(soft(0, 0, 0, 0), EMPTY), (soft(0, 0, 1, 1), HALF)])
def test_selfmasks_degenerate_cases(prediction: np.ndarray, truth: np.ndarray) -> None:
    assert score(prediction, truth).maxf_selfmask == pytest.approx(0, abs=1e-6)


def test_thresholds_are_strict() -> None:
    """A pixel of 10/255 is above the thresholds 0 to 9 and no further."""
    got = score(soft(10 / 255, 10 / 255, 0, 0), HALF)
    assert got.f_tokencut == pytest.approx([1.0] * 10 + [0.0] * 245)


def test_the_slow_loop_agrees() -> None:
    rng = np.random.default_rng(0)
    prediction, truth = rng.integers(0, 256, (9, 7)) / 255, (rng.random((9, 7)) > 0.6).astype(np.uint8)
    got, wanted, best = score(prediction, truth), truth > 0, 0.0
    for i, value in enumerate(got.f_tokencut):
        chosen = prediction > i / 255
        right = (chosen & wanted).sum()
        precision, recall = right / chosen.sum() if chosen.any() else 1, right / wanted.sum()
        assert value == pytest.approx(f(0.3, precision, recall) if right else 0)
        precision, recall = right / (chosen.sum() + EPS), right / (wanted.sum() + EPS)
        best = max(best, 1.09 * precision * recall / (0.09 * precision + recall + EPS))
    assert got.maxf_selfmask == pytest.approx(best)


def test_a_perfect_map_is_perfect_by_the_standard_too() -> None:
    truth = np.zeros((16, 16), np.uint8)
    truth[4:12, 5:11] = 255
    got = averaged(score(truth / 255, truth))
    for name in ("maxf", "s_measure", "accuracy"):
        assert got[name] == pytest.approx(1, abs=1e-3), name
    assert got["mae"] == 0
    worse = averaged(score(np.roll(truth, 4, 1) / 255, truth))
    assert all(worse[name] < got[name] for name in ("maxf", "s_measure", "e_measure", "iou"))
    assert worse["mae"] == pytest.approx(64 / 256)


def test_an_object_in_the_last_column_has_no_undefined_measure() -> None:
    """The library divides the image at the object's centre and averages over a part without pixels."""
    truth = np.zeros((4, 4), np.uint8)
    truth[:, 3] = 255
    assert 0 <= score(truth / 255, truth).s_measure <= 1


def test_scores_go_through_json_unchanged() -> None:
    one = score(np.random.default_rng(1).random((5, 6)), np.eye(5, 6, dtype=np.uint8))
    assert SaliencyScore.from_json(json.loads(json.dumps(one.to_json()))) == one


@pytest.mark.parametrize(
    ("prediction", "truth", "message"),
    [
        (soft(1, 1), HALF, r"shape \(1, 2\), the truth \(1, 4\)"),
        (soft(1, 1, 2, 0), HALF, r"must lie in \[0, 1\], got 0.0 to 2.0"),
        (soft(1, 1, float("nan"), 0), HALF, r"must lie in \[0, 1\], got nan"),
    ],
)
def test_bad_maps(prediction: np.ndarray, truth: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        score(prediction, truth)


def test_no_image() -> None:
    with pytest.raises(InputError, match="no image"):
        averaged()
