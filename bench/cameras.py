"""Several cameras in one cheap process: ready-made pictures, a number in each header, evenly staggered.

    python bench/cameras.py COUNT RATE WIDTH HEIGHT

Publishes `/camera0/image_raw`, `/camera1/image_raw` ... until it is interrupted. The `frame_id` of a frame is its
number, which detections copy, so that a listener can tell what was lost.
"""

from __future__ import annotations

import sys
import time
from array import array

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import Image

from objloc_ros.scenes.compose import Bank, random_scene, render

PICTURES = 4


def main() -> None:
    """Publish until the end of the process."""
    count, rate, width, height = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    rclpy.init()
    node = rclpy.create_node("cameras")
    profile = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.BEST_EFFORT)
    publishers = [node.create_publisher(Image, f"/camera{i}/image_raw", profile) for i in range(count)]
    messages = [message(pixels) for pixels in pictures(width, height)]
    start, number = time.monotonic() + 0.1, 0
    try:
        while rclpy.ok():
            due = start + number / (rate * count)
            time.sleep(max(0.0, due - time.monotonic()))
            msg = messages[number // count % PICTURES]
            msg.header.stamp = node.get_clock().now().to_msg()
            msg.header.frame_id = str(number // count)
            publishers[number % count].publish(msg)
            number += 1
    except (KeyboardInterrupt, ExternalShutdownException, RuntimeError):  # the last from publishing at the very end
        return


def pictures(width: int, height: int) -> list[np.ndarray]:
    """Procedural scenes, RGB uint8 [H, W, 3]."""
    rng = np.random.default_rng(0)
    bank = Bank(0, backgrounds=PICTURES, sprites=20)
    return [
        render(rng, bank, random_scene(rng, bank, aspect=width / height), (height, width))[0] for _ in range(PICTURES)
    ]


def message(pixels: np.ndarray) -> Image:
    """An image message without a header."""
    height, width, _ = pixels.shape
    data = array("B", np.ascontiguousarray(pixels).tobytes())
    return Image(height=height, width=width, encoding="rgb8", step=3 * width, data=data)


if __name__ == "__main__":
    main()
