"""Frames and truth paired by stamp, against an obvious loop."""

from __future__ import annotations

import numpy as np
import pytest

from objloc_ros.bags.survey import match
from objloc_ros.errors import InputError


def keys(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@pytest.mark.parametrize(
    ("frames", "truths", "slop", "pairs"),
    [
        ((1, 2, 3), (2, 3, 4), 0, [(2, 2), (3, 3)]),
        ((10, 20), (11, 22), 1, [(10, 11)]),
        ((10, 20), (11, 22), 2, [(10, 11), (20, 22)]),
        ((10, 12), (11,), 5, [(10, 11)]),  # as near as the other, and first
        ((10,), (8, 12), 5, [(10, 8)]),
        ((10, 13), (12,), 5, [(13, 12)]),
        ((5,), (5,), 0, [(5, 5)]),
    ],
)
def test_pairs(frames: tuple[int, ...], truths: tuple[int, ...], slop: int, pairs: list[tuple[int, int]]) -> None:
    got = match(keys(*frames), keys(*truths), slop)
    assert list(zip(got.frames.tolist(), got.truths.tolist(), strict=True)) == pairs
    assert (got.alone, got.unused) == (len(frames) - len(pairs), len(truths) - len(pairs))
    for place, (frame, truth) in enumerate(pairs):
        assert (got.of_frame(frame), got.of_truth(truth)) == (place, place)
    assert got.of_frame(999) is got.of_truth(999) is got.of_frame(-1) is None


def test_a_loop_finds_the_same() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        frames, truths = (np.unique(rng.integers(0, 60, rng.integers(1, 20))) for _ in range(2))
        slow = []
        for frame in frames.tolist():
            nearest = min(truths.tolist(), key=lambda t: (abs(t - frame), t))
            back = min(frames.tolist(), key=lambda f: (abs(f - nearest), f))
            if back == frame and abs(nearest - frame) <= 3:
                slow.append((frame, nearest))
        if not slow:
            continue
        got = match(frames, truths, 3)
        assert list(zip(got.frames.tolist(), got.truths.tolist(), strict=True)) == slow


@pytest.mark.parametrize(
    ("frames", "truths", "message"),
    [
        (
            (1_000_000, 9_000_000),
            (3_000_000,),
            "x has 1 stamps, but none is within 0 ms of one of the 2 frames' stamps; ",
        ),
        ((5,), (), "x holds 0 stamps of truth for 1 frames"),
        ((), (5,), "x holds 1 stamps of truth for 0 frames"),
    ],
)
def test_nothing_to_compare(frames: tuple[int, ...], truths: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        match(keys(*frames), keys(*truths), what="x")
