"""CorLoc on boxes small enough to judge by hand, and on published predictions."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from objloc_ros.metrics import CorLoc, corloc

SHARED = Path(__file__).resolve().parents[3] / "shared" / "corloc"
OBJECT = [0, 0, 16, 8]


def boxes(*rows: list[int]) -> np.ndarray:
    return np.array(rows, np.int64).reshape(-1, 4)


@pytest.mark.parametrize(
    ("answers", "truth", "expected"),
    [
        ({}, {}, CorLoc(0, 0)),
        ({"a": OBJECT}, {"a": boxes(OBJECT)}, CorLoc(1, 1)),
        ({"a": [0, 0, 32, 8]}, {"a": boxes(OBJECT)}, CorLoc(1, 1)),  # exactly one half
        ({"a": [0, 0, 33, 8]}, {"a": boxes(OBJECT)}, CorLoc(0, 1)),  # a little less
        ({"a": [0, 0, 3, 1]}, {"a": boxes([0, 0, 6, 1])}, CorLoc(1, 1)),  # 3/6, where 0.49999999 is a miss
        ({"a": OBJECT}, {"a": boxes([90, 90, 99, 99], OBJECT)}, CorLoc(1, 1)),  # any object
        ({"a": OBJECT}, {"a": boxes([90, 90, 99, 99]), "b": boxes(OBJECT)}, CorLoc(0, 2)),  # only one's own image
        ({"a": None, "b": OBJECT}, {"a": boxes(OBJECT), "b": boxes(OBJECT)}, CorLoc(1, 2)),  # nothing found: a miss
        ({"b": OBJECT}, {"a": boxes(OBJECT), "b": boxes(OBJECT)}, CorLoc(1, 2)),  # nothing said: a miss
        ({"a": OBJECT, "b": OBJECT}, {"a": boxes(), "b": boxes(OBJECT)}, CorLoc(1, 2)),  # no truth: a miss
    ],
)
def test_by_hand(answers: dict, truth: dict, expected: CorLoc) -> None:
    assert corloc(answers, truth) == expected


def test_images_without_truth_may_be_left_out() -> None:
    answers = {"a": OBJECT, "b": OBJECT}
    assert corloc(answers, {"a": boxes(), "b": boxes(OBJECT)}, without_truth="skip") == CorLoc(1, 1)


def test_parts_add_up() -> None:
    assert CorLoc(3, 4) + CorLoc(1, 2) == CorLoc(4, 6)
    assert CorLoc(4, 6).fraction == pytest.approx(2 / 3)
    assert CorLoc(0, 0).fraction == 0


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
    answers = {str(i): some(1)[0].tolist() for i in range(2000)}
    expected = sum(slow_hit(answers[k], truth[k].tolist()) for k in truth)
    assert 500 < expected < 1500
    assert corloc(answers, truth) == CorLoc(expected, 2000)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the published predictions are not here")
def test_the_published_boxes_of_lost() -> None:
    document = json.loads((SHARED / "voc07_gt.json").read_text())
    predictions = json.loads((SHARED / "lost_voc07_pred.json").read_text())

    def corners(box: list[float]) -> list[int]:
        x, y, width, height = map(int, box)
        return [x, y, x + width, y + height]

    truth: dict = {image["id"]: [] for image in document["images"]}
    for one in document["annotations"]:
        truth[one["image_id"]].append(corners(one["bbox"]))
    answers = {one["image_id"]: corners(one["bbox"]) for one in predictions}
    expected = sum(slow_hit(answers[k], truth[k]) for k in truth)
    found = corloc(answers, {k: boxes(*rows) for k, rows in truth.items()})
    assert found == CorLoc(expected, 5011)
    assert found.fraction == pytest.approx(0.61, abs=0.01)  # 0.619 with the difficult objects
