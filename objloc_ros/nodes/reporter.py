"""A node's voice on `/diagnostics`: once a second, and whenever a long step of its start begins."""

from __future__ import annotations

from collections.abc import Callable

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from objloc_ros.nodes import qos
from objloc_ros.nodes.diagnostics import Diagnoser, Report

PERIOD_S = 1.0


class Reporter:
    """Publishes a node's reports.

    Args:
        node: Whose they are.
        report: Makes one.
    """

    def __init__(self, node: Node, report: Callable[[], Report]) -> None:
        self._node, self._report = node, report
        self._diagnoser = Diagnoser(node.get_fully_qualified_name())
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", qos.output(10))
        # Steady time: a paused or absent simulation clock must not silence the diagnostics.
        node.create_timer(PERIOD_S, self.speak, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def speak(self) -> None:
        """Publish now."""
        message = DiagnosticArray(status=[self._diagnoser.status(self._report())])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)
