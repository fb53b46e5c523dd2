"""A bag's pace: where its time meets ours, frames when they are due, a clock that never goes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

pytest.importorskip("rclpy")
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.serialization import serialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image

from objloc_ros.bags.player import LEAD_S, PlaybackClock, Player, make_clock_qos
from objloc_ros.errors import ParameterError
from objloc_ros.nodes.image_source import make_sensor_profile

START = 1_000_000_000_000
MS = 1_000_000


class Frame(NamedTuple):
    topic: str
    recorded_ns: int
    data: bytes


def frame(number: int, recorded_ms: float, topic: str = "/image") -> Frame:
    image = Image(width=number, height=1)
    image.header.stamp.sec = 77
    return Frame(topic, START + round(recorded_ms * MS), serialize_message(image))


@pytest.mark.parametrize(
    ("rate", "recorded_ms", "due_ms"), [(1.0, 0, 50), (1.0, 100, 150), (2.0, 100, 100), (0.5, 100, 250)]
)
def test_due_times(rate: float, recorded_ms: int, due_ms: int) -> None:
    playback = PlaybackClock(START, 50 * MS, rate)
    assert playback.due_ns(START + recorded_ms * MS) == due_ms * MS
    assert playback.bag_ns(due_ms * MS) == START + recorded_ms * MS
    assert playback.bag_ns(7) == START  # before the beginning the bag's time stands still


@pytest.mark.parametrize("rate", [0.0, -1.0, 1001.0, float("nan")])
def test_rates_out_of_range(rate: float) -> None:
    with pytest.raises(ParameterError, match=r"rate must lie in \(0, 1000\], got"):
        PlaybackClock(0, 0, rate)


@pytest.mark.parametrize("clock_hz", [0.0, 2000.0])
def test_clocks_out_of_range(clock_hz: float) -> None:
    with pytest.raises(ParameterError, match="clock_hz must lie in"):
        Player({}, START, clock_hz=clock_hz)


class Ear:
    """Hears frames and the clock."""

    def __init__(self, topics: tuple[str, ...]) -> None:
        self.context = rclpy.Context()
        self.context.init()
        self.node = rclpy.create_node("ear", context=self.context)
        self.clock: list[int] = []
        self.frames: list[tuple[str, int, float]] = []
        self.node.create_subscription(Clock, "/clock", self._tick, make_clock_qos())
        for topic in topics:
            self.node.create_subscription(
                Image, topic, lambda m, topic=topic: self._hear(topic, m), make_sensor_profile()
            )
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.thread = threading.Thread(target=self.executor.spin, daemon=True)
        self.thread.start()

    def _tick(self, message: Clock) -> None:
        self.clock.append(message.clock.sec * 10**9 + message.clock.nanosec)

    def _hear(self, topic: str, message: Image) -> None:
        self.frames.append((topic, message.width, time.monotonic()))

    def close(self) -> None:
        self.executor.shutdown()
        self.thread.join(5)
        self.node.destroy_node()
        self.context.try_shutdown()


@pytest.fixture
def ear(domain: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    opened: list[Ear] = []

    def _open(*topics: str) -> Ear:
        opened.append(Ear(topics))
        return opened[-1]

    yield _open
    for one in opened:
        one.close()


@pytest.mark.parametrize("rate", [1.0, 4.0])
def test_frames_come_when_they_are_due_and_the_clock_runs_at_the_rate(ear: Any, rate: float) -> None:
    heard = ear("/image")
    times_ms = [0, 100, 130, 400]
    with Player({"/image": Image}, START) as player:
        player.wait(1)
        assert set(heard.clock) == {START}
        began = time.monotonic()
        playback = PlaybackClock(START, time.monotonic_ns() + round(LEAD_S * 1e9), rate)
        sent = list(player.play((frame(i, ms) for i, ms in enumerate(times_ms)), playback))
        time.sleep(0.3)
    assert [number for _, number, _ in heard.frames] == [0, 1, 2, 3]
    for (_, _, came), ms in zip(heard.frames, times_ms, strict=True):
        assert came - began - LEAD_S == pytest.approx(ms / 1000 / rate, abs=0.08)
    assert [one.topic for one in sent] == ["/image"] * 4
    assert all(one.behind_ns >= 0 for one in sent)
    assert heard.clock == sorted(heard.clock)
    assert heard.clock[-1] - START == pytest.approx((0.4 / rate + 0.3) * rate * 1e9, rel=0.3)


def test_overdue_frames_go_out_at_once_in_their_order_under_other_names(ear: Any) -> None:
    heard = ear("/image", "/other")
    frames = [frame(0, 0), frame(1, 50, "/left"), frame(2, 20), frame(3, 90, "/left")]
    with Player({"/image": Image, "/left": Image}, START, names={"/left": "/other"}) as player:
        player.wait(1)
        sent = list(player.play(frames, PlaybackClock(START, time.monotonic_ns() - 5 * 10**9)))
        time.sleep(0.3)
    assert {one[:2] for one in heard.frames} == {("/image", 0), ("/other", 1), ("/image", 2), ("/other", 3)}
    assert all(4.5e9 < one.behind_ns < 6e9 for one in sent)


def test_without_a_schedule_time_stands_still_and_does_not_wait_for_ever(ear: Any) -> None:
    heard = ear()
    with Player({}, START, clock_hz=50) as player:
        player.wait(3)  # no topic, nobody to wait for
        time.sleep(0.2)
    assert set(heard.clock) == {START}
    assert 20 <= len(heard.clock) <= 80
