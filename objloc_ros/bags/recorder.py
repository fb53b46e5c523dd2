"""Recording topics as bytes: a node that hears them, and a thread that writes what is heard."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSHistoryPolicy, QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Float32
from vision_msgs.msg import Detection2DArray, LabelInfo

QUEUE_MESSAGES = 20
"""Messages of a topic that the middleware keeps while the disk is busy."""

Sink = Callable[[str, type, bytes, int], None]
"""Takes a full topic name, the message class, the CDR bytes and the time of arrival in nanoseconds."""


@dataclass(frozen=True)
class RecordedTopic:
    """One topic to record.

    Args:
        topic: Full topic name.
        message_class: rclpy message class.
        reliable: Whether to ask for reliable delivery, which a camera does not offer.
        latched: Whether to ask for the last message that was published before.
    """

    topic: str
    message_class: type
    reliable: bool = True
    latched: bool = False

    def qos(self) -> QoSProfile:
        """Quality of service of the subscription."""
        return QoSProfile(
            history=QoSHistoryPolicy.KEEP_LAST,
            depth=QUEUE_MESSAGES,
            reliability=QoSReliabilityPolicy.RELIABLE if self.reliable else QoSReliabilityPolicy.BEST_EFFORT,
            durability=QoSDurabilityPolicy.TRANSIENT_LOCAL if self.latched else QoSDurabilityPolicy.VOLATILE,
        )


def list_camera_topics(camera: str, *, named: bool = False) -> tuple[RecordedTopic, ...]:
    """List what an `image_source` and a `found` node in one camera's namespace publish.

    Args:
        camera: Namespace such as "/camera".
        named: Whether a `segmentation` node is there, too.
    """
    names = (
        RecordedTopic(f"{camera}/segmentation/detections", Detection2DArray),
        RecordedTopic(f"{camera}/segmentation/overlay/compressed", CompressedImage),
        RecordedTopic(f"{camera}/segmentation/label_info", LabelInfo, latched=True),
    )
    return (
        RecordedTopic(f"{camera}/image", Image, reliable=False),
        RecordedTopic(f"{camera}/image_source/truth", Image),
        RecordedTopic(f"{camera}/found/detections", Detection2DArray),
        RecordedTopic(f"{camera}/found/mask", Image),
        RecordedTopic(f"{camera}/found/label_info", LabelInfo, latched=True),
        RecordedTopic(f"{camera}/found/overlay/compressed", CompressedImage),
        RecordedTopic(f"{camera}/found/debug/age_ms", Float32),
        RecordedTopic(f"{camera}/found/debug/processing_ms", Float32),
        RecordedTopic("/diagnostics", DiagnosticArray),
        *(names if named else ()),
    )


class Recorder:
    """Hands every message of some topics to a sink, without looking into it, while `spin` runs.

    Use it in a `with` block, inside which it has its own ROS context; signals stay with the caller.

    Args:
        topics: What to record.
        sink: Called for every message.

    Attributes:
        counts: Messages so far, by topic.
    """

    def __init__(self, topics: Sequence[RecordedTopic], sink: Sink) -> None:
        self.counts: Counter[str] = Counter()
        self._topics, self._sink = topics, sink
        self._context = Context()

    def __enter__(self) -> Recorder:
        self._context.init()
        self._node = Node("recorder", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        for topic in self._topics:
            self._node.create_subscription(
                topic.message_class, topic.topic, self._make_callback(topic), topic.qos(), raw=True
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()

    def spin(self, timeout_s: float) -> None:
        """Handle at most one message, and wait for it at most this long."""
        self._executor.spin_once(timeout_sec=timeout_s)

    def _make_callback(self, topic: RecordedTopic) -> Callable[..., None]:
        # rclpy tells the two kinds of callback apart by their number of arguments. The time is the middleware's: this
        # callback may come late, while the sink still writes an earlier message.
        def handle(data: bytes, info: dict[str, int]) -> None:
            self._sink(topic.topic, topic.message_class, data, info["received_timestamp"])
            self.counts[topic.topic] += 1

        return handle


class BackgroundWriter:
    """Calls a function with one set of arguments after the other, in a thread of its own.

    Use it in a `with` block. Its end waits for the calls still to come; if an exception leaves the block, they are
    dropped. The first exception of a call ends the work: it is raised by the next `submit`, or at the end of the block.

    Args:
        write: Called in the order of `submit`.
    """

    def __init__(self, write: Callable[..., object]) -> None:
        self._write = write
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="background")
        self._error: Exception | None = None

    def submit(self, *arguments: Any) -> None:
        """Hand over the arguments of one call."""
        self._raise_error()
        self._executor.submit(self._call, *arguments)

    def __enter__(self) -> BackgroundWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown(wait=True, cancel_futures=kind is not None)
        if kind is None:
            self._raise_error()

    def _call(self, *arguments: Any) -> None:
        if self._error is None:
            try:
                self._write(*arguments)
            except Exception as error:  # noqa: BLE001 raised in the thread that submits
                self._error = error

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error
