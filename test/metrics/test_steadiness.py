"""Steadiness and flicker counted by hand, frame by frame."""

from __future__ import annotations

import numpy as np
import pytest

from objloc_ros.metrics.steadiness import Flicker, Steadiness, match_boxes

A, B, FAR = (0, 0, 10, 10), (20, 0, 30, 10), (50, 50, 60, 60)


def boxes(*rows: tuple[int, ...]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


def test_each_object_gets_its_best_box() -> None:
    assert match_boxes({"a": A, "b": B}, boxes(FAR, B, (0, 0, 10, 5))) == {"a": 2, "b": 1}, "half is enough"
    assert match_boxes({"a": A}, boxes(FAR)) == match_boxes({"a": A}, boxes()) == match_boxes({}, boxes(A)) == {}


def test_a_frame_counts_objects_and_boxes() -> None:
    counts = Steadiness()
    counts.update({"a": A, "b": B}, boxes(FAR, B, (0, 0, 10, 5)))
    assert (counts.seen, counts.found, counts.boxes, counts.right) == (2, 2, 3, 2)
    assert counts.compute() == {"recall": 1.0, "precision": pytest.approx(2 / 3), "flicker": 0.0, "switches": 0.0}


def test_frames_without_objects_or_boxes() -> None:
    counts = Steadiness()
    counts.update({}, boxes())
    counts.update({"a": A}, boxes())
    counts.update({}, boxes(A))
    assert counts.compute() == {"recall": 0.0, "precision": 0.0, "flicker": 0.0, "switches": 0.0}


def test_flicker_and_switches() -> None:
    counts = Steadiness()
    for found, name in [(True, "1"), (False, ""), (True, "2"), (True, "2")]:
        counts.update({7: A}, boxes(A) if found else boxes(), [name] if found else [])
    assert (counts.pairs, counts.flickers, counts.switches) == (3, 2, 1)
    assert counts.compute()["switches"] == pytest.approx(100 / 3)


def test_without_ids_there_are_no_switches() -> None:
    counts = Steadiness()
    counts.update({7: A}, boxes(A), ["1"])
    counts.update({7: A}, boxes(A))
    counts.update({7: A}, boxes(A), ["2"])
    assert counts.switches == 1


def test_after_a_cut_objects_are_others() -> None:
    counts = Steadiness()
    counts.update({7: A}, boxes(A), ["1"])
    counts.start_video()
    counts.update({7: A}, boxes(), [])
    counts.update({7: A}, boxes(A), ["2"])
    assert (counts.pairs, counts.flickers, counts.switches) == (1, 1, 0)


def mask(*columns: int) -> np.ndarray:
    found = np.zeros((2, 4), bool)
    found[:, list(columns)] = True
    return found


def test_flicker_of_masks() -> None:
    flicker = Flicker()
    for found in (mask(0, 1), mask(1, 2), mask(1, 2), mask(), mask()):
        flicker.update(found)
    assert flicker.pairs == 4
    assert flicker.compute() == pytest.approx((2 / 3 + 0 + 1 + 0) / 4)


def test_masks_of_another_size_and_cuts_begin_anew() -> None:
    flicker = Flicker()
    flicker.update(mask(0))
    flicker.update(np.ones((3, 3), bool))
    flicker.start_video()
    flicker.update(np.zeros((3, 3), bool))
    assert (flicker.pairs, flicker.compute()) == (0, 0.0)
