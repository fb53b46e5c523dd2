"""CorLoc on boxes small enough to judge by hand, and on published predictions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from golden_cases import GOLDEN, load_case

from objloc_ros.metrics import CorLoc

OBJECT = [0, 0, 16, 8]


def boxes(*rows: list[int]) -> np.ndarray:
    return np.array(rows, np.int64).reshape(-1, 4)


def counted(predictions: dict, truth: dict, **options: str) -> tuple[int, int]:
    """Hits and images."""
    metric = CorLoc(**options)  # type: ignore[arg-type]
    metric.update([predictions.get(key) for key in truth], list(truth.values()))
    return metric.hits, metric.images


@pytest.mark.parametrize(
    ("predictions", "truth", "expected"),
    [
        ({}, {}, (0, 0)),
        ({"a": OBJECT}, {"a": boxes(OBJECT)}, (1, 1)),
        ({"a": [0, 0, 32, 8]}, {"a": boxes(OBJECT)}, (1, 1)),  # exactly one half
        ({"a": [0, 0, 33, 8]}, {"a": boxes(OBJECT)}, (0, 1)),  # a little less
        ({"a": [0, 0, 3, 1]}, {"a": boxes([0, 0, 6, 1])}, (1, 1)),  # 3/6, where 0.49999999 is a miss
        ({"a": OBJECT}, {"a": boxes([90, 90, 99, 99], OBJECT)}, (1, 1)),  # any object
        ({"a": OBJECT}, {"a": boxes([90, 90, 99, 99]), "b": boxes(OBJECT)}, (0, 2)),  # only one's own image
        ({"a": None, "b": OBJECT}, {"a": boxes(OBJECT), "b": boxes(OBJECT)}, (1, 2)),  # nothing found: a miss
        ({"b": OBJECT}, {"a": boxes(OBJECT), "b": boxes(OBJECT)}, (1, 2)),  # nothing said: a miss
        ({"a": OBJECT, "b": OBJECT}, {"a": boxes(), "b": boxes(OBJECT)}, (1, 2)),  # no truth: a miss
    ],
)
def test_by_hand(predictions: dict, truth: dict, expected: tuple[int, int]) -> None:
    assert counted(predictions, truth) == expected


def test_images_without_truth_may_be_left_out() -> None:
    predictions = {"a": OBJECT, "b": OBJECT}
    assert counted(predictions, {"a": boxes(), "b": boxes(OBJECT)}, without_truth="skip") == (1, 1)


def test_images_add_up() -> None:
    metric = CorLoc()
    assert metric.compute() == 0, "no image"
    metric.update([OBJECT, None], [boxes(OBJECT)] * 2)
    metric.update([OBJECT], [boxes(OBJECT)])
    assert metric.compute() == pytest.approx(2 / 3)


def slow_hit(box: list[int], truth: list[list[int]]) -> bool:
    """In whole numbers and fractions, pixel edges as given."""
    for other in truth:
        width = min(box[2], other[2]) - max(box[0], other[0])
        height = min(box[3], other[3]) - max(box[1], other[1])
        inter = max(width, 0) * max(height, 0)
        area = [(b[2] - b[0]) * (b[3] - b[1]) for b in (box, other)]
        if Fraction(inter, sum(area) - inter) >= Fraction(1, 2):
            return True
    return False


def test_the_slow_loop_agrees_on_random_boxes() -> None:
    rng = np.random.default_rng(3)

    def some(count: int) -> np.ndarray:
        low = rng.integers(0, 3, (count, 2))
        return np.concatenate([low, low + rng.integers(3, 7, (count, 2))], axis=1)

    truth = {str(i): some(rng.integers(0, 4)) for i in range(2000)}
    predictions = {str(i): some(1)[0].tolist() for i in range(2000)}
    expected = sum(slow_hit(predictions[k], truth[k].tolist()) for k in truth)
    assert 500 < expected < 1500
    assert counted(predictions, truth) == (expected, 2000)


def test_the_published_boxes_of_lost() -> None:
    published = load_case(GOLDEN / "corloc" / "lost_voc07.npz")
    predictions = {str(number): box.tolist() for number, box in enumerate(published["predictions"])}
    truth = {key: published["truth"][published["truth_image"] == int(key)].astype(np.int64) for key in predictions}
    expected = sum(slow_hit(predictions[key], truth[key].tolist()) for key in predictions)
    hits, images = counted(predictions, truth)
    assert (hits, images) == (expected, 5011)
    assert hits / images == pytest.approx(0.61, abs=0.01)  # 0.619 with the difficult objects
