"""Nodes that share a thread: started in it, spun in it, taken down in order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node

from objloc_ros.nodes.base import PerceptionNode


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
