"""Listen to a running `found` node: python examples/subscribe_detections.py /front/found/detections."""

import sys

import rclpy
from rclpy.qos import qos_profile_sensor_data
from vision_msgs.msg import Detection2DArray


def tell(message: Detection2DArray) -> None:
    stamp = message.header.stamp
    for detection in message.detections:
        centre, hypothesis = detection.bbox.center.position, detection.results[0].hypothesis
        print(f"{stamp.sec}.{stamp.nanosec:09}: {hypothesis.class_id} at ({centre.x:.0f}, {centre.y:.0f})", flush=True)


rclpy.init()
node = rclpy.create_node("detection_listener")
node.create_subscription(Detection2DArray, sys.argv[1], tell, qos_profile_sensor_data)
try:
    rclpy.spin(node)
except KeyboardInterrupt:
    pass
