"""The `segmentation` node while its prompts change: frames answered in the second of a change, against those before."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from open_vocab_models import fresh_prompts

BEFORE_S = 5
"""Seconds before a change that the second of the change is compared with."""

CAMERA = "/camera"
START_LIMIT_S = 180.0


def live_changes(rate: float, changes: int, before_s: float) -> dict[str, float]:
    """What a running node's frames lose while its prompts change, heard over DDS from a process of its own.

    Frames in a second are read from a line through the answers' times of arrival, so that their number is not a whole
    one. The second before each change, compared in the same way, shows what is noise.
    """
    from objloc_ros.bags.processes import Child
    from objloc_ros.nodes.qos import make_fast_dds_environment

    os.environ.update(make_fast_dds_environment(), ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST")
    os.environ.setdefault("AMENT_PREFIX_PATH", sys.prefix)
    os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))

        def child(name: str, *options: str) -> Child:
            module = ("-m", f"objloc_ros.nodes.{name}", "--ros-args", "-r", f"__ns:={CAMERA}")
            command = [sys.executable, *module, *(part for option in options for part in ("-p", option))]
            return stack.enter_context(Child(name, command, log=folder / f"{name}.log"))

        children = [
            child("segmentation", "idle_priority:=false"),
            child("image_source", f"rate:={rate}", "wait_for_subscribers:=1"),
        ]
        listener = stack.enter_context(listening(lambda: [child.check() for child in children]))
        fresh = fresh_prompts()
        listener.change(next(fresh))
        listener.wait(lambda: listener.answers, START_LIMIT_S, "an answer")
        times, delays = [], []
        for number in range(changes):
            pause = 1 + before_s + 0.618 * number % 1  # changes come anywhere between two frames
            listener.spin(pause)
            start, taken_over = listener.change(next(fresh))
            times.append(start)
            delays.append(1e3 * (taken_over - start))
        listener.spin(1.5)
    answers = np.array(listener.answers)
    lost = np.array([loss(answers, start, before_s) for start in times])
    noise = np.array([loss(answers, start - 1, before_s - 1) for start in times])
    root = np.sqrt(changes)
    return {
        "frames/s between changes": float(np.mean([answered(answers, t - before_s, t) / before_s for t in times])),
        "lost in the second of the change, mean %": float(lost.mean()),
        "  standard deviation": float(lost.std(ddof=1)),
        "  standard error of the mean": float(lost.std(ddof=1) / root),
        "lost in the second before it, mean %": float(noise.mean()),
        "  standard deviation ": float(noise.std(ddof=1)),
        "  standard error of the mean ": float(noise.std(ddof=1) / root),
        "ms from request to LabelInfo, median": float(np.median(delays)),
        "  largest": float(np.max(delays)),
    }


def loss(answers: np.ndarray, start: float, before_s: float) -> float:
    """Percent of frames that the second from `start` lacks, compared with the mean of the seconds before."""
    usual = answered(answers, start - before_s, start) / before_s
    return 100 * (1 - answered(answers, start, start + 1) / usual)


def answered(answers: np.ndarray, start: float, end: float) -> float:
    """Frames answered in an interval, with fractions, from ascending times of arrival in seconds."""
    return float(np.subtract(*np.interp((end, start), answers, np.arange(len(answers)))))


@contextmanager
def listening(check: Callable[[], Any]) -> Iterator[Any]:
    """The rest of the robot: hears answers and label sets, and changes the prompts; `check` looks after the others."""
    from rcl_interfaces.srv import SetParameters
    from rclpy.context import Context
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.node import Node
    from rclpy.parameter import Parameter
    from vision_msgs.msg import Detection2DArray, LabelInfo

    from objloc_ros.nodes.qos import make_latched_profile

    class Listener:
        def __init__(self, node: Node, executor: SingleThreadedExecutor) -> None:
            self.answers: list[float] = []
            self._executor = executor
            self._labels: dict[frozenset[str], float] = {}
            topic = f"{CAMERA}/segmentation"
            node.create_subscription(Detection2DArray, f"{topic}/detections", self._hear, 20, raw=True)
            node.create_subscription(LabelInfo, f"{topic}/label_info", self._learn, make_latched_profile())
            self._set = node.create_client(SetParameters, f"{topic}/set_parameters")

        def change(self, prompts: Sequence[str]) -> tuple[float, float]:
            """Set prompts; when that was asked for, and when the label set came."""
            self.wait(self._set.service_is_ready, START_LIMIT_S, "the node")
            parameter = Parameter("prompts", value=list(prompts)).to_parameter_msg()
            start = time.time()
            future = self._set.call_async(SetParameters.Request(parameters=[parameter]))
            names = frozenset(prompts)
            self.wait(lambda: future.done() and names in self._labels, START_LIMIT_S, "the new label set")
            (result,) = future.result().results
            if not result.successful:
                raise RuntimeError(f"the prompts were refused: {result.reason}")
            return start, self._labels[names]

        def spin(self, seconds: float) -> None:
            """Hear for some time."""
            end = time.monotonic() + seconds
            while (left := end - time.monotonic()) > 0:
                self._executor.spin_once(timeout_sec=min(left, 0.05))
                check()

        def wait(self, condition: Callable[[], Any], limit_s: float, what: str) -> None:
            """Hear until something is true."""
            end = time.monotonic() + limit_s
            while not condition():
                self.spin(0.01)
                if time.monotonic() > end:
                    raise TimeoutError(f"{what} did not come within {limit_s:.0f} s")

        # rclpy tells the two kinds of callback apart by their number of arguments. The times are the middleware's.
        def _hear(self, _data: bytes, info: dict[str, int]) -> None:
            self.answers.append(info["received_timestamp"] / 1e9)

        def _learn(self, message: LabelInfo, info: dict[str, int]) -> None:
            names = frozenset(entry.class_name for entry in message.class_map)
            self._labels[names] = info["received_timestamp"] / 1e9

    context = Context()
    context.init()
    node = Node("listener", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        yield Listener(node, executor)
    finally:
        executor.shutdown()
        node.destroy_node()
        context.try_shutdown()
