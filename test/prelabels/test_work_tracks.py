"""Numbers of objects over the frames of several cameras."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from video_making import ReadingPipeline, image

from objloc_ros.engine.box_tracker import BoxTracker
from objloc_ros.engine.config import PipelineConfig
from objloc_ros.engine.pipeline import Pipeline, build_pipeline
from objloc_ros.engine.temporal import Memory
from objloc_ros.prelabels.work import CameraTrackers

S = 1_000_000_000


def numbers(trackers: CameraTrackers, *frames: tuple[Any, ...]) -> list[list[int]]:
    """Answers to frames (camera, stamp in seconds or None, objects...)."""
    results = [
        trackers(image(*objects), camera, None if stamp is None else round(stamp * S))
        for camera, stamp, *objects in frames
    ]
    return [[int(name) for name in found.detections.ids or ()] for found in results]


@pytest.fixture
def trackers() -> CameraTrackers:
    return CameraTrackers(ReadingPipeline(), "found")  # type: ignore[arg-type]


def test_objects_keep_their_numbers(trackers: CameraTrackers) -> None:
    assert numbers(
        trackers,
        ("a", 0, (10, 10, 1)),
        ("a", 0.1, (12, 10, 1), (60, 60, 1)),
        ("a", 0.2, (14, 10, 1), (60, 58, 1)),
    ) == [[1], [1, 2], [1, 2]]


def test_cameras_have_numbers_of_their_own(trackers: CameraTrackers) -> None:
    assert numbers(
        trackers, ("a", 0, (10, 10, 1)), ("b", 0, (10, 10, 1)), ("a", 0.1, (10, 10, 1)), ("b", 0.1, (10, 10, 1))
    ) == [[1], [2], [1], [2]]


def test_objects_of_two_prompts_in_one_place_do_not_take_each_others_number(trackers: CameraTrackers) -> None:
    assert numbers(
        trackers,
        ("a", 0, (10, 10, 1), (12, 10, 2)),
        ("a", 0.1, (12, 10, 2)),
        ("a", 0.2, (11, 10, 2), (13, 10, 1)),
    ) == [[1, 2], [2], [2, 1]]


@pytest.mark.parametrize("jump", [5.2, -0.3])
def test_where_time_jumps_everything_is_new(trackers: CameraTrackers, jump: float) -> None:
    assert numbers(trackers, ("a", 100, (10, 10, 1)), ("a", 100.1, (10, 10, 1)), ("a", 100.1 + jump, (10, 10, 1))) == [
        [1],
        [1],
        [2],
    ]


def test_frames_without_time_follow_one_another(trackers: CameraTrackers) -> None:
    assert numbers(trackers, ("", None, (10, 10, 1)), ("", None, (10, 10, 1))) == [[1], [1]]


def test_discovery_remembers_as_the_node_does() -> None:
    """The same answers as with one memory and one tracker over all frames, as nodes/discovery.py has them."""
    pipeline: Pipeline = build_pipeline(PipelineConfig(methods=("maskcut",), device="cpu"))
    rng = np.random.default_rng(0)
    still = rng.integers(0, 80, (96, 128, 3)).astype(np.uint8)
    film = []
    for t in range(4):
        frame = still.copy()
        frame[30:70, 20 + 6 * t : 60 + 6 * t] = (220, 60, 40)
        film.append(frame)
    memory, tracker, expected = {"maskcut": Memory()}, BoxTracker(), []
    for frame in film:
        found = pipeline.run(frame, memories=memory)["maskcut"]
        expected.append((found.detections.boxes.tolist(), tracker.update(found.detections, (96, 128))))
    trackers = CameraTrackers(pipeline, "maskcut")
    results = [trackers(frame, "front", t * S // 10) for t, frame in enumerate(film)]
    assert [found.detections.boxes.tolist() for found in results] == [boxes for boxes, _ in expected]
    names: dict[str, int] = {}
    for found, (_, named) in zip(results, expected, strict=True):
        for number, name in zip(found.detections.ids or (), named, strict=True):
            assert names.setdefault(name, int(number)) == int(number)
    assert names
    assert len(set(names.values())) == len(names)
