"""nav2's obstacle layer as the sample parameters set it up: which clouds it takes, which points mark, and where.

Played after nav2_costmap_2d's obstacle_layer.cpp and observation_buffer.cpp (ros-navigation/navigation2, main at
a3a9704): clouds come best effort, 50 at most; one must have x, y and z as float32, and a frame; the newest alone counts
where nothing persists; points count whose height in the costmap's frame and whose distance from the sensor are within
bounds. Clearing, a ray from the sensor to each point of another cloud, is not played: no source of ours clears.
"""

import numpy as np
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import PointCloud2, PointField

BUFFERED = 50
FRAME_LESS = ""


class ObstacleLayer:
    """One marking source of the layer; the robot stands still.

    Args:
        node: Subscribes.
        parameters: The layer's.
        source: Name of the source.
        rotation, translation: Pose of the sensor in the costmap's frame.
        resolution: Of the costmap, metres.
    """

    def __init__(self, node, parameters, source, rotation, translation, resolution=0.05):
        self.layer, self.source = parameters, parameters[source]
        self.rotation, self.translation, self.resolution = rotation, translation, resolution
        self.stamps, self._newest, self.frame = [], np.zeros((0, 3)), None
        profile = QoSProfile(depth=BUFFERED, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        self._node = node
        self._subscription = node.create_subscription(PointCloud2, self.source["topic"], self._buffer, profile)

    def close(self):
        self._node.destroy_subscription(self._subscription)

    def with_stamp(self, stamp):
        """Whether a cloud of this stamp has been buffered."""
        return (stamp.sec, stamp.nanosec) in self.stamps or None

    def cells(self):
        """Lethal cells, (column, row)."""
        height = self._newest[:, 2]
        distance = np.linalg.norm(self._newest - self.translation, axis=1)
        near, far = self.source["obstacle_min_range"], self.source["obstacle_max_range"]
        low, high = self.layer["min_obstacle_height"], self.layer["max_obstacle_height"]
        seen = (height >= low) & (height <= high) & (distance >= near) & (distance <= far)
        return {tuple(cell) for cell in np.floor(self._newest[seen, :2] / self.resolution).astype(int).tolist()}

    def _buffer(self, cloud):
        points = read_xyz(cloud)
        assert cloud.header.frame_id != FRAME_LESS
        self.frame = cloud.header.frame_id
        places = points @ self.rotation.T + self.translation
        low, high = self.source["min_obstacle_height"], self.source["max_obstacle_height"]
        self._newest = places[(places[:, 2] >= low) & (places[:, 2] <= high)]
        self.stamps.append((cloud.header.stamp.sec, cloud.header.stamp.nanosec))


def read_xyz(cloud):
    """Points of a cloud as sensor_msgs' iterators read them: by the offsets of fields x, y and z, float32 [n, 3]."""
    fields = {field.name: field for field in cloud.fields}
    count = cloud.width * cloud.height
    assert all(fields[name].datatype == PointField.FLOAT32 and fields[name].count == 1 for name in "xyz")
    assert not cloud.is_bigendian
    assert len(cloud.data) == cloud.row_step * cloud.height == cloud.point_step * count
    raw = np.frombuffer(cloud.data, np.uint8).reshape(count, cloud.point_step)
    columns = [np.ascontiguousarray(raw[:, fields[name].offset :][:, :4]).view("<f4").reshape(-1) for name in "xyz"]
    return np.stack(columns, axis=1)
