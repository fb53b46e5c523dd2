"""Running nodes as a process: plain errors at the start, an ordered end on any number of signals."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence

import rclpy
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions

from objloc_ros.errors import ObjlocError
from objloc_ros.nodes.perception_node import PerceptionNode
from objloc_ros.nodes.priority import lower_process_priority


class Spinner:
    """An executor thread for some nodes.

    Args:
        nodes: The perception nodes among them start in the thread, before it spins.
        on_started: Called in the thread after that.
        on_end: Called in the thread when it ends, asked to or by an error in a callback.

    Attributes:
        serves: Whether there are perception nodes among them.
        failed: Whether none of these could be started.
        ordered: Whether the thread ended because it was asked to.
    """

    def __init__(self, nodes: Sequence[Node], *, on_started: Callable[[], None], on_end: Callable[[], None]) -> None:
        self.nodes = tuple(nodes)
        self.serves = any(isinstance(node, PerceptionNode) for node in nodes)
        self.failed = False
        self.ordered = False
        self._on_started, self._on_end = on_started, on_end
        self._executor = SingleThreadedExecutor()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._spin, name=f"executor-{self.nodes[0].get_namespace()}")

    def start(self) -> None:
        """Start the nodes, then spin them, all in the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Let the callback in work finish; returns when the thread has ended."""
        self._stop.set()
        self._executor.create_task(lambda: None)  # to wake it: it sleeps on when there is nothing to do
        if self._thread.ident is not None:
            self._thread.join()
        self._executor.shutdown()

    def close(self) -> None:
        """Release and destroy the nodes; the thread must have ended."""
        for node in self.nodes:
            if isinstance(node, PerceptionNode):
                node.close()
        for node in self.nodes:
            node.destroy_node()

    def _spin(self) -> None:
        try:
            started = [node.autostart() for node in self.nodes if isinstance(node, PerceptionNode)]
            self.failed = self.serves and not any(started)
            self._on_started()
            for node in self.nodes:
                self._executor.add_node(node)
            while not self._stop.is_set():
                self._executor.spin_once()
            self.ordered = True
        finally:
            self._on_end()


SIGNALS = (signal.SIGINT, signal.SIGTERM)

SWITCH_S = 0.0005
"""How long a thread may keep Python's lock while others wait, seconds. A pass takes it some hundred times, and Python's
own 5 ms are as long as a fifth of a pass."""

STARTED, END = b"s", b"e"
"""Events: a group has started or failed to; there is reason to end, as there is with the number of a signal."""


def run(make_node: Callable[[], PerceptionNode], args: Sequence[str] | None = None) -> int:
    """Spin one node until SIGINT or SIGTERM; see `run_groups`."""

    def make() -> list[list[Node]]:
        node = make_node()
        if node.parameters.values().get("idle_priority"):
            lower_process_priority()
        return [[node]]

    return run_groups(make, args)


def run_groups(make_groups: Callable[[], list[list[Node]]], args: Sequence[str] | None = None) -> int:
    """Spin groups of nodes, each in a thread of its own, until SIGINT or SIGTERM.

    rclpy's own handlers shut the context down under the running callbacks, and Python's raises KeyboardInterrupt
    anywhere, a second time in the middle of the clean-up (a terminal and ros2 launch both send SIGINT). Here a signal
    only writes to a pipe: the frame in work is finished and published, then everything is taken down in order.

    Args:
        make_groups: Called once ROS is up.
        args: Command line; None means `sys.argv`.

    Returns:
        Exit code: 0 after an ordered end, 1 when no group could start or a callback failed.
    """
    events = _EventPipe()
    sys.setswitchinterval(SWITCH_S)
    for number in SIGNALS:
        signal.signal(number, lambda *_: None)
    rclpy.init(args=None if args is None else list(args), signal_handler_options=SignalHandlerOptions.NO)
    try:
        groups = make_groups()
    except (ObjlocError, ParameterException) as error:
        sys.stderr.write(f"cannot start: {error}\n")
        rclpy.try_shutdown()
        return 1
    spinners = [
        Spinner(nodes, on_started=lambda: events.write(STARTED), on_end=lambda: events.write(END)) for nodes in groups
    ]
    try:
        return _serve(spinners, events)
    finally:
        for spinner in spinners:
            spinner.close()
        rclpy.try_shutdown()
        # At its end the interpreter gives signals back their deadly default, unless they are ignored.
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        # It also has its collector walk some hundred thousand objects of torch's modules, more than once, for nothing.
        gc.freeze()


class _EventPipe:
    """The events that the main thread waits for, in a pipe into which Python's own handler writes each signal's number.

    That handler is C and runs in whichever thread the system picks. One in Python waits for the main thread to wake up,
    which a signal that another thread was given does not see to.
    """

    def __init__(self) -> None:
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._write_end, False)
        signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)

    def write(self, event: bytes) -> None:
        """Write `STARTED` or `END`; drop it if the pipe is full."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._write_end, event)

    def read(self) -> bytes:
        """Wait for the next event and return its byte."""
        return os.read(self._read_end, 1)


def _serve(spinners: Sequence[Spinner], events: _EventPipe) -> int:
    # The main thread only waits, so that Python runs the signal handlers at once and not when the middleware wakes up.
    for spinner in spinners:
        spinner.start()
    serving = [spinner for spinner in spinners if spinner.serves]
    while events.read() == STARTED and not all(spinner.failed for spinner in serving):
        pass
    for spinner in spinners:
        spinner.stop()
    done = all(spinner.ordered for spinner in spinners)
    return 0 if done and not all(spinner.failed for spinner in serving) else 1
