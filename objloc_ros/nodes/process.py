"""Running one node as a process: plain errors at the start, an ordered end on any number of signals."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from objloc_ros.errors import ObjlocError
from objloc_ros.nodes.base import PerceptionNode

SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(make_node: Callable[[], PerceptionNode], args: Sequence[str] | None = None) -> int:
    """Spin a node until SIGINT or SIGTERM.

    rclpy's own handlers shut the context down under the running callbacks, and Python's raises KeyboardInterrupt
    anywhere, a second time in the middle of the clean-up (a terminal and ros2 launch both send SIGINT). Here a signal
    only adds to a queue: the frame in work is finished and published, then everything is taken down in order.

    Args:
        make_node: Called once ROS is up.
        args: Command line; None means `sys.argv`.

    Returns:
        Exit code: 0 after an ordered end, 1 when the node could not start or a callback failed.
    """
    # Not an event: a second signal that comes while the first one sets it would wait for ever. This queue is reentrant.
    endings: SimpleQueue[None] = SimpleQueue()
    for number in SIGNALS:
        signal.signal(number, lambda *_: endings.put(None))
    rclpy.init(args=None if args is None else list(args), signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = make_node()
    except (ObjlocError, ParameterException) as error:
        sys.stderr.write(f"cannot start: {error}\n")
        rclpy.try_shutdown()
        return 1
    try:
        return _serve(node, endings)
    finally:
        node.close()
        node.destroy_node()
        rclpy.try_shutdown()
        # At its end the interpreter gives signals back their deadly default, unless they are ignored.
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def give_way() -> None:
    """Let all threads of this process, and those that they will start, run only when no other work is waiting.

    Nice values do not achieve that: a thread that wakes up waits for the end of a nicer one's time slice, and a network
    on two threads wakes up some hundred times per frame. Only Linux has such a policy (SCHED_IDLE) and keeps one per
    thread; elsewhere nothing is done.
    """
    tasks = Path("/proc/self/task")
    for task in map(int, os.listdir(tasks) if tasks.is_dir() else ()):
        with contextlib.suppress(ProcessLookupError):  # it has ended since
            os.sched_setscheduler(task, os.SCHED_IDLE, os.sched_param(0))


def _serve(node: PerceptionNode, endings: SimpleQueue[None]) -> int:
    if node.parameters.values().get("idle_priority"):
        give_way()
    if not node.autostart():
        return 1
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    stop = threading.Event()
    ordered: list[bool] = []

    def spin() -> None:
        try:
            while not stop.is_set():
                executor.spin_once()
            ordered.append(True)
        finally:
            endings.put(None)

    # The main thread only waits, so that Python runs the signal handlers at once and not when the middleware wakes up.
    spinner = threading.Thread(target=spin, name="executor")
    spinner.start()
    endings.get()
    stop.set()
    executor.wake()
    spinner.join()
    executor.shutdown()
    return 0 if ordered else 1
