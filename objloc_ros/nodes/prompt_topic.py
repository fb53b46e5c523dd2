"""Prompts from a topic: what is said there becomes the `prompts` parameter, with all that a set of it brings.

A volatile publisher (`ros2 topic pub`) does not match a subscription that asks for the latched message, and a volatile
subscription does not get what a latched publisher said before. So there are two: the volatile one hears what is said
from now on, and as long as there are latched publishers, a latched one hears what they said before.
"""

from __future__ import annotations

from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode
from rclpy.parameter import Parameter
from rclpy.qos import QoSDurabilityPolicy, QoSProfile
from std_msgs.msg import String

from objloc_ros.nodes import qos
from objloc_ros.nodes.log import ThrottledLogger
from objloc_ros.types import split_prompts

TOPIC = "~/prompts"

PERIOD_S = 0.5
"""How often the node looks for latched publishers, seconds."""


class PromptTopic:
    """Sets a node's `prompts` to what is said on `~/prompts`, in every state of its life cycle.

    Args:
        node: Has the parameter; its executor serialises what the topic and others set.
        log: Told why a text is refused; nothing changes then.
    """

    def __init__(self, node: LifecycleNode, log: ThrottledLogger) -> None:
        self._node, self._log = node, log
        self._latched: Any = None
        self._last: str | None = None  # of what the volatile subscription has heard
        self._subscribe(qos.make_output_profile(depth=1), self._on_message)
        node.create_timer(PERIOD_S, self._follow_publishers, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _follow_publishers(self) -> None:
        """Subscribe to latched messages while somebody offers them; else every other publisher would warn of it."""
        topic = self._node.resolve_topic_name(TOPIC)
        profiles = [info.qos_profile for info in self._node.get_publishers_info_by_topic(topic)]
        offered = any(profile.durability == QoSDurabilityPolicy.TRANSIENT_LOCAL for profile in profiles)
        if offered and self._latched is None:
            self._latched = self._subscribe(qos.make_latched_profile(), self._on_latched)
        elif not offered and self._latched is not None:
            self._node.destroy_subscription(self._latched)
            self._latched = self._last = None

    def _subscribe(self, profile: QoSProfile, callback: Any) -> Any:
        return self._node.create_subscription(String, TOPIC, callback, profile)

    def _on_message(self, message: String) -> None:
        self._last = message.data
        self._set(message.data)

    def _on_latched(self, message: String) -> None:
        if message.data != self._last:  # else the volatile subscription has heard it, too
            self._set(message.data)

    def _set(self, text: str) -> None:
        prompts = split_prompts(text)
        if prompts == list(self._node.get_parameter("prompts").value):
            return
        result = self._node.set_parameters_atomically([Parameter("prompts", Parameter.Type.STRING_ARRAY, prompts)])
        if not result.successful:
            self._log.refuse("prompts from the topic", result.reason)
