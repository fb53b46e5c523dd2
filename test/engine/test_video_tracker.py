"""What lasts from frame to frame, for whom, and where it ends."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from video_making import ReadingPipeline, image

import objloc_ros
from objloc_ros.engine.video_tracker import VideoOptions, VideoTracker
from objloc_ros.errors import ParameterError
from objloc_ros.scenes.video import drive_video

S = 1_000_000_000
A, B = (10, 10, 1), (60, 60, 1)


def track(*arguments: Any, **more: Any) -> tuple[VideoTracker, ReadingPipeline]:
    pipeline = ReadingPipeline()
    return VideoTracker(pipeline, *arguments, **more), pipeline  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("stamps", "jumps"),
    [
        ((0, 0.1, 0.2), (False, False, False)),
        ((100, 100.1, 100.1, 106), (False, False, False, True)),
        ((100, 99.9, 90), (False, False, True)),
        ((100, 106, 112, 112.1), (False, True, True, False)),
        ((-5,), (False,)),
    ],
)
def test_everything_ends_where_time_jumps(stamps: tuple[float, ...], jumps: tuple[bool, ...]) -> None:
    tracker, pipeline = track(("lost",))
    before, number = None, 1
    for stamp, jumped in zip(stamps, jumps, strict=True):
        number += jumped
        assert tracker(image(A), round(stamp * S))["lost"].detections.ids == (str(number),)
        assert (pipeline.memories["lost"] is before) is (before is not None and not jumped)
        before = pipeline.memories["lost"]


def test_frames_without_time_follow_one_another() -> None:
    tracker, _ = track(("lost",))
    frames = (None, 5 * S, None, 6 * S, None)
    assert [tracker(image(A), stamp)["lost"].detections.ids for stamp in frames] == [("1",)] * 5


def test_a_reset_begins_another_video() -> None:
    tracker, pipeline = track(("lost",))
    assert tracker(image(A, B), 0)["lost"].detections.ids == ("1", "2")
    before = pipeline.memories["lost"]
    tracker.reset()
    assert tracker(image(B), 1)["lost"].detections.ids == ("3",)
    assert pipeline.memories["lost"] is not before


def test_every_method_has_ids_of_its_own_and_discovery_a_memory() -> None:
    tracker, pipeline = track()
    result = tracker(image(A, B), 0)
    assert [result[method].detections.ids for method in ("found", "lost")] == [("1", "2"), ("1", "2")]
    assert list(pipeline.memories) == ["lost"]


def test_only_tracked_methods_have_ids() -> None:
    tracker, pipeline = track(tracked=("lost",))
    result = tracker(image(A), 0)
    assert (result["found"].detections.ids, result["lost"].detections.ids) == (None, ("1",))
    assert tracker(image(), 1)["lost"].detections.ids == ()
    nobody, pipeline = track(tracked=())
    assert nobody(image(A), 0)["lost"].detections.ids is None
    assert list(pipeline.memories) == ["lost"], "a memory needs no ids"


def test_ids_may_come_and_go_and_are_never_given_again() -> None:
    tracker, _ = track(("found",), tracked=())
    ids = []
    for i, tracked in enumerate([(), ("found",), ("found",), (), ("found",)]):
        tracker.tracked = tracked
        ids.append(tracker(image(A), i)["found"].detections.ids)
    assert ids == [None, ("1",), ("1",), None, ("2",)]


def test_objects_of_two_labels_in_one_place_do_not_take_each_others_id() -> None:
    tracker, _ = track(("found",))
    frames = [((10, 10, 1), (12, 10, 2)), ((12, 10, 2),), ((11, 10, 2), (13, 10, 1))]
    ids = [tracker(image(*objects), i)["found"].detections.ids for i, objects in enumerate(frames)]
    assert ids == [("1", "2"), ("2",), ("2", "1")]


def test_limits_are_discoverys_alone() -> None:
    tracker, _ = track(options=VideoOptions(max_objects=1))
    result = tracker(image(A, B), 0)
    assert (len(result["found"].detections), len(result["lost"].detections)) == (2, 1)
    assert result["lost"].detections.boxes.tolist() == [[10, 10, 30, 30]]
    tracker.options = VideoOptions(min_score=0.6)
    assert tracker(image(A, B), 1)["lost"].detections.ids == ("1",)
    tracker.options = VideoOptions()
    assert tracker(image(A, B), 2)["lost"].detections.ids == ("1", "2")


def test_without_the_temporal_mode_only_ids_last() -> None:
    tracker, pipeline = track(("lost",))
    tracker(image(A), 0)
    before = pipeline.memories["lost"]
    tracker.options = VideoOptions(temporal=False)
    assert tracker(image(A), 1)["lost"].detections.ids == ("1",)
    assert pipeline.memories == {}
    tracker.options = VideoOptions()
    assert tracker(image(A), 2)["lost"].detections.ids == ("1",)
    assert pipeline.memories["lost"] is not before, "it has missed a frame"


def test_a_method_in_the_place_of_another_goes_on_with_its_ids_and_without_its_memory() -> None:
    tracker, pipeline = track(("lost",))
    assert tracker(image(B), 0)["lost"].detections.ids == ("1",)
    before = pipeline.memories["lost"]
    for method in ("tokencut", "lost"):
        tracker.use((method,))
        assert tracker(image(A, B), 1)[method].detections.ids == ("2", "1")
        assert list(pipeline.memories) == [method]
        assert pipeline.memories[method] is not before


def test_a_method_that_comes_back_does_not_give_ids_again() -> None:
    tracker, _ = track(("found", "lost"))
    tracker(image(A), 0)
    tracker.use(("found",))
    assert list(tracker(image(A), 1).heads) == ["found"]
    tracker.use(("found", "lost"))
    result = tracker(image(A), 2)
    assert (result["found"].detections.ids, result["lost"].detections.ids) == (("1",), ("2",))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_objects": 0}, r"max_objects must lie in \[1, 20\], got 0"),
        ({"max_objects": 21}, r"max_objects must lie in \[1, 20\], got 21"),
        ({"min_score": -0.1}, r"min_score must lie in \[0, 1\], got -0.1"),
    ],
)
def test_options_out_of_range_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        VideoOptions(**values)


def test_a_loaded_pipeline_tracks_a_video() -> None:
    """As in the README: a square that moves keeps its id, in the methods' own answers to each frame."""
    pipeline = objloc_ros.load_pipeline(("found", "maskcut"), device="cpu")
    tracker = objloc_ros.VideoTracker(pipeline)
    rng = np.random.default_rng(0)
    still = rng.integers(0, 80, (96, 128, 3)).astype(np.uint8)
    ids, boxes = set(), []
    for t in range(4):
        frame = still.copy()
        frame[30:70, 20 + 6 * t : 60 + 6 * t] = (220, 60, 40)
        result = tracker(frame, t * S // 30)
        assert np.array_equal(result["found"].mask, pipeline.run(frame)["found"].mask)
        ids.add((result["found"].detections.ids or ("",))[0])
        boxes.append(result["maskcut"].detections.boxes[0].tolist())
        assert len(result["maskcut"].detections.ids or ()) == len(result["maskcut"].detections)
    assert ids == {"1"}
    assert boxes[0] != boxes[-1]


def test_limits_hold_for_what_is_found() -> None:
    pipeline = objloc_ros.load_pipeline(("maskcut",), device="cpu")
    frame, _ = next(drive_video(size=(240, 320), frames=1))
    limits = (VideoOptions(), VideoOptions(max_objects=1), VideoOptions(min_score=1.0))
    found = [VideoTracker(pipeline, options=options)(frame)["maskcut"] for options in limits]
    assert len(found[0].detections) > 1
    assert [len(result.detections) for result in found[1:]] == [1, 0]
    assert [int(result.instances_u16().max()) for result in found] == [len(result.detections) for result in found]
