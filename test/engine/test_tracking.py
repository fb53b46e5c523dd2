"""Track ids: stable over motion, gaps and order, never given to another object."""

import numpy as np
import pytest

from objloc_ros.engine.temporal import MAX_STALE_FRAMES, Tracker
from objloc_ros.types import Detections

SIZE = (480, 640)


def detections(*boxes):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return Detections.class_free(boxes, np.full(len(boxes), 0.5, np.float32))


def box(x, y, side=60):
    return (x, y, x + side, y + side)


def test_ids_follow_the_boxes_and_not_their_order():
    tracker = Tracker()
    for step in range(20):
        a, b = box(10 + 8 * step, 50), box(500 - 8 * step, 300)
        order = (a, b) if step % 3 else (b, a)
        ids = tracker.update(detections(*order), SIZE)
        assert dict(zip(order, ids, strict=True)) == {a: "2", b: "1"}  # named in the order of the first frame


@pytest.mark.parametrize(("gap", "kept"), [(1, True), (3, True), (MAX_STALE_FRAMES + 3, False)])
def test_a_track_outlives_a_gap_but_not_for_ever(gap, kept):
    tracker = Tracker()
    for _ in range(6):
        assert tracker.update(detections(box(100, 100)), SIZE) == ("1",)
    for _ in range(gap):
        assert tracker.update(detections(), SIZE) == ()
    assert tracker.update(detections(box(100, 100)), SIZE) == ("1" if kept else "2",)


def test_a_new_object_gets_a_new_id():
    tracker = Tracker()
    tracker.update(detections(box(100, 100)), SIZE)
    assert tracker.update(detections(box(100, 100), box(400, 300)), SIZE) == ("1", "2")
    assert tracker.update(detections(box(400, 300)), SIZE) == ("2",)
    assert tracker.update(detections(box(400, 20), box(400, 300)), SIZE) == ("3", "2")


@pytest.mark.parametrize("scale", [0.25, 1.0, 6.0])
def test_the_size_of_the_image_does_not_matter(scale):
    tracker = Tracker()
    size = tuple(int(scale * side) for side in SIZE)
    ids = set()
    for step in range(12):
        at = tuple(scale * side for side in box(10 + 20 * step, 50))
        ids |= set(tracker.update(detections(at), size))
    assert ids == {"1"}


def test_an_empty_video_is_fine():
    tracker = Tracker()
    assert [tracker.update(detections(), SIZE) for _ in range(3)] == [()] * 3


def test_after_forgetting_every_object_is_new_and_no_id_is_used_again():
    tracker = Tracker()
    assert tracker.update(detections(box(100, 100), box(400, 300)), SIZE) == ("1", "2")
    tracker.forget()
    assert tracker.update(detections(box(100, 100)), SIZE) == ("3",)


def test_labels_are_tracked_apart_and_named_in_the_order_of_the_detections():
    tracker = Tracker()
    place, scores = np.array([box(100, 100), box(100, 102), box(400, 300)], np.float32), np.full(3, 0.5, np.float32)
    assert tracker.update(Detections(place, scores, ("cat", "dog", "cat")), SIZE) == ("1", "2", "3")
    assert tracker.update(Detections(place[:1], scores[:1], ("dog",)), SIZE) == ("2",)
    assert tracker.update(Detections(place[:2], scores[:2], ("dog", "cat")), SIZE) == ("2", "1")
    for _ in range(MAX_STALE_FRAMES + 3):
        assert tracker.update(Detections(place[:1], scores[:1], ("dog",)), SIZE) == ("2",)
    assert tracker.update(Detections(place[:1], scores[:1], ("cat",)), SIZE) == ("4",), "out of sight for too long"
