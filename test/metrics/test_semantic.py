"""Mean IoU by confusion matrix, by both papers' conventions."""

from __future__ import annotations

import numpy as np
import pytest

from objloc_ros.errors import InputError
from objloc_ros.metrics.semantic import as_clip_diy, confusion, summarise

TRUTH = np.array([[0, 0, 1, 255]], np.uint8)


def ids(*values: int) -> np.ndarray:
    return np.array([values], np.uint8)


def test_pixels_by_truth_and_answer() -> None:
    assert confusion(TRUTH, ids(0, 1, 1, 1), 3).tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_unlabelled_pixels_are_background() -> None:
    assert confusion(TRUTH, ids(255, 0, 255, 0), 2).tolist() == [[2, 0], [1, 0]]
    assert confusion(TRUTH, ids(255, 0, 255, 0), 2, unlabelled=1).tolist() == [[1, 1], [0, 1]]


def test_absent_classes_count_as_zero_or_not_at_all() -> None:
    counts = confusion(TRUTH, ids(0, 1, 1, 1), 3)
    skipped, zero = summarise(counts), summarise(counts, absent="zero")
    assert skipped["per_class"] == [0.5, 0.5, None]
    assert skipped["miou"] == 0.5
    assert zero["per_class"] == [0.5, 0.5, 0.0]
    assert zero["miou"] == pytest.approx(1 / 3)
    assert skipped["accuracy"] == zero["accuracy"] == pytest.approx(2 / 3)


def test_images_add_up_before_the_division() -> None:
    """The mean of the images' IoUs would be 3/4."""
    counts = confusion(ids(1, 1), ids(1, 1), 2) + confusion(ids(1, 1), ids(0, 1), 2)
    assert summarise(counts)["per_class"] == [0.0, 0.75]


def test_nothing_counted() -> None:
    assert summarise(np.zeros((2, 2), np.int64)) == {"miou": 0.0, "accuracy": 0.0, "per_class": [None, None]}


def test_clip_diys_sizes() -> None:
    truth, answer = as_clip_diy(np.zeros((100, 150), np.uint8), np.ones((256, 256), np.uint8))
    assert truth.shape == answer.shape == (448, 672)
    assert set(answer.ravel()) == {1}


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (ids(0, 0, 0), "the answer has 3x1 pixels, the truth 4x1"),
        (ids(0, 3, 0, 0), "class ids of the answer must be below 3, got 3"),
    ],
)
def test_bad_answers(answer: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        confusion(TRUTH, answer, 3)


def test_bad_truth() -> None:
    with pytest.raises(InputError, match="class ids of the truth must be below 3, got 7"):
        confusion(ids(7), ids(0), 3)
