"""A node's part of a frame, for measuring: a camera's message decoded, results as messages, published and received."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy.typing as npt
import rclpy
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image as ImageMessage
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from objloc_ros.errors import ObjlocError
from objloc_ros.nodes import qos
from objloc_ros.nodes.camera import Frame
from objloc_ros.nodes.conversions import mask_to_image, rgb_to_image
from objloc_ros.nodes.messages import detections_to_msg
from objloc_ros.nodes.qos import make_fast_dds_environment
from objloc_ros.types import Detections, Image

ARRIVAL_LIMIT_S = 10.0
"""Longest wait for a message, seconds."""

KINDS = {"detections": Detection2DArray, "mask_0": ImageMessage, "mask_1": ImageMessage}
"""Topics: the detections of a frame, and its one or two masks."""


class Loopback:
    """Publishers with the nodes' quality of service, and a subscriber to each; of this machine only.

    Raises:
        ObjlocError: ROS does not start.
    """

    def __init__(self) -> None:
        os.environ.update(make_fast_dds_environment())
        os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        self._context = rclpy.Context()
        try:
            rclpy.init(args=[], context=self._context)
            self._node = rclpy.create_node("objloc_bench", context=self._context, enable_rosout=False)
        except Exception as error:  # the middleware has no family of its own
            raise ObjlocError(f"ROS does not start: {error}") from error
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._received = 0
        topics = {name: f"/objloc_bench_{os.getpid()}/{name}" for name in KINDS}
        for name, kind in KINDS.items():
            self._node.create_subscription(kind, topics[name], self._count, qos.make_output_profile(5))
        self._publishers = [
            self._node.create_publisher(kind, topics[n], qos.make_output_profile(5)) for n, kind in KINDS.items()
        ]
        self._wait(lambda: all(publisher.get_subscription_count() for publisher in self._publishers), "find a way")

    def send(self, messages: Sequence[Any]) -> None:
        """Publish the detections and masks of one frame, and return when all have arrived.

        Raises:
            ObjlocError: One is lost.
        """
        self._received = 0
        for publisher, message in zip(self._publishers, messages, strict=False):
            publisher.publish(message)
        self._wait(lambda: self._received >= len(messages), "arrive")

    def close(self) -> None:
        """Leave ROS."""
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()

    def _count(self, message: Any) -> None:
        self._received += 1

    def _wait(self, done: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + ARRIVAL_LIMIT_S
        while not done():
            if time.monotonic() > end:
                raise ObjlocError(f"messages did not {what} within {ARRIVAL_LIMIT_S:.0f} s")
            self._executor.spin_once(timeout_sec=0.1)


class RosStages:
    """A node's stages of a frame of one size, as `objloc_ros.benchmark.cases.NodeStages` wants them.

    Args:
        frames: RGB uint8 [H, W, 3] of one size; the camera sends them in turn, as bgr8.
        send: Publishes the messages of a frame and waits until they have arrived; None leaves publishing out.
    """

    def __init__(self, frames: Sequence[Image], send: Callable[[Sequence[Any]], None] | None) -> None:
        self._header = Header(frame_id="camera")
        self._camera = [rgb_to_image(frame, self._header) for frame in frames]
        self._send = send
        self.stages: Sequence[str] = ("decode", "message", *(() if send is None else ("publish",)))

    def decode(self, number: int) -> Image:
        """Return the pixels of a message, as nodes read them."""
        return Frame(self._camera[number % len(self._camera)]).rgb()

    def messages(self, detections: Detections, maps: Sequence[npt.NDArray[Any]]) -> list[Any]:
        """Make messages of detections and masks; the overlay, which only people look at, is not among them."""
        return [detections_to_msg(detections, self._header), *(mask_to_image(pixels, self._header) for pixels in maps)]

    def publish(self, messages: Sequence[list[Any]]) -> None:
        """Send the messages of some frames, one frame after the other."""
        if self._send is None:
            raise RuntimeError("there is nothing to publish with")
        for frame in messages:
            self._send(frame)
