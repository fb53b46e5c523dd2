"""Steadiness and flicker counted by hand, frame by frame."""

from __future__ import annotations

import numpy as np
import pytest

from objloc_ros.metrics.steadiness import Flicker, Steadiness

A, B, FAR = (0, 0, 10, 10), (20, 0, 30, 10), (50, 50, 60, 60)


def boxes(*rows: tuple[int, ...]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


def test_a_frame_tells_which_box_is_whose() -> None:
    counts = Steadiness()
    assert counts.add({"a": A, "b": B}, boxes(FAR, B, (0, 0, 10, 5))) == {"a": 2, "b": 1}, "half is enough"
    assert (counts.seen, counts.found, counts.boxes, counts.right) == (2, 2, 3, 2)
    assert counts.figures() == {"recall": 1.0, "precision": pytest.approx(2 / 3), "flicker": 0.0, "switches": 0.0}


def test_frames_without_objects_or_boxes() -> None:
    counts = Steadiness()
    assert counts.add({}, boxes()) == {}
    assert counts.add({"a": A}, boxes()) == {}
    assert counts.add({}, boxes(A)) == {}
    assert counts.figures() == {"recall": 0.0, "precision": 0.0, "flicker": 0.0, "switches": 0.0}


def test_flicker_and_switches() -> None:
    counts = Steadiness()
    for found, name in [(True, "1"), (False, ""), (True, "2"), (True, "2")]:
        counts.add({7: A}, boxes(A) if found else boxes(), [name] if found else [])
    assert (counts.pairs, counts.flickers, counts.switches) == (3, 2, 1)
    assert counts.figures()["switches"] == pytest.approx(100 / 3)


def test_without_ids_there_are_no_switches() -> None:
    counts = Steadiness()
    counts.add({7: A}, boxes(A), ["1"])
    counts.add({7: A}, boxes(A))
    counts.add({7: A}, boxes(A), ["2"])
    assert counts.switches == 1


def test_after_a_cut_objects_are_others() -> None:
    counts = Steadiness()
    counts.add({7: A}, boxes(A), ["1"])
    counts.cut()
    counts.add({7: A}, boxes(), [])
    counts.add({7: A}, boxes(A), ["2"])
    assert (counts.pairs, counts.flickers, counts.switches) == (1, 1, 0)


def mask(*columns: int) -> np.ndarray:
    found = np.zeros((2, 4), bool)
    found[:, list(columns)] = True
    return found


def test_flicker_of_masks() -> None:
    flicker = Flicker()
    for one in (mask(0, 1), mask(1, 2), mask(1, 2), mask(), mask()):
        flicker.add(one)
    assert flicker.pairs == 4
    assert flicker.mean == pytest.approx((2 / 3 + 0 + 1 + 0) / 4)


def test_masks_of_another_size_and_cuts_begin_anew() -> None:
    flicker = Flicker()
    flicker.add(mask(0))
    flicker.add(np.ones((3, 3), bool))
    flicker.cut()
    flicker.add(np.zeros((3, 3), bool))
    assert (flicker.pairs, flicker.mean) == (0, 0.0)
