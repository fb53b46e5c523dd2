"""Mean IoU by confusion matrix, by both papers' conventions."""

from __future__ import annotations

import numpy as np
import pytest

from objloc_ros.errors import InputError
from objloc_ros.metrics.semantic import MeanIoU, confusion_matrix, resize_as_clip_diy

TRUTH = np.array([[0, 0, 1, 255]], np.uint8)


def mean_iou(*counts: np.ndarray, **options: str) -> dict:
    metric = MeanIoU(len(counts[0]), **options)  # type: ignore[arg-type]
    for matrix in counts:
        metric.update(matrix)
    return metric.compute()


def ids(*values: int) -> np.ndarray:
    return np.array([values], np.uint8)


def test_pixels_by_truth_and_prediction() -> None:
    assert confusion_matrix(TRUTH, ids(0, 1, 1, 1), 3).tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_unlabelled_pixels_are_background() -> None:
    assert confusion_matrix(TRUTH, ids(255, 0, 255, 0), 2).tolist() == [[2, 0], [1, 0]]
    assert confusion_matrix(TRUTH, ids(255, 0, 255, 0), 2, unlabelled=1).tolist() == [[1, 1], [0, 1]]


def test_absent_classes_count_as_zero_or_not_at_all() -> None:
    counts = confusion_matrix(TRUTH, ids(0, 1, 1, 1), 3)
    skipped, zero = mean_iou(counts), mean_iou(counts, absent="zero")
    assert skipped["per_class"] == [0.5, 0.5, None]
    assert skipped["miou"] == 0.5
    assert zero["per_class"] == [0.5, 0.5, 0.0]
    assert zero["miou"] == pytest.approx(1 / 3)
    assert skipped["accuracy"] == zero["accuracy"] == pytest.approx(2 / 3)


def test_images_add_up_before_the_division() -> None:
    """The mean of the images' IoUs would be 3/4."""
    counts = confusion_matrix(ids(1, 1), ids(1, 1), 2), confusion_matrix(ids(1, 1), ids(0, 1), 2)
    assert mean_iou(*counts)["per_class"] == [0.0, 0.75]


def test_nothing_counted() -> None:
    assert MeanIoU(2).compute() == {"miou": 0.0, "accuracy": 0.0, "per_class": [None, None]}


def test_clip_diys_sizes() -> None:
    truth, prediction = resize_as_clip_diy(np.zeros((100, 150), np.uint8), np.ones((256, 256), np.uint8))
    assert truth.shape == prediction.shape == (448, 672)
    assert set(prediction.ravel()) == {1}


@pytest.mark.parametrize(
    ("prediction", "message"),
    [
        (ids(0, 0, 0), "the prediction has 3x1 pixels, the truth 4x1"),
        (ids(0, 3, 0, 0), "class ids of the prediction must be below 3, got 3"),
    ],
)
def test_bad_predictions(prediction: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        confusion_matrix(TRUTH, prediction, 3)


def test_bad_truth() -> None:
    with pytest.raises(InputError, match="class ids of the truth must be below 3, got 7"):
        confusion_matrix(ids(7), ids(0), 3)
