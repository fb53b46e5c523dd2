"""The `player` node: sends the images of a bag again at their recorded pace, with `/clock`.

On a ROS machine `ros2 bag play` does that, too. This one exists because a measurement must know when each frame was
due, and how far the player was behind: one that cannot keep the pace must not be mistaken for slow nodes. (Besides,
rosbag2 is not on PyPI.)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Protocol

from builtin_interfaces.msg import Time
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSHistoryPolicy, QoSProfile, QoSReliabilityPolicy
from rosgraph_msgs.msg import Clock

from objloc_ros.errors import ParameterError
from objloc_ros.nodes.image_source import sensor_data

CLOCK_HZ = 100.0

LEAD_S = 0.5
"""From the decision to play to the first frame."""

INTRODUCTION_S = 1.0
"""A subscriber that the publisher knows need not know the publisher yet; best-effort frames sent then would be lost."""


@dataclass(frozen=True)
class Schedule:
    """Where a bag's time meets ours.

    Args:
        start_ns: Time of the bag at the beginning, nanoseconds.
        origin_ns: Monotonic time of that moment, nanoseconds.
        rate: Seconds of the bag per second.

    Raises:
        ParameterError: The rate is out of range.
    """

    start_ns: int
    origin_ns: int
    rate: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.rate <= 1000:
            raise ParameterError(f"rate must lie in (0, 1000], got {self.rate}")

    def due_ns(self, recorded_ns: int) -> int:
        """When something recorded then is to happen, in monotonic time."""
        return self.origin_ns + round((recorded_ns - self.start_ns) / self.rate)

    def bag_ns(self, steady_ns: int) -> int:
        """The bag's time at a monotonic time; it stands still before the beginning."""
        return self.start_ns + round(max(steady_ns - self.origin_ns, 0) * self.rate)


class Recorded(Protocol):
    """A message as it lies in a bag."""

    @property
    def topic(self) -> str:
        """Full topic name."""

    @property
    def recorded_ns(self) -> int:
        """Time of recording, nanoseconds."""

    @property
    def data(self) -> bytes:
        """CDR."""


class Sent(NamedTuple):
    """A message that went out, and how long after it was due, nanoseconds."""

    topic: str
    behind_ns: int


class Player:
    """Publishes a bag's images, byte by byte as they were recorded, and the bag's time.

    Use it in a `with` block, inside which it has its own ROS context; signals stay with the caller. `/clock` goes out
    `clock_hz` times a second, by a thread of its own, and right before each frame, so that an age is not coarser than
    the pause between two ticks. Every deadline is computed from the beginning, so that nothing drifts.

    Args:
        topics: Message class of each topic, by its name in the bag.
        start_ns: The bag's time until `play` begins, nanoseconds.
        names: Other names to publish under, by the name in the bag.
        clock_hz: Ticks per second (of ours, whatever the rate).

    Raises:
        ParameterError: `clock_hz` is out of range.
    """

    def __init__(
        self,
        topics: Mapping[str, type],
        start_ns: int,
        *,
        names: Mapping[str, str] | None = None,
        clock_hz: float = CLOCK_HZ,
    ) -> None:
        if not 1 <= clock_hz <= 1000:
            raise ParameterError(f"clock_hz must lie in [1, 1000], got {clock_hz}")
        self._topics, self._names, self._period_s = dict(topics), dict(names or {}), 1 / clock_hz
        self._schedule = Schedule(start_ns, time.monotonic_ns() + 10**18)
        self._context = Context()
        self._telling, self._ended = threading.Lock(), threading.Event()
        self._ticking = threading.Thread(target=self._tick, name="clock", daemon=True)

    def __enter__(self) -> Player:
        self._context.init()
        self._node = Node("player", context=self._context)
        self._clock = self._node.create_publisher(Clock, "/clock", clock_qos())
        self._publishers = {
            topic: self._node.create_publisher(kind, self._names.get(topic, topic), sensor_data())
            for topic, kind in self._topics.items()
        }
        self._ticking.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._ticking.join()
        self._node.destroy_node()
        self._context.try_shutdown()

    def wait(self, subscribers: int) -> None:
        """Wait until every topic has so many subscribers, which then know this node."""
        while any(publisher.get_subscription_count() < subscribers for publisher in self._publishers.values()):
            time.sleep(0.05)
        time.sleep(INTRODUCTION_S)

    def play(self, messages: Iterable[Recorded], schedule: Schedule) -> Iterator[Sent]:
        """Send messages when they are due; those that are overdue go out at once.

        Args:
            messages: In the order of their recording; each topic is one of this player's.
            schedule: Begins with the first of them, or before.

        Yields:
            Each as soon as it is sent. What is not taken from this iterator is not played.
        """
        self._schedule = schedule
        for message in messages:
            due = schedule.due_ns(message.recorded_ns)
            time.sleep(max(due - time.monotonic_ns(), 0) / 1e9)
            now = self._tell_time()
            self._publishers[message.topic].publish(bytes(message.data))
            yield Sent(message.topic, now - due)

    def _tick(self) -> None:
        while not self._ended.wait(self._period_s):
            self._tell_time()

    def _tell_time(self) -> int:
        """Publish the bag's time now, which never goes back; returns the monotonic one."""
        with self._telling:
            now = time.monotonic_ns()
            seconds, nanoseconds = divmod(self._schedule.bag_ns(now), 1_000_000_000)
            self._clock.publish(Clock(clock=Time(sec=seconds, nanosec=nanoseconds)))
            return now


def clock_qos() -> QoSProfile:
    """What time sources ask for and rosbag2 offers: BEST_EFFORT VOLATILE KEEP_LAST 1."""
    return QoSProfile(
        history=QoSHistoryPolicy.KEEP_LAST,
        depth=1,
        reliability=QoSReliabilityPolicy.BEST_EFFORT,
        durability=QoSDurabilityPolicy.VOLATILE,
    )
