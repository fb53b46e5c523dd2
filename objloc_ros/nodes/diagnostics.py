"""A node's report on `/diagnostics`: once a second, and whenever a long step of its start begins."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType
from rclpy.node import Node

from objloc_ros.engine.frame_stats import Percentiles, Snapshot
from objloc_ros.engine.latest_slot import FAILED, OUT_OF_MEMORY, SHUTDOWN, SUPERSEDED, TOO_OLD
from objloc_ros.nodes import qos

NOT_WANTED = "not_wanted"
HARMLESS = frozenset({SUPERSEDED, SHUTDOWN, NOT_WANTED})
"""Causes that are part of normal work: an engine slower than its camera skips frames by design."""


@dataclass(frozen=True)
class Report:
    """What is known about a node at one instant.

    Args:
        state: Life cycle and demand in a word or two.
        frames: Counts, ages and rates.
        engine: Facts about the engine, such as device, backbone and weights.
        input_problem: Why no frames come; empty when they do or need not.
        last_error: Latest error with its cause; empty when there was none.
    """

    state: str
    frames: Snapshot
    engine: Mapping[str, str] = field(default_factory=dict)
    input_problem: str = ""
    last_error: str = ""


class Diagnoser:
    """Turns reports into diagnostic statuses, judging by what happened since the previous one.

    Args:
        name: Full name of the node.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._before: Mapping[str, int] = {}

    def make_status(self, report: Report) -> DiagnosticStatus:
        """Judge and describe the node."""
        dropped = report.frames.dropped
        new = {cause: n - self._before.get(cause, 0) for cause, n in dropped.items() if n > self._before.get(cause, 0)}
        self._before = dict(dropped)
        level, message = judge(report, new)
        return DiagnosticStatus(
            level=level,
            name=f"{self._name}: perception",
            message=message,
            hardware_id=report.engine.get("device", ""),
            values=[KeyValue(key=key, value=value) for key, value in format_facts(report).items()],
        )


def judge(report: Report, new_drops: Mapping[str, int]) -> tuple[bytes, str]:
    """Return level and headline: errors in processing first, then unusable frames, then frames that do not come."""
    failed = new_drops.get(FAILED, 0) + new_drops.get(OUT_OF_MEMORY, 0)
    if failed:
        return DiagnosticStatus.ERROR, f"{failed} frame(s) failed in processing: {report.last_error}"
    bad = {cause: n for cause, n in new_drops.items() if cause not in HARMLESS}
    if bad:
        causes = ", ".join(f"{cause} {n}" for cause, n in sorted(bad.items()))
        what = "too late" if set(bad) == {TOO_OLD} else "unusable"
        return DiagnosticStatus.WARN, f"frames {what} in the last second: {causes}"
    if report.input_problem:
        return DiagnosticStatus.WARN, report.input_problem
    return DiagnosticStatus.OK, report.state


def format_facts(report: Report) -> dict[str, str]:
    """Return all figures as text, in the order in which they are shown."""
    frames = report.frames
    return {
        "state": report.state,
        "rate_in_hz": f"{frames.rate_in:.1f}",
        "rate_out_hz": f"{frames.rate_out:.1f}",
        **_format_percentiles("age_ms", frames.age_ms),
        **_format_percentiles("processing_ms", frames.processing_ms),
        "received": str(frames.received),
        "published": str(frames.published),
        "in_flight": str(frames.in_flight),
        "dropped": str(sum(frames.dropped.values())),
        **{f"dropped.{cause}": str(n) for cause, n in sorted(frames.dropped.items())},
        **report.engine,
        "last_error": report.last_error,
    }


def device_memory_mb(device: str) -> float:
    """Return the memory in use, MiB: what PyTorch holds on a CUDA device, else the process's resident memory."""
    if device.startswith("cuda") and (torch := sys.modules.get("torch")):
        return float(torch.cuda.memory_reserved(device)) / 2**20
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:  # not Linux
        return 0.0


def _format_percentiles(name: str, values: Percentiles) -> dict[str, str]:
    return {f"{name}_{p}": f"{getattr(values, p):.1f}" for p in ("p50", "p95", "p99")}


PERIOD_S = 1.0
"""Time between two reports, seconds."""


class DiagnosticsPublisher:
    """Publishes a node's reports once every `PERIOD_S`.

    Args:
        node: The node that the reports are about, and that publishes them.
        report: Makes a report.
    """

    def __init__(self, node: Node, report: Callable[[], Report]) -> None:
        self._node, self._report = node, report
        self._diagnoser = Diagnoser(node.get_fully_qualified_name())
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", qos.make_output_profile(10))
        # Steady time: a paused or absent simulation clock must not silence the diagnostics.
        node.create_timer(PERIOD_S, self.publish, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def publish(self) -> None:
        """Publish now."""
        message = DiagnosticArray(status=[self._diagnoser.make_status(self._report())])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)
