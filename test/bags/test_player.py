"""A bag's pace: where its time meets ours, frames when they are due, a clock that never goes back.

The player's time is the test's: its sleep lets that pass at once, so that nothing here waits for a moment to come.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from waiting import wait_for

pytest.importorskip("rclpy")
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.serialization import serialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image

from objloc_ros.bags import player as module
from objloc_ros.bags.player import PlaybackClock, Player, make_clock_qos
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


class Time:
    """A clock of nanoseconds that only `sleep` moves; before it does, it waits until `heard` says so."""

    def __init__(self, now_ns: int) -> None:
        self.now_ns, self.heard = now_ns, lambda: True

    def monotonic_ns(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        wait_for(self.heard, "the arrival of the frames before")
        self.now_ns += round(seconds * 1e9)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    """The player's time."""
    clock = Time(now_ns=5_000_000_000)
    monkeypatch.setattr(module, "time", clock)
    return clock


class Ear:
    """Hears frames and the clock."""

    def __init__(self, topics: tuple[str, ...]) -> None:
        self.topics, self.context = topics, rclpy.Context()
        self.context.init()
        self.node = rclpy.create_node("ear", context=self.context)
        self.clock: list[int] = []
        self.frames: list[tuple[str, int]] = []
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
        self.frames.append((topic, message.width))

    def publishers(self) -> set[str]:
        """Topics of its own that somebody publishes."""
        return {topic for topic in self.topics if self.node.count_publishers(topic)}

    def close(self) -> None:
        self.executor.shutdown()
        self.thread.join()
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


def introduce(player: Player, heard: Ear, topics: int) -> None:
    """Wait until the two know each other, so that nothing is lost."""
    player.wait(1)
    wait_for(lambda: len(heard.publishers()) == topics and heard.clock)


@pytest.mark.parametrize("rate", [1.0, 4.0])
def test_frames_come_when_they_are_due_and_the_clock_runs_at_the_rate(ear: Any, clock: Time, rate: float) -> None:
    heard = ear("/image")
    times_ms = [0, 100, 130, 400]
    with Player({"/image": Image}, START) as player:
        introduce(player, heard, topics=1)
        assert set(heard.clock) == {START}
        schedule = PlaybackClock(START, clock.now_ns + 50 * MS, rate)
        sent = []
        clock.heard = lambda: len(heard.frames) == len(sent)
        for one in player.play((frame(i, ms) for i, ms in enumerate(times_ms)), schedule):
            sent.append((*one, clock.now_ns))
        end_ns = START + 400 * MS
        wait_for(lambda: heard.clock[-1] == end_ns, "the time of the last frame")
        clock.now_ns += 300 * MS
        wait_for(lambda: heard.clock[-1] == end_ns + 300 * MS * rate, "the time after the last frame")
    assert heard.frames == [("/image", number) for number in range(4)]
    assert sent == [("/image", 0, schedule.origin_ns + ms * MS / rate) for ms in times_ms]
    assert heard.clock == sorted(heard.clock)


def test_overdue_frames_go_out_at_once_in_their_order_under_other_names(ear: Any, clock: Time) -> None:
    heard = ear("/image", "/other")
    frames = [frame(0, 0), frame(1, 50, "/left"), frame(2, 20), frame(3, 90, "/left")]
    with Player({"/image": Image, "/left": Image}, START, names={"/left": "/other"}) as player:
        introduce(player, heard, topics=2)
        before_ns = clock.now_ns
        sent = list(player.play(frames, PlaybackClock(START, before_ns - 5000 * MS)))
        assert clock.now_ns == before_ns
        wait_for(lambda: len(heard.frames) == 4)
    assert {topic: [number for name, number in heard.frames if name == topic] for topic in ("/image", "/other")} == {
        "/image": [0, 2],
        "/other": [1, 3],
    }
    assert [one.behind_ns / MS for one in sent] == [5000, 4950, 4980, 4910]


def test_without_a_schedule_time_stands_still_and_does_not_wait_for_ever(ear: Any, clock: Time) -> None:
    heard = ear()
    with Player({}, START, clock_hz=50) as player:
        player.wait(3)  # no topic, nobody to wait for
        clock.now_ns += 10**9
        wait_for(lambda: len(heard.clock) >= 20)
    assert set(heard.clock) == {START}
