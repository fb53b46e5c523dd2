"""Answers to a camera's frames one after the other: memory, ids, and the limits of the node."""

from __future__ import annotations

import pytest

pytest.importorskip("rclpy")
import bag_making as making

from objloc_ros.bags.predictions import Follower, FollowOptions
from objloc_ros.engine.pipeline import load_pipeline
from objloc_ros.scenes.video import drive_video


def test_memory_and_ids_end_where_time_jumps() -> None:
    pipeline = load_pipeline(("lost",), device="cpu")
    image, _ = next(drive_video(size=making.SIZE, frames=1))
    follower = Follower(("lost",), FollowOptions())
    ids = []
    for stamp in (0, 10, 10 + 6_000_000_000, 20 + 6_000_000_000, 5):
        jumped = follower.notice(stamp)
        ids.append((jumped, follower.named(follower.run(pipeline, image, ("lost",)), "lost").ids))
    assert ids == [(False, ("1",)), (False, ("1",)), (True, ("2",)), (False, ("2",)), (True, ("3",))]


def test_limits_of_the_node_hold() -> None:
    pipeline = load_pipeline(("maskcut",), device="cpu")
    image, _ = next(drive_video(size=making.SIZE, frames=1))
    counts = []
    for options in (FollowOptions(), FollowOptions(max_objects=1), FollowOptions(min_score=1.0)):
        follower = Follower(("maskcut",), options)
        counts.append(len(follower.named(follower.run(pipeline, image, ("maskcut",)), "maskcut").found.detections))
    assert counts[0] > 1
    assert counts[1:] == [1, 0]
