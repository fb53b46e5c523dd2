"""The `player` node: sends the images of a bag again at their recorded pace, with `/clock`.

On a ROS machine `ros2 bag play` does that, too. This one exists because a measurement needs an account that is exact to
the frame, which rosbag2 does not give: which stamps were sent, when each was due and when it really went out. Whether a
frame was lost, dropped or answered late can be told only against that, and a player that cannot keep the pace must not
be mistaken for slow nodes. (Besides, rosbag2 is not on PyPI.)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple

from builtin_interfaces.msg import Time
from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSHistoryPolicy, QoSProfile, QoSReliabilityPolicy
from rosgraph_msgs.msg import Clock

from objloc_ros.errors import ParameterError
from objloc_ros.nodes.image_source import sensor_data
from objloc_ros.nodes.read_ahead import ReadAhead, Recorded
from objloc_ros.nodes.wire import stamp_ns

CLOCK_HZ = 100.0

LEAD_S = 0.1
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
        ParameterError: The rate is not positive.
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


class Sent(NamedTuple):
    """One frame that went out.

    Args:
        topic: As in the bag.
        stamp_ns: Its header's stamp, nanoseconds.
        recorded_ns: When it was recorded, nanoseconds of the bag's time.
        due_ns: When it was to go out, nanoseconds of monotonic time.
        sent_ns: When it did.
    """

    topic: str
    stamp_ns: int
    recorded_ns: int
    due_ns: int
    sent_ns: int


class Player:
    """Publishes a bag's images, byte by byte as they were recorded, and the bag's time.

    Use it in a `with` block, inside which it has its own ROS context; signals stay with the caller. `/clock` goes out
    `clock_hz` times a second and right before each frame, so that an age is not coarser than the pause between two
    ticks. Every deadline is computed from the beginning, so that nothing drifts.

    Args:
        topics: Message class of each topic, by its name in the bag.
        names: Other names to publish under, by the name in the bag.
        clock_hz: Ticks per second (of ours, whatever the rate).

    Raises:
        ParameterError: `clock_hz` is out of range.
    """

    def __init__(
        self, topics: Mapping[str, type], *, names: Mapping[str, str] | None = None, clock_hz: float = CLOCK_HZ
    ) -> None:
        if not 1 <= clock_hz <= 1000:
            raise ParameterError(f"clock_hz must lie in [1, 1000], got {clock_hz}")
        self._topics, self._names = dict(topics), dict(names or {})
        self._period_ns = round(1e9 / clock_hz)
        self._tick_ns = 0
        self._context = Context()

    def __enter__(self) -> Player:
        self._context.init()
        self._node = Node("player", context=self._context)
        self._clock = self._node.create_publisher(Clock, "/clock", clock_qos())
        self._publishers = {
            topic: self._node.create_publisher(kind, self._names.get(topic, topic), sensor_data())
            for topic, kind in self._topics.items()
        }
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._node.destroy_node()
        self._context.try_shutdown()

    def subscribers(self) -> dict[str, int]:
        """How many there are of each topic at present."""
        return {topic: int(publisher.get_subscription_count()) for topic, publisher in self._publishers.items()}

    def wait(self, wanted: int, start_ns: int) -> None:
        """Let the clock stand at `start_ns` until every topic has so many subscribers, which then know this node."""
        still = Schedule(start_ns, time.monotonic_ns() + 10**18)
        while min(self.subscribers().values(), default=wanted) < wanted:
            self._run(still, time.monotonic_ns() + self._period_ns)
        self._run(still, time.monotonic_ns() + round(INTRODUCTION_S * 1e9))

    def play(self, messages: Iterable[Recorded], schedule: Schedule) -> Iterator[Sent]:
        """Send messages when they are due; those that are overdue go out at once.

        Args:
            messages: In the order of their recording; each topic is one of this player's.
            schedule: Begins with the first of them, or before.

        Yields:
            Each as soon as it is sent. What is not taken from this iterator is not played.

        Raises:
            InputError: A message without a readable header; those before it have been sent.
        """
        with ReadAhead(messages) as ahead:
            while (message := self._next(ahead, schedule)) is not None:
                stamp, due = stamp_ns(message.data), schedule.due_ns(message.stamp_ns)
                self._run(schedule, due)
                now = time.monotonic_ns()
                self._tell_time(schedule, now)
                self._publishers[message.topic].publish(bytes(message.data))
                yield Sent(message.topic, stamp, message.stamp_ns, due, now)

    def linger(self, schedule: Schedule, seconds: float, *, until: Callable[[], bool] = lambda: False) -> None:
        """Let the clock run on after the last frame: nodes that are still at work tell ages by it."""
        end = time.monotonic_ns() + round(seconds * 1e9)
        while time.monotonic_ns() < end and not until():
            self._run(schedule, time.monotonic_ns() + self._period_ns)

    def _next(self, ahead: ReadAhead, schedule: Schedule) -> Recorded | None:
        """Take the next message; a disk that keeps it waiting does not stop the clock."""
        while True:
            try:
                return ahead.take((self._tick_ns - time.monotonic_ns()) / 1e9)
            except TimeoutError:
                self._tell_time(schedule, time.monotonic_ns())

    def _run(self, schedule: Schedule, until_ns: int) -> None:
        """Tick until then."""
        while (now := time.monotonic_ns()) < until_ns:
            if now >= self._tick_ns:
                self._tell_time(schedule, now)
            else:
                time.sleep((min(until_ns, self._tick_ns) - now) / 1e9)

    def _tell_time(self, schedule: Schedule, now_ns: int) -> None:
        seconds, nanoseconds = divmod(schedule.bag_ns(now_ns), 1_000_000_000)
        self._clock.publish(Clock(clock=Time(sec=seconds, nanosec=nanoseconds)))
        self._tick_ns = (now_ns // self._period_ns + 1) * self._period_ns


def clock_qos() -> QoSProfile:
    """What time sources ask for and rosbag2 offers: BEST_EFFORT VOLATILE KEEP_LAST 1."""
    return QoSProfile(
        history=QoSHistoryPolicy.KEEP_LAST,
        depth=1,
        reliability=QoSReliabilityPolicy.BEST_EFFORT,
        durability=QoSDurabilityPolicy.VOLATILE,
    )
