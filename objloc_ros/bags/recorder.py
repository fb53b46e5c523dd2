"""Recording topics as bytes: what is heard of nodes that were started to be measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSHistoryPolicy, QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Float32
from vision_msgs.msg import Detection2DArray

Sink = Callable[[str, type, bytes, int], None]
"""Takes a full topic name, the message class, the CDR bytes and the time of arrival in nanoseconds."""


@dataclass(frozen=True)
class Tap:
    """One topic to record.

    Args:
        topic: Full topic name.
        message_class: rclpy message class.
        reliable: Whether to ask for reliable delivery: a camera does not offer it.
        latched: Whether to ask for what was said before.
    """

    topic: str
    message_class: type
    reliable: bool = True
    latched: bool = False

    def profile(self) -> QoSProfile:
        """Keep enough for the moments in which the disk is busy."""
        return QoSProfile(
            history=QoSHistoryPolicy.KEEP_LAST,
            depth=20,
            reliability=QoSReliabilityPolicy.RELIABLE if self.reliable else QoSReliabilityPolicy.BEST_EFFORT,
            durability=QoSDurabilityPolicy.TRANSIENT_LOCAL if self.latched else QoSDurabilityPolicy.VOLATILE,
        )


def camera_taps(camera: str) -> tuple[Tap, ...]:
    """What there is to record of an `image_source` and a `found` node in one camera's namespace.

    Args:
        camera: Namespace such as "/camera".
    """
    return (
        Tap(f"{camera}/image", Image, reliable=False),
        Tap(f"{camera}/image_source/truth", Image),
        Tap(f"{camera}/found/detections", Detection2DArray),
        Tap(f"{camera}/found/mask", Image),
        Tap(f"{camera}/found/overlay/compressed", CompressedImage),
        Tap(f"{camera}/found/debug/age_ms", Float32),
        Tap(f"{camera}/found/debug/processing_ms", Float32),
        Tap("/diagnostics", DiagnosticArray),
    )


class Recorder:
    """Hears topics, and hands every message on without looking into it, while `spin` runs.

    Use it in a `with` block, inside which it has its own ROS context; signals stay with the caller.

    Args:
        taps: What to record.
        sink: Called for every message.

    Attributes:
        counts: Messages so far, by topic.
    """

    def __init__(self, taps: Sequence[Tap], sink: Sink) -> None:
        self.counts: Counter[str] = Counter()
        self._taps, self._sink = taps, sink
        self._context = Context()

    def __enter__(self) -> Recorder:
        self._context.init()
        self._node = Node("recorder", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        for tap in self._taps:
            self._node.create_subscription(tap.message_class, tap.topic, self._handler(tap), tap.profile(), raw=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()

    def spin(self, timeout_s: float) -> None:
        """Handle at most one message, waiting for it no longer than this."""
        self._executor.spin_once(timeout_sec=timeout_s)

    def _handler(self, tap: Tap) -> Callable[..., None]:
        # rclpy tells the two kinds of callback apart by their number of arguments. The time is the middleware's: this
        # callback may come late, while the sink still writes an earlier message.
        def handle(data: bytes, info: dict[str, int]) -> None:
            self._sink(tap.topic, tap.message_class, data, info["received_timestamp"])
            self.counts[tap.topic] += 1

        return handle
