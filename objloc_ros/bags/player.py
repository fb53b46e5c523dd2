"""The `player` node: publishes the images of a bag at their recorded pace, with `/clock`.

`ros2 bag play` does that, too. This player exists because a measurement must know when each frame was due and how far
the player was behind: a player that cannot keep the pace must not be mistaken for slow nodes. (Besides, rosbag2 is not
on PyPI.)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple

from rclpy.context import Context
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSHistoryPolicy, QoSProfile, QoSReliabilityPolicy
from rosgraph_msgs.msg import Clock

from objloc_ros.bags.reader import RawMessage
from objloc_ros.errors import ParameterError
from objloc_ros.nodes.image_source import make_sensor_profile
from objloc_ros.nodes.messages import time_from_ns

CLOCK_HZ = 100.0
"""Ticks of `/clock` per second."""

LEAD_S = 0.5
"""Time from the decision to play to the first frame, in seconds."""

DISCOVERY_S = 1.0
"""Time in which a subscriber that the publisher has discovered discovers the publisher, in seconds: best-effort frames
published before that would be lost."""

SUBSCRIBERS_POLL_S = 0.05
"""How often to count the subscribers, in seconds."""

NOT_STARTED_NS = 10**18
"""Far enough in the future that playback never begins by itself, in nanoseconds."""


@dataclass(frozen=True)
class PlaybackClock:
    """Converts between the time of a bag and the monotonic time at which it is played.

    Args:
        start_ns: Bag time at the beginning of playback, nanoseconds.
        origin_ns: Monotonic time of that moment, nanoseconds.
        rate: Seconds of bag time per second.

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
        """Convert a time of recording to the monotonic time at which it is played, nanoseconds."""
        return self.origin_ns + round((recorded_ns - self.start_ns) / self.rate)

    def bag_ns(self, monotonic_ns: int) -> int:
        """Convert a monotonic time to bag time, nanoseconds; bag time stands still before the beginning."""
        return self.start_ns + round(max(monotonic_ns - self.origin_ns, 0) * self.rate)


class SentMessage(NamedTuple):
    """A message that was published, and how long after it was due, nanoseconds."""

    topic: str
    behind_ns: int


class Player:
    """Publishes a bag's images, byte by byte as they were recorded, and the bag's time.

    Use it in a `with` block, inside which it has its own ROS context; signals stay with the caller. A thread publishes
    `/clock` `clock_hz` times a second, and `play` does so right before each frame: then an age is no coarser than the
    pause between two ticks. Every deadline is computed from the beginning, so that nothing drifts.

    Args:
        topics: Message class of each topic, by its name in the bag.
        start_ns: Bag time until `play` begins, nanoseconds.
        names: Other names to publish under, by the name in the bag.
        clock_hz: Ticks per second of monotonic time, whatever the rate.

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
        self._playback = PlaybackClock(start_ns, time.monotonic_ns() + NOT_STARTED_NS)
        self._context = Context()
        self._clock_lock, self._ended = threading.Lock(), threading.Event()
        self._clock_thread = threading.Thread(target=self._tick, name="clock", daemon=True)

    def __enter__(self) -> Player:
        self._context.init()
        self._node = Node("player", context=self._context)
        self._clock = self._node.create_publisher(Clock, "/clock", make_clock_qos())
        self._publishers = {
            topic: self._node.create_publisher(kind, self._names.get(topic, topic), make_sensor_profile())
            for topic, kind in self._topics.items()
        }
        self._clock_thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._clock_thread.join()
        self._node.destroy_node()
        self._context.try_shutdown()

    def wait(self, subscribers: int) -> None:
        """Wait until every topic has this many subscribers, and until they have discovered this node."""
        while any(publisher.get_subscription_count() < subscribers for publisher in self._publishers.values()):
            time.sleep(SUBSCRIBERS_POLL_S)
        time.sleep(DISCOVERY_S)

    def play(self, messages: Iterable[RawMessage], playback: PlaybackClock) -> Iterator[SentMessage]:
        """Publish messages when they are due, and those that are overdue at once.

        Args:
            messages: In the order of their recording; each topic is one of this player's.
            playback: Begins with the first of them, or before.

        Yields:
            Each message as soon as it is published. A message that is not taken from this iterator is not published.
        """
        self._playback = playback
        for message in messages:
            due = playback.due_ns(message.recorded_ns)
            time.sleep(max(due - time.monotonic_ns(), 0) / 1e9)
            now = self._publish_clock()
            self._publishers[message.topic].publish(bytes(message.data))
            yield SentMessage(message.topic, now - due)

    def _tick(self) -> None:
        while not self._ended.wait(self._period_s):
            self._publish_clock()

    def _publish_clock(self) -> int:
        """Publish the bag time, which never goes back, and return the monotonic time, nanoseconds."""
        with self._clock_lock:
            now = time.monotonic_ns()
            self._clock.publish(Clock(clock=time_from_ns(self._playback.bag_ns(now))))
            return now


def make_clock_qos() -> QoSProfile:
    """Make the profile that time sources ask for and rosbag2 offers: BEST_EFFORT VOLATILE KEEP_LAST 1."""
    return QoSProfile(
        history=QoSHistoryPolicy.KEEP_LAST,
        depth=1,
        reliability=QoSReliabilityPolicy.BEST_EFFORT,
        durability=QoSDurabilityPolicy.VOLATILE,
    )
