"""Listen to a running `found` node: python examples/subscribe_detections.py /front/found/detections."""

import contextlib
import sys

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.qos import qos_profile_sensor_data
from vision_msgs.msg import Detection2DArray


def print_detections(message: Detection2DArray) -> None:
    """Print a line per object, in pixels of the camera's image."""
    stamp = message.header.stamp
    for detection in message.detections:
        centre, hypothesis = detection.bbox.center.position, detection.results[0].hypothesis
        print(f"{stamp.sec}.{stamp.nanosec:09}: {hypothesis.class_id} at ({centre.x:.0f}, {centre.y:.0f})", flush=True)


rclpy.init()
node = rclpy.create_node("detection_listener")
node.create_subscription(Detection2DArray, sys.argv[1], print_detections, qos_profile_sensor_data)
with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
    rclpy.spin(node)
