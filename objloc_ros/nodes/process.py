"""Running one node as a process: plain errors at the start, a quiet end on any number of Ctrl-C."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Sequence

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor

from objloc_ros.errors import ObjlocError
from objloc_ros.nodes.base import PerceptionNode


def run(make_node: Callable[[], PerceptionNode], args: Sequence[str] | None = None) -> int:
    """Spin a node until the process is told to end.

    Args:
        make_node: Called once ROS is up.
        args: Command line; None means `sys.argv`.

    Returns:
        Exit code: 0 after an ordered end, 1 when the node could not start.
    """
    # rclpy's own handler wakes the executor and shuts the context down. Python's would raise KeyboardInterrupt besides,
    # anywhere, and a second SIGINT (launch and terminal both send one) would raise it in the middle of the clean-up.
    signal.signal(signal.SIGINT, lambda *_: None)
    rclpy.init(args=list(args) if args is not None else None)
    try:
        node = make_node()
    except (ObjlocError, ParameterException) as error:
        sys.stderr.write(f"cannot start: {error}\n")
        rclpy.try_shutdown()
        return 1
    try:
        return _spin(node)
    finally:
        node.close()
        node.destroy_node()
        rclpy.try_shutdown()


def _spin(node: PerceptionNode) -> int:
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        if not node.autostart():
            return 0 if not node.context.ok() else 1
        executor.spin()
    except ExternalShutdownException:
        return 0
    finally:
        executor.shutdown()
    return 0
