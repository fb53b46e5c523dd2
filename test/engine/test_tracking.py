"""Track ids: stable over motion, gaps and order, never given to another object."""

import numpy as np
import pytest

from objloc_ros.engine.box_tracker import MAX_MISSED_FRAMES, BoxTracker, correct, predict, start_tracks
from objloc_ros.types import Detections

SIZE = (480, 640)


def detections(*boxes):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    return Detections.class_free(boxes, np.full(len(boxes), 0.5, np.float32))


def box(x, y, side=60):
    return (x, y, x + side, y + side)


def test_ids_follow_the_boxes_and_not_their_order():
    tracker = BoxTracker()
    for step in range(20):
        a, b = box(10 + 8 * step, 50), box(500 - 8 * step, 300)
        order = (a, b) if step % 3 else (b, a)
        ids = tracker.update(detections(*order), SIZE)
        assert dict(zip(order, ids, strict=True)) == {a: "2", b: "1"}  # named in the order of the first frame


@pytest.mark.parametrize(("gap", "kept"), [(1, True), (3, True), (MAX_MISSED_FRAMES + 3, False)])
def test_a_track_outlives_a_gap_but_not_for_ever(gap, kept):
    tracker = BoxTracker()
    for _ in range(6):
        assert tracker.update(detections(box(100, 100)), SIZE) == ("1",)
    for _ in range(gap):
        assert tracker.update(detections(), SIZE) == ()
    assert tracker.update(detections(box(100, 100)), SIZE) == ("1" if kept else "2",)


def test_a_new_object_gets_a_new_id():
    tracker = BoxTracker()
    tracker.update(detections(box(100, 100)), SIZE)
    assert tracker.update(detections(box(100, 100), box(400, 300)), SIZE) == ("1", "2")
    assert tracker.update(detections(box(400, 300)), SIZE) == ("2",)
    assert tracker.update(detections(box(400, 20), box(400, 300)), SIZE) == ("3", "2")


@pytest.mark.parametrize("scale", [0.25, 1.0, 6.0])
def test_the_size_of_the_image_does_not_matter(scale):
    tracker = BoxTracker()
    size = tuple(int(scale * side) for side in SIZE)
    ids = set()
    for step in range(12):
        at = tuple(scale * side for side in box(10 + 20 * step, 50))
        ids |= set(tracker.update(detections(at), size))
    assert ids == {"1"}


def test_an_empty_video_is_fine():
    tracker = BoxTracker()
    assert [tracker.update(detections(), SIZE) for _ in range(3)] == [()] * 3


def test_after_forgetting_every_object_is_new_and_no_id_is_used_again():
    tracker = BoxTracker()
    assert tracker.update(detections(box(100, 100), box(400, 300)), SIZE) == ("1", "2")
    tracker.forget()
    assert tracker.update(detections(box(100, 100)), SIZE) == ("3",)


def test_labels_are_tracked_apart_and_named_in_the_order_of_the_detections():
    tracker = BoxTracker()
    place, scores = np.array([box(100, 100), box(100, 102), box(400, 300)], np.float32), np.full(3, 0.5, np.float32)
    assert tracker.update(Detections(place, scores, ("cat", "dog", "cat")), SIZE) == ("1", "2", "3")
    assert tracker.update(Detections(place[:1], scores[:1], ("dog",)), SIZE) == ("2",)
    assert tracker.update(Detections(place[:2], scores[:2], ("dog", "cat")), SIZE) == ("2", "1")
    for _ in range(MAX_MISSED_FRAMES + 3):
        assert tracker.update(Detections(place[:1], scores[:1], ("dog",)), SIZE) == ("2",)
    assert tracker.update(Detections(place[:1], scores[:1], ("cat",)), SIZE) == ("4",), "out of sight for too long"


def test_two_objects_that_pass_each_other_keep_their_ids():
    tracker = BoxTracker()
    for step in range(30):
        a, b = box(100 + 10 * step, 100), box(400 - 10 * step, 110)
        hidden = abs(step - 15) < 3  # the one behind is out of sight
        ids = tracker.update(detections(*((a,) if hidden else (a, b))), SIZE)
        assert ids == (("1",) if hidden else ("1", "2")), step


def test_a_track_goes_on_at_its_pace_while_nothing_is_found():
    """After six frames without a box the object is two of its widths further on."""
    tracker = BoxTracker()
    places = [20 + 20 * step for step in range(20)]
    for step, x in enumerate(places):
        found = (box(x, 100),) if step < 8 or step > 13 else ()
        assert tracker.update(detections(*found), SIZE) == ("1",) * len(found), step


def test_tracks_end_one_by_one():
    tracker = BoxTracker()
    a, b = box(100, 100), box(400, 300)
    tracker.update(detections(a, b), SIZE)
    for _ in range(MAX_MISSED_FRAMES - 1):
        assert tracker.update(detections(b), SIZE) == ("2",)
    assert tracker.update(detections(a, b), SIZE) == ("1", "2"), "the last frame in which it may come back"
    for _ in range(MAX_MISSED_FRAMES):
        tracker.update(detections(b), SIZE)
    assert tracker.update(detections(a, b), SIZE) == ("3", "2")


def test_all_tracks_at_once_are_the_kalman_filter_of_the_textbook():
    """Kalman, 1960, in matrices, one track and one axis after the other."""
    rng = np.random.default_rng(0)
    boxes = rng.uniform(100, 900, (12, 3, 4))  # frames, tracks, (x, y, width, height)
    tracks = start_tracks(np.arange(3) + 1, np.array(["object"] * 3, dtype=object), boxes[0])
    motion, seen = np.array([[1, 1], [0, 1]]), np.array([[1, 0]])
    jolt = np.array([[0.5], [1]])  # what an acceleration of one does to (centre, velocity)
    state, spread = np.zeros((3, 2, 2)), np.tile(1000 * np.eye(2), (3, 2, 1, 1))  # tracks, axes, ...
    state[:, :, 0] = boxes[0, :, :2]
    sides, side_spread = boxes[0, :, 2:], np.full((3, 2), 1000.0)
    for frame, measured in enumerate(boxes[1:]):
        found = [track for track in range(3) if frame % (track + 2)]  # each is missed at times of its own
        predict(tracks)
        tracks[found] = correct(tracks[found], measured[found])
        side_spread = side_spread + 100
        for track, axis in np.ndindex(3, 2):
            state[track, axis] = motion @ state[track, axis]
            spread[track, axis] = motion @ spread[track, axis] @ motion.T + 300 * jolt @ jolt.T
            if track not in found:
                continue
            gain = spread[track, axis] @ seen.T / (seen @ spread[track, axis] @ seen.T + 30)
            state[track, axis] += gain[:, 0] * (measured[track, axis] - state[track, axis, 0])
            spread[track, axis] = (np.eye(2) - gain @ seen) @ spread[track, axis]
            side_gain = side_spread[track, axis] / (side_spread[track, axis] + 30)
            sides[track, axis] += side_gain * (measured[track, 2 + axis] - sides[track, axis])
            side_spread[track, axis] *= 1 - side_gain
    np.testing.assert_allclose(tracks["box"], np.concatenate([state[:, :, 0], sides], axis=1))
    np.testing.assert_allclose(tracks["velocity"], state[:, :, 1])
    np.testing.assert_allclose(tracks["centre_var"], spread[:, 0, 0, 0])
    np.testing.assert_allclose(tracks["covariance"], spread[:, 1, 0, 1])
    np.testing.assert_allclose(tracks["velocity_var"], spread[:, 0, 1, 1])
