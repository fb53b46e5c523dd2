"""Publishers that only work while somebody listens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode

from objloc_ros.engine.latest_slot import SHUTDOWN, FrameDroppedError
from objloc_ros.nodes import qos

try:
    from rclpy.event_handler import PublisherEventCallbacks, UnsupportedEventTypeError
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks, UnsupportedEventTypeError

POLL_S = 0.1
"""How often subscribers are counted where the middleware does not announce them."""


class Outputs:
    """A node's result topics, each computed only while it has subscribers.

    Args:
        node: Owner of the publishers; results go out while it is active.
        on_demand: Called in the executor whenever subscribers may have come or gone.
        matched_events: Whether to have subscribers announced. Where ROS (Humble) or the middleware cannot, they are
            counted every `POLL_S` seconds.
    """

    def __init__(self, node: LifecycleNode, on_demand: Callable[[], None], *, matched_events: bool = True) -> None:
        self._node, self._on_demand = node, on_demand
        self._matched_events = matched_events
        self._publishers: dict[str, Any] = {}
        self._poll: Any = None

    def add(self, name: str, msg_type: type, *, depth: int = 1) -> None:
        """Create the publisher of `~/<name>`.

        Args:
            name: Topic below the node's name; also the key for `publish` and `wanted`.
            msg_type: Message class.
            depth: Messages kept for a slow subscriber.
        """
        if self._matched_events:
            try:
                self._publishers[name] = self._create(name, msg_type, depth, matched=lambda _: self._on_demand())
            except (TypeError, UnsupportedEventTypeError):  # no such event in Humble's rclpy, or not in this middleware
                self._matched_events = False
        if not self._matched_events:
            self._publishers[name] = self._create(name, msg_type, depth)
            self._start_polling()

    def wanted(self, name: str) -> bool:
        """Whether somebody subscribes to `~/<name>`."""
        return bool(self._publishers[name].get_subscription_count())

    def any_wanted(self) -> bool:
        """Whether somebody subscribes to any output."""
        return any(self.wanted(name) for name in self._publishers)

    def publish(self, name: str, make: Callable[[], Any]) -> None:
        """Build and send a message if somebody subscribes to `~/<name>`.

        Raises:
            FrameDroppedError: The node is no longer active.
        """
        publisher = self._publishers[name]
        if not (publisher.is_activated and self._node.context.ok()):
            raise FrameDroppedError(SHUTDOWN)
        if self.wanted(name):
            publisher.publish(make())

    def _create(self, name: str, msg_type: type, depth: int, **events: Any) -> Any:
        profile = qos.output(depth)
        topic = self._node.resolve_topic_name(f"~/{name}")

        def warn(event: Any) -> None:
            self._node.get_logger().warning(qos.incompatible_subscriber(topic, profile, event.last_policy_kind))

        return self._node.create_lifecycle_publisher(
            msg_type,
            f"~/{name}",
            profile,
            event_callbacks=PublisherEventCallbacks(incompatible_qos=warn, **events),
            qos_overriding_options=qos.overridable(),
        )

    def _start_polling(self) -> None:
        if self._poll is None:
            clock = Clock(clock_type=ClockType.STEADY_TIME)
            self._poll = self._node.create_timer(POLL_S, self._on_demand, clock=clock)
