"""Objects in metres as messages: what subscribers of boxes, points and markers read in them."""

import numpy as np
import pytest

pytest.importorskip("vision_msgs")
from builtin_interfaces.msg import Time
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header

from objloc_ros.nodes import messages_3d
from objloc_ros.nodes.locate import to_matrix
from objloc_ros.nodes.messages_3d import Object3D

HEADER = Header(stamp=Time(sec=3, nanosec=4), frame_id="camera_optical")


def turn(axis, degrees):
    axis, angle = np.array(axis) / np.linalg.norm(axis), np.deg2rad(degrees)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def thing(number=0, points=2, **changes):
    values = {
        "id": str(number),
        "label": "cup",
        "score": 0.5,
        "center": np.array([1.0, 2.0, 3.0]) + number,
        "size": np.array([0.1, 0.2, 0.3]),
        "rotation": turn((0, 1, 0), 30),
        "points": np.arange(3 * points, dtype=np.float32).reshape(-1, 3) + number,
    }
    return Object3D(**(values | changes))


@pytest.mark.parametrize("degrees", [0, 1e-6, 30, 89, 120, 179.999999, 180])
@pytest.mark.parametrize("axis", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, -2, 3)])
def test_quaternions_turn_as_the_matrix_does(axis, degrees):
    matrix = turn(axis, degrees)
    q = messages_3d.to_quaternion(matrix)
    assert q.w >= 0
    assert np.isclose(np.linalg.norm([q.x, q.y, q.z, q.w]), 1)
    # The rotation of a vector by a quaternion, written out.
    v, s = np.array([q.x, q.y, q.z]), q.w
    for vector in np.eye(3):
        turned = vector + 2 * np.cross(v, np.cross(v, vector) + s * vector)
        np.testing.assert_allclose(turned, matrix @ vector, atol=1e-9)
    np.testing.assert_allclose(to_matrix(q), matrix, atol=1e-9)


def test_a_detection_has_id_class_score_and_the_box_twice():
    message = messages_3d.objects_to_detections([thing(7)], HEADER)
    assert message.header == HEADER
    (detection,) = message.detections
    assert (detection.id, detection.header) == ("7", HEADER)
    (result,) = detection.results
    assert (result.hypothesis.class_id, result.hypothesis.score) == ("cup", 0.5)
    position, size = detection.bbox.center.position, detection.bbox.size
    assert (position.x, position.y, position.z) == (8.0, 9.0, 10.0)
    assert (size.x, size.y, size.z) == (0.1, 0.2, 0.3)
    assert np.isclose(detection.bbox.center.orientation.y, np.sin(np.deg2rad(15)))
    assert result.pose.pose == detection.bbox.center


def test_points_of_all_objects_with_their_places_in_the_detections():
    cloud = messages_3d.objects_to_cloud([thing(0), thing(10, points=1)], HEADER)
    assert cloud.header == HEADER
    assert [(field.name, field.offset, field.datatype) for field in cloud.fields] == [
        ("x", 0, 7),
        ("y", 4, 7),
        ("z", 8, 7),
        ("object", 12, 6),
    ]
    assert (cloud.height, cloud.width, cloud.point_step, cloud.row_step, len(cloud.data)) == (1, 3, 16, 48, 48)
    assert cloud.is_dense
    points = np.frombuffer(cloud.data, messages_3d.POINT)
    assert [tuple(point) for point in points] == [(0, 1, 2, 0), (3, 4, 5, 0), (10, 11, 12, 1)]


def test_nothing_is_an_empty_cloud_that_has_the_same_fields():
    cloud = messages_3d.objects_to_cloud([], HEADER)
    assert (cloud.height, cloud.width, len(cloud.data), cloud.row_step, cloud.header) == (1, 0, 0, 0, HEADER)
    assert cloud.fields == messages_3d.objects_to_cloud([thing()], HEADER).fields
    assert deserialize_message(serialize_message(cloud), PointCloud2) == cloud


def test_markers_begin_with_the_end_of_those_before():
    visualization_msgs = pytest.importorskip("visualization_msgs.msg")
    marker = visualization_msgs.Marker
    clear, *rest = messages_3d.objects_to_markers([thing(1), thing(2)], HEADER).markers
    assert clear.action == marker.DELETEALL
    assert [(item.ns, item.id, item.type, item.action) for item in rest] == [
        ("boxes", 0, marker.CUBE, marker.ADD),
        ("names", 0, marker.TEXT_VIEW_FACING, marker.ADD),
        ("boxes", 1, marker.CUBE, marker.ADD),
        ("names", 1, marker.TEXT_VIEW_FACING, marker.ADD),
    ]
    assert all(item.header == HEADER for item in (clear, *rest))
    assert (rest[0].pose, rest[0].scale) == (thing(1).pose(), thing(1).extent())
    assert rest[1].text == "cup 1"
    assert rest[0].color != rest[2].color
    assert 0 < rest[0].color.a < 1
    assert len(messages_3d.objects_to_markers([], HEADER).markers) == 1


def test_a_colour_stays_with_its_id():
    pytest.importorskip("visualization_msgs.msg")

    def color(item):
        return messages_3d.objects_to_markers([item], HEADER).markers[1].color

    assert color(thing(1)) == color(thing(1, center=np.zeros(3)))
    assert color(thing(1, id="")) == color(thing(2, id=""))
