"""Located objects as messages: boxes in metres, the points of the objects, and what viewers draw."""

from __future__ import annotations

import colorsys
import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
from sensor_msgs.msg import PointCloud2, PointField
from std_msgs.msg import ColorRGBA, Header
from vision_msgs.msg import Detection3D, Detection3DArray, ObjectHypothesisWithPose

try:
    from visualization_msgs.msg import Marker, MarkerArray
except ImportError:  # an environment of wheels from before requirements-bare.txt named it
    Marker = MarkerArray = None

POINT = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("object", "<u4")])
"""Of the cloud: a place in metres, and the object's place in the detections."""


@dataclass(frozen=True)
class Object3D:
    """An object in metres.

    Args:
        id: Its lasting number; empty where there is none.
        label: Its class.
        score: In [0, 1].
        center: float64 [3].
        size: float64 [3], along the axes of the box.
        rotation: float64 [3, 3], from the axes of the box to those of the frame.
        points: float32 [n, 3].
    """

    id: str
    label: str
    score: float
    center: npt.NDArray[np.float64]
    size: npt.NDArray[np.float64]
    rotation: npt.NDArray[np.float64]
    points: npt.NDArray[np.float32]

    def pose(self) -> Pose:
        """Return centre and orientation of the box."""
        x, y, z = (float(value) for value in self.center)
        return Pose(position=Point(x=x, y=y, z=z), orientation=to_quaternion(self.rotation))

    def extent(self) -> Vector3:
        """Return the sides of the box."""
        x, y, z = (float(value) for value in self.size)
        return Vector3(x=x, y=y, z=z)


def to_quaternion(rotation: npt.NDArray[np.float64]) -> Quaternion:
    """Return a rotation matrix [3, 3] as a unit quaternion with w >= 0."""
    # The eigenvector of the greatest eigenvalue (Bar-Itzhack, 2000): no cases, and no precision lost near any angle.
    r = rotation
    k = np.array(
        [
            [r[0, 0] - r[1, 1] - r[2, 2], 0, 0, 0],
            [r[1, 0] + r[0, 1], r[1, 1] - r[0, 0] - r[2, 2], 0, 0],
            [r[2, 0] + r[0, 2], r[2, 1] + r[1, 2], r[2, 2] - r[0, 0] - r[1, 1], 0],
            [r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1], r[0, 0] + r[1, 1] + r[2, 2]],
        ]
    )
    _, vectors = np.linalg.eigh(k)  # reads the lower triangle
    x, y, z, w = (float(value) for value in vectors[:, -1] * (1 if vectors[3, -1] >= 0 else -1))
    return Quaternion(x=x, y=y, z=z, w=w)


def objects_to_detections(objects: Sequence[Object3D], header: Header) -> Detection3DArray:
    """Describe objects; one hypothesis each, whose pose is the box's."""
    message = Detection3DArray(header=header)
    for item in objects:
        detection = Detection3D(header=header, id=item.id)
        detection.bbox.center, detection.bbox.size = item.pose(), item.extent()
        hypothesis = ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = item.label, item.score
        hypothesis.pose.pose = item.pose()
        detection.results = [hypothesis]
        message.detections.append(detection)
    return message


def objects_to_cloud(objects: Sequence[Object3D], header: Header) -> PointCloud2:
    """Return the points of all objects, an empty cloud where there are none; unordered and without invalid points."""
    points = np.zeros(sum(len(item.points) for item in objects), POINT)
    if len(points):
        places = np.concatenate([item.points for item in objects])
        points["x"], points["y"], points["z"] = places.T
        points["object"] = np.repeat(np.arange(len(objects)), [len(item.points) for item in objects])
    kinds = (PointField.FLOAT32, PointField.FLOAT32, PointField.FLOAT32, PointField.UINT32)
    fields = [
        PointField(name=name, offset=4 * i, datatype=kind, count=1)
        for i, (name, kind) in enumerate(zip(POINT.names or (), kinds, strict=True))
    ]
    return PointCloud2(
        header=header,
        height=1,
        width=len(points),
        fields=fields,
        is_bigendian=False,
        point_step=POINT.itemsize,
        row_step=points.nbytes,
        data=array("B", points.tobytes()),
        is_dense=True,
    )


def objects_to_markers(objects: Sequence[Object3D], header: Header) -> MarkerArray:
    """Draw a box and a line of text for each object; those of before vanish."""
    markers = [Marker(header=header, action=Marker.DELETEALL)]
    for number, item in enumerate(objects):
        color = _choose_color(item)
        box = Marker(header=header, ns="boxes", id=number, type=Marker.CUBE, action=Marker.ADD)
        box.pose, box.scale, box.color = item.pose(), item.extent(), color
        text = Marker(header=header, ns="names", id=number, type=Marker.TEXT_VIEW_FACING, action=Marker.ADD)
        text.pose.position = box.pose.position
        text.scale.z = 0.1
        text.color = ColorRGBA(r=1.0, g=1.0, b=1.0, a=1.0)
        text.text = f"{item.label} {item.id}".strip()
        markers += [box, text]
    return MarkerArray(markers=markers)


def _choose_color(item: Object3D) -> ColorRGBA:
    """Return a colour that stays with an id, else with a class; half transparent."""
    hue = zlib.crc32((item.id or item.label).encode()) / 2**32
    r, g, b = colorsys.hsv_to_rgb(hue, 0.8, 1.0)
    return ColorRGBA(r=r, g=g, b=b, a=0.5)
