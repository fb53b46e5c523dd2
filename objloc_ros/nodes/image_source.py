"""The `image_source` node: publishes pictures, videos, a webcam or a procedural drive as a camera would."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

import cv2
import rclpy
from rclpy.duration import Duration
from rclpy.exceptions import ParameterException
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSDurabilityPolicy, QoSHistoryPolicy, QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from objloc_ros.errors import ObjlocError
from objloc_ros.nodes import qos
from objloc_ros.nodes.conversions import mask_to_image, rgb_to_image
from objloc_ros.nodes.frame_sources import SourceFrame, open_source, parse_size
from objloc_ros.nodes.params import Table, to_descriptor
from objloc_ros.options import Option

SILENT = 0
"""OpenCV's log level without messages, `LOG_LEVEL_SILENT`."""

PARAMETERS = Table(
    Option(
        "source",
        "scene",
        'What to publish: "scene" (a procedural drive), "photographs" (of the package, under a camera that pans and '
        "zooms), a picture, a folder of pictures, a video file, or a webcam (0, /dev/video0).",
    ),
    Option("rate", 10.0, "Frames per second.", low=0.1, high=240.0),
    Option(
        "loop",
        True,
        "Start again at the end of photographs, a folder or a video, repeat a picture, and drive on for ever.",
    ),
    Option(
        "size",
        "",
        "Largest size as 640x480, keeping proportions; empty keeps the source's (640x480 for scene and photographs).",
    ),
    Option("seed", 0, "Seed of the scene.", low=0, high=2**31 - 1),
    Option(
        "frames",
        0,
        "Stop after this many frames, let them arrive and end the process; 0 goes on.",
        low=0,
        high=10**9,
    ),
    Option("wait_for_subscribers", 0, "Hold the first frame back until `image` has so many.", low=0, high=100),
    Option(
        "frame_id",
        "camera_optical_frame",
        "Coordinate frame in the headers; that of a picture looks along z, with x to the right and y down (REP 103).",
    ),
)

DELIVERY_S = 0.5
"""Time for the last frames to arrive: the shared memory that carries them goes with the process."""

DISCOVERY_S = 0.5
"""A subscriber that the publisher knows need not know the publisher yet; best-effort frames sent then would be lost."""


def make_sensor_profile() -> QoSProfile:
    """Return what camera drivers offer: BEST_EFFORT VOLATILE KEEP_LAST 5."""
    return QoSProfile(
        history=QoSHistoryPolicy.KEEP_LAST,
        depth=5,
        reliability=QoSReliabilityPolicy.BEST_EFFORT,
        durability=QoSDurabilityPolicy.VOLATILE,
    )


class ImageSource(Node):
    """Publishes `image` (rgb8) and, where the truth is known, `~/truth` (mono8 object ids) with the same header.

    Args:
        options: Passed on to `rclpy.node.Node`.

    Attributes:
        error: Why the source ended early; empty after an ordered end.
        finished: Whether there is nothing left to publish.

    Raises:
        ParameterError, InputError: A parameter breaks its constraint, or the source cannot be read.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("image_source", **options)
        values = self._declare()
        self.finished, self.error = False, ""
        self._sent, self._limit, self._needed = 0, values["frames"], values["wait_for_subscribers"]
        self._start = 0.0
        self._frame_id = values["frame_id"]
        self._frames = open_source(
            values["source"],
            size=parse_size(values["size"]),
            seed=values["seed"],
            loop=values["loop"],
            frames=values["frames"],
        )
        self._image = self.create_publisher(
            Image, "image", make_sensor_profile(), qos_overriding_options=qos.allow_overrides()
        )
        # Deep, so that no truth is lost while its reader is busy: what it is compared with has arrived.
        self._truth = self.create_publisher(
            Image, "~/truth", qos.make_output_profile(50), qos_overriding_options=qos.allow_overrides()
        )
        self._timer = self.create_timer(1.0 / values["rate"], self._tick)
        if self._needed:
            self.get_logger().info(f"waiting for {self._needed} subscriber(s) of '{self._image.topic_name}'")

    def deliver(self) -> None:
        """Let the last frames reach their subscribers."""
        if self._sent and self.context.ok():
            self._truth.wait_for_all_acked(Duration(seconds=2))
            time.sleep(DELIVERY_S)

    def _declare(self) -> dict[str, Any]:
        for option in PARAMETERS.values():
            descriptor = to_descriptor(option)
            descriptor.dynamic_typing = option.name == "source"  # `source:=0` is an integer to ROS
            self.declare_parameter(option.name, option.default, descriptor)
        values = {name: self.get_parameter(name).value for name in PARAMETERS}
        values["source"] = str(values["source"])
        PARAMETERS.check(values)
        return values

    def _tick(self) -> None:
        if self.finished or not self._may_publish():
            return
        try:
            frame = next(self._frames, None)
        except ObjlocError as error:
            frame, self.error = None, str(error)
        if frame is not None:
            self._publish(frame)
        if frame is None or self._sent == self._limit:
            self.finished = True
            self.get_logger().info(f"published {self._sent} frame(s)")

    def _may_publish(self) -> bool:
        """Whether the wanted subscribers are there and have had time to find this publisher in turn."""
        if self._needed and self._image.get_subscription_count() >= self._needed:
            self._needed, self._start = 0, time.monotonic() + DISCOVERY_S
        return not self._needed and time.monotonic() >= self._start

    def _publish(self, frame: SourceFrame) -> None:
        header = Header(stamp=self.get_clock().now().to_msg(), frame_id=self._frame_id)
        if frame.truth is not None:
            self._truth.publish(mask_to_image(frame.truth, header))
        self._image.publish(rgb_to_image(frame.rgb, header, "rgb8"))
        self._sent += 1


def main(args: Sequence[str] | None = None) -> int:
    """Publish until the source ends or the process is told to.

    Returns:
        Exit code: 0 after an ordered end, 1 when the source cannot be read (any longer).
    """
    # rclpy's own handler, installed over this one, ends the spinning. Python's would raise KeyboardInterrupt besides,
    # in the middle of anything; and any Python handler is reset to deadly while the interpreter ends: ignoring is not.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Else OpenCV tells of every backend that it tried; what matters is said below in one line.
    set_level = getattr(getattr(cv2.utils, "logging", cv2), "setLogLevel", None)  # apt's OpenCV 4.6 has it at the top
    if set_level is not None:
        set_level(SILENT)
    rclpy.init(args=list(args) if args is not None else None)
    try:
        node = ImageSource()
    except (ObjlocError, ParameterException) as error:
        sys.stderr.write(f"cannot start: {error}\n")
        rclpy.try_shutdown()
        return 1
    try:
        return _spin(node)
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def _spin(node: ImageSource) -> int:
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        while not node.finished:
            executor.spin_once()
        node.deliver()
    except (ExternalShutdownException, RuntimeError):  # the latter from publishing while the context ends
        if node.context.ok():
            raise
        return 0
    finally:
        executor.shutdown()
    if node.error:
        sys.stderr.write(f"source ended: {node.error}\n")
    return 1 if node.error else 0


if __name__ == "__main__":
    sys.exit(main())
