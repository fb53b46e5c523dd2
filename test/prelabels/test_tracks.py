"""Numbers of objects over the frames of several cameras."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from objloc_ros.engine.config import Model
from objloc_ros.engine.pipeline import Pipeline
from objloc_ros.engine.results import HeadResult, Result
from objloc_ros.engine.temporal import Memory, Tracker
from objloc_ros.ops.geometry import Geometry
from objloc_ros.prelabels.work import Follower
from objloc_ros.types import Detections, Image, size_of

S = 1_000_000_000


class Reads:
    """A pipeline whose answer is written in the image: pixels (y, x) with red n > 0 are boxes of the n-th label."""

    labels = ("dog", "cat")

    def follow(self, image: Image, memories: Mapping[str, Memory], methods: Sequence[str]) -> Result:
        assert memories == {}, "only discovery methods remember"
        y, x = image[..., 0].nonzero()
        boxes = np.stack([x, y, x + 20, y + 20], axis=1).astype(np.float32)
        names = tuple(self.labels[image[j, i, 0] - 1] for j, i in zip(y, x, strict=True))
        detections = Detections(boxes, np.full(len(y), 0.5, np.float32), names)
        size = size_of(image)
        found = HeadResult(detections, Geometry(size, size, size, 1), np.zeros(size, bool))
        return Result(size, {methods[0]: found})


def image(*objects: tuple[int, int, int]) -> Image:
    """Objects (x, y, label)."""
    rgb = np.zeros((100, 100, 3), np.uint8)
    for x, y, label in objects:
        rgb[y, x, 0] = label
    return rgb


def numbers(follower: Follower, *frames: tuple[Any, ...]) -> list[list[int]]:
    """Answers to frames (camera, stamp in seconds or None, objects...)."""
    return [
        follower.answer(image(*objects), camera, None if stamp is None else round(stamp * S))[1]
        for camera, stamp, *objects in frames
    ]


@pytest.fixture
def follower() -> Follower:
    return Follower(Reads(), "found")  # type: ignore[arg-type]


def test_objects_keep_their_numbers(follower: Follower) -> None:
    assert numbers(
        follower,
        ("a", 0, (10, 10, 1)),
        ("a", 0.1, (12, 10, 1), (60, 60, 1)),
        ("a", 0.2, (14, 10, 1), (60, 58, 1)),
    ) == [[1], [1, 2], [1, 2]]


def test_cameras_have_numbers_of_their_own(follower: Follower) -> None:
    assert numbers(
        follower, ("a", 0, (10, 10, 1)), ("b", 0, (10, 10, 1)), ("a", 0.1, (10, 10, 1)), ("b", 0.1, (10, 10, 1))
    ) == [[1], [2], [1], [2]]


def test_objects_of_two_prompts_in_one_place_do_not_take_each_others_number(follower: Follower) -> None:
    assert numbers(
        follower,
        ("a", 0, (10, 10, 1), (12, 10, 2)),
        ("a", 0.1, (12, 10, 2)),
        ("a", 0.2, (11, 10, 2), (13, 10, 1)),
    ) == [[1, 2], [2], [2, 1]]


@pytest.mark.parametrize("jump", [5.2, -0.3])
def test_where_time_jumps_everything_is_new(follower: Follower, jump: float) -> None:
    assert numbers(follower, ("a", 100, (10, 10, 1)), ("a", 100.1, (10, 10, 1)), ("a", 100.1 + jump, (10, 10, 1))) == [
        [1],
        [1],
        [2],
    ]


def test_frames_without_time_follow_one_another(follower: Follower) -> None:
    assert numbers(follower, ("", None, (10, 10, 1)), ("", None, (10, 10, 1))) == [[1], [1]]


def test_discovery_remembers_as_the_node_does() -> None:
    """The same answers as with one memory and one tracker over all frames, as nodes/discovery.py has them."""
    pipeline: Pipeline = Model(methods=("maskcut",), device="cpu").load()
    rng = np.random.default_rng(0)
    still = rng.integers(0, 80, (96, 128, 3)).astype(np.uint8)
    film = []
    for t in range(4):
        frame = still.copy()
        frame[30:70, 20 + 6 * t : 60 + 6 * t] = (220, 60, 40)
        film.append(frame)
    memory, tracker, expected = {"maskcut": Memory()}, Tracker(), []
    for frame in film:
        found = pipeline.follow(frame, memory)["maskcut"]
        expected.append((found.detections.boxes.tolist(), tracker.update(found.detections, (96, 128))))
    follower = Follower(pipeline, "maskcut")
    answers = [follower.answer(frame, "front", t * S // 10) for t, frame in enumerate(film)]
    assert [found.detections.boxes.tolist() for found, _ in answers] == [boxes for boxes, _ in expected]
    names: dict[str, int] = {}
    for (_, numbered), (_, named) in zip(answers, expected, strict=True):
        for number, name in zip(numbered, named, strict=True):
            assert names.setdefault(name, number) == number
    assert names
    assert len(set(names.values())) == len(names)
