"""What stands around a locate node: a camera with depth, and a node that finds objects in its images."""

import numpy as np
from sensor_msgs.msg import CameraInfo, PointCloud2
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray, Detection3DArray

from objloc_ros.nodes.conversions import mask_to_image
from objloc_ros.nodes.messages import detections_to_msg, labels_to_msg
from objloc_ros.nodes.messages_3d import POINT
from objloc_ros.nodes.qos import make_latched_profile
from objloc_ros.scenes.room import Room, default_camera
from objloc_ros.types import CLASS_FREE, Detections

NODE = "/locate"

HALL = Room(default_camera(), height=1.0, pitch=0.3, wall=6.0, solids=())
"""Where the camera stands that a locate node in a test knows the pose of."""


class DepthPeer:
    """Speaks to a locate node, and hears it.

    Attributes:
        boxes, points: Inboxes of what it publishes.
    """

    def __init__(self, peer, node=NODE, namespace=""):
        self.peer, self.node, self.namespace = peer, node, namespace
        self.boxes = peer.subscribe(Detection3DArray, f"{node}/detections")
        self.points = peer.subscribe(PointCloud2, f"{node}/points")
        self.sent = {}

    def close(self):
        self.peer.unsubscribe(self.boxes, self.points)

    def name_ids(self, labels=CLASS_FREE):
        """Say what the ids in masks stand for, also to those who come later."""
        from vision_msgs.msg import LabelInfo

        self.labels = self.peer.node.create_publisher(LabelInfo, f"{self.namespace}/label_info", make_latched_profile())
        self.labels.publish(labels_to_msg(labels, Header(), 0.5))

    def send(self, topic, msg):
        self.peer.publisher(type(msg), f"{self.namespace}/{topic}").publish(msg)

    def frame(
        self, *, depth=None, info=None, boxes=(), labels=None, track=None, mask=None, encoding=None, depth_topic="depth"
    ):
        """Publish everything about one image; returns its stamp. What is None is left out."""
        header = Header(stamp=self.peer.stamp(), frame_id="camera")
        if info is not None:
            info.header.stamp = header.stamp
            self.send("camera_info", info)
        if depth is not None:
            if isinstance(depth, np.ndarray):
                depth = self.peer.image(depth, encoding or {2: "16UC1", 4: "32FC1"}[depth.itemsize])
            depth.header.stamp = header.stamp
            self.send(depth_topic, depth)
        if mask is not None:
            self.send("mask", mask_to_image(mask, header))
        if boxes is not None:
            self.send("detections", make_detections(boxes, header, labels, track))
        return header.stamp

    def ask(self, wait_for, inbox=None, **frame):
        """Publish frames until one is answered; returns the answer."""
        import time

        inbox, sent = inbox or self.boxes, []

        def answered():
            if not sent or time.monotonic() - sent[-1][0] > 0.3:
                sent.append((time.monotonic(), self.frame(**frame)))
            return next((msg for _, stamp in sent if (msg := inbox.with_stamp(stamp)) is not None), None)

        return wait_for(answered, "an answer")


def make_detections(boxes, header, labels=None, ids=None):
    n = len(boxes)
    found = Detections(
        np.array(boxes, np.float32).reshape(-1, 4), np.full(n, 0.5, np.float32), labels or ("object",) * n, ids
    )
    message: Detection2DArray = detections_to_msg(found, header)
    return message


def make_info(width, height, f, **changes):
    """CameraInfo of a pinhole camera that looks through the middle of its images."""
    info = CameraInfo(width=width, height=height, distortion_model="plumb_bob", d=[0.0] * 5)
    info.header.frame_id = "camera"
    cx, cy = (width - 1) / 2, (height - 1) / 2
    info.k = [f, 0.0, cx, 0.0, f, cy, 0.0, 0.0, 1.0]
    info.p = [f, 0.0, cx, 0.0, 0.0, f, cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    for name, value in changes.items():
        setattr(info, name, value)
    return info


def describe_camera(camera):
    """CameraInfo of a `CameraModel`."""
    info = make_info(camera.width, camera.height, camera.fx, d=list(camera.distortion))
    info.distortion_model = camera.distortion_model or "plumb_bob"
    info.k = camera.matrix.ravel().tolist()
    return info


def read_points(cloud):
    """Points float32 [n, 3] and the objects' numbers [n]."""
    points = np.frombuffer(cloud.data, POINT)
    return np.stack([points["x"], points["y"], points["z"]], axis=1), points["object"]
