"""Figures and pictures of a recorded run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from objloc_ros.cli.demo_report import (
    RecordedRun,
    choose_frames,
    format_table,
    make_caption,
    make_sheet,
    outline_objects,
    summarise,
)

MS = 1_000_000
RUN = RecordedRun(
    images=4,
    age_ms={100 * MS: 40.0, 200 * MS: 60.0, 400 * MS: 50.0},
    boxes={100 * MS: 1, 200 * MS: 2, 400 * MS: 0},
    iou={100 * MS: 0.5, 200 * MS: 1.0},
    processing_ms=[10.0, 20.0],
    diagnostics={"received": "4", "published": "3", "dropped": "1", "dropped.too_old": "1", "last_error": ""},
)


def test_summary():
    report = summarise(RUN, 5)
    assert report["frames"] == {
        "in": 5,
        "out": 3,
        "recorded": 4,
        "received": 4,
        "published": 3,
        "dropped": {"too_old": 1},
    }
    assert report["rate_hz"] == pytest.approx(6.67)  # three frames in 0.3 s
    assert report["age_ms"] == {"p50": 50.0, "p95": 59.0}
    assert report["boxes_per_frame"] == {"mean": 1.0, "counts": [1, 2, 0]}
    assert report["mask_iou"] == {"mean": 0.75, "frames": 2}


def test_the_table_says_it_all():
    text = format_table(summarise(RUN, 5))
    for words in (
        "5 in, 3 out, 1 dropped (too_old 1), 1 lost on the way",
        "p50 50 ms, p95 59 ms",
        "1.0 per frame",
        "0.75",
    ):
        assert words in text


def test_names_are_counted_by_frame():
    names = {100 * MS: ("cup", "dog"), 300 * MS: (), 500 * MS: ("dog",)}
    report = summarise(replace(RUN, names=names), 5)
    assert report["names"] == {"frames": 3, "rate_hz": 5.0, "counts": {"dog": 2, "cup": 1}}
    assert "3 frames, 5.0 a second: dog, cup\n" in format_table(report)
    assert list(report["names"]["counts"]) == ["dog", "cup"], "the most frequent first"
    nothing = summarise(replace(RUN, names={100 * MS: ()}), 5)
    assert "1 frames, 1.0 a second: none of the prompts" in format_table(nothing)


def test_captions_with_names():
    run = replace(RUN, names={0: ("cup", "red car"), 300 * MS: ()})
    assert make_caption(run, 0) == "0.0 s   cup, red car"
    assert make_caption(run, 300 * MS) == "0.3 s   none of the prompts"
    assert make_caption(run, 200 * MS) == "0.2 s   2 objects   IoU 1.00"


def test_an_empty_run_has_no_figures():
    report = summarise(RecordedRun(), 5)
    assert report["frames"]["out"] == 0
    assert report["names"] is None
    assert report["age_ms"] is report["mask_iou"] is report["boxes_per_frame"]["mean"] is None
    assert "age         unknown" in format_table(report)


@pytest.mark.parametrize(
    ("stamps", "count", "chosen"),
    [([5, 1, 3], 12, [1, 3, 5]), (range(100), 3, [0, 50, 99]), ([7], 4, [7]), ([], 4, [])],
)
def test_frames_are_picked_evenly(stamps, count, chosen):
    assert choose_frames(stamps, count) == chosen


@pytest.mark.parametrize(
    ("stamp", "text"),
    [(100, "0.0 s   1 object   IoU 0.50"), (200, "0.1 s   2 objects   IoU 1.00"), (400, "0.3 s   0 objects")],
)
def test_captions(stamp, text):
    assert make_caption(RUN, stamp * MS) == text


def test_outlines_follow_each_object():
    truth = np.zeros((40, 60), np.uint8)
    truth[10:30, 10:30], truth[10:30, 30:50] = 1, 2
    picture = np.zeros((40, 60, 3), np.uint8)
    lines = outline_objects(picture, truth)
    assert (lines[20, [10, 29, 30, 49]] == 255).all()  # the seam between the two as well
    assert not lines[20, 20].any()
    assert not picture.any()


def test_a_sheet_holds_all_frames_and_a_title():
    frames = [np.full((30, 40, 3), 40 * i, np.uint8) for i in range(1, 6)]
    page = make_sheet(frames, [str(i) for i in range(5)], "title")
    assert page.ndim == 3
    assert all((page == 40 * i).all(axis=2).sum() > 10_000 for i in range(1, 6))
    assert (page[:44] < 128).any()
