"""Publishers that only work while somebody listens."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Output:
    """A topic of results.

    Args:
        name: Topic below the node's name.
        msg_type: Message class.
        depth: Messages kept for a slow subscriber.
        latched: Whether the latest message is for those, too, who subscribe later. Such a topic is published whether or
            not anybody subscribes or the node is active, and its subscribers alone are no reason to process frames.
    """

    name: str
    msg_type: type
    depth: int = 1
    latched: bool = False


class Outputs:
    """A node's result topics, each computed only while it has subscribers.

    Args:
        node: Owner of the publishers; results go out while it is active.
        outputs: What to publish, each as `~/<name>`.
        on_demand: Called in the executor whenever subscribers may have come or gone.
        matched_events: Whether to have subscribers announced. Where ROS (Humble) or the middleware cannot, they are
            counted every `POLL_S` seconds.
    """

    def __init__(
        self,
        node: LifecycleNode,
        outputs: Iterable[Output],
        on_demand: Callable[[], None],
        *,
        matched_events: bool = True,
    ) -> None:
        self._node, self._on_demand = node, on_demand
        self._publishers: dict[str, Any] = {}
        self._latched: dict[str, Any] = {}
        for output in outputs:
            if output.latched:
                profile = qos.make_latched_profile(output.depth)
                self._latched[output.name] = node.create_publisher(output.msg_type, f"~/{output.name}", profile)
                continue
            if matched_events:
                try:
                    self._publishers[output.name] = self._create(output, matched=lambda _: on_demand())
                except (TypeError, UnsupportedEventTypeError):  # no such event in Humble's rclpy, or this middleware
                    matched_events = False
            if not matched_events:
                self._publishers[output.name] = self._create(output)
        if not matched_events:
            node.create_timer(POLL_S, on_demand, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def wanted(self) -> frozenset[str]:
        """Return the names of the outputs, latched ones aside, that somebody subscribes to at this moment."""
        return frozenset(name for name, publisher in self._publishers.items() if publisher.get_subscription_count())

    def publish(self, name: str, message: Any) -> None:
        """Send a message on `~/<name>`.

        Raises:
            FrameDroppedError: The node is no longer active.
        """
        publisher = self._publishers[name]
        if not (publisher.is_activated and self._node.context.ok()):
            raise FrameDroppedError(SHUTDOWN)
        publisher.publish(message)

    def announce(self, name: str, message: Any) -> None:
        """Send a message on the latched topic `~/<name>`."""
        self._latched[name].publish(message)

    def _create(self, output: Output, **events: Any) -> Any:
        profile = qos.make_output_profile(output.depth)
        topic = self._node.resolve_topic_name(f"~/{output.name}")

        def warn(event: Any) -> None:
            self._node.get_logger().warning(qos.explain_incompatible_subscriber(topic, profile, event.last_policy_kind))

        return self._node.create_lifecycle_publisher(
            output.msg_type,
            f"~/{output.name}",
            profile,
            event_callbacks=PublisherEventCallbacks(incompatible_qos=warn, **events),
            qos_overriding_options=qos.allow_overrides(),
        )
