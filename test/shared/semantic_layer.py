"""The rules of nav2's semantic_segmentation_layer, played to the topics of our nodes.

As read in ros-navigation/semantic_segmentation_layer, main at b269885: what it subscribes to and how, which messages it
puts together, which pixels it counts, and what a tile costs. The robot stands still, and its camera's frame is the map.
"""

from collections import Counter, defaultdict, deque
from typing import NamedTuple

import numpy as np
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import Image, PointCloud2, PointField
from vision_msgs.msg import LabelInfo

LABEL_DEPTH = 5


class Costs(NamedTuple):
    base_cost: int = 0
    max_cost: int = 0
    mark_confidence: int = 0
    samples_to_max_cost: int = 0
    dominant_priority: bool = False


class Tile:
    """Confidences of the classes seen in one place; one class is dominant."""

    def __init__(self):
        self.queues, self.dominant = defaultdict(list), None

    def push(self, class_id, confidence, priority):
        self.queues[class_id].append(confidence)
        if priority or self.dominant is None or len(self.queues[class_id]) > len(self.queues[self.dominant]):
            self.queues = defaultdict(list, {class_id: self.queues[class_id]})
            self.dominant = class_id

    def cost(self, table):
        queue, costs = self.queues[self.dominant], table.get(self.dominant, Costs())
        sure = len(queue) >= costs.samples_to_max_cost and sum(queue) / len(queue) > costs.mark_confidence
        return costs.max_cost if sure else costs.base_cost


class SemanticLayer:
    """One source of the layer, with the parameters of a costmap.

    Attributes:
        costs: The costs of each class, by its name.
        names: What LabelInfo said last, by id; None before.
        unknown: Names in it that are no classes of the layer, which it ignores.
        announced: How often it came.
        received: Clouds so far.
        buffered: Stamps of what was put together, (seconds, nanoseconds).
        refused: Stamps of what was put together and not counted, by the cause.
        skipped: Pixels, by ids, that chose a tile and stand for no class.
    """

    def __init__(self, node, parameters, resolution=0.02):
        (source,) = parameters["observation_sources"].split()
        self.source, self.resolution = parameters[source], resolution
        self.costs = {
            name: Costs(**{field: self.source[kind][field] for field in Costs._fields})
            for kind in self.source["class_types"]
            for name in self.source[kind]["classes"]
        }
        self.names, self.unknown, self.announced, self.received = None, [], 0, 0
        self.buffered, self.refused = [], defaultdict(list)
        self.skipped, self.tiles = Counter(), defaultdict(Tile)
        depth = parameters["sensor_data_depth"]
        sensor = QoSProfile(depth=depth, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        latched = QoSProfile(
            depth=LABEL_DEPTH,
            reliability=QoSReliabilityPolicy.RELIABLE,
            durability=QoSDurabilityPolicy.TRANSIENT_LOCAL,
        )
        self._queues = {part: deque(maxlen=depth) for part in ("segmentation", "confidence", "pointcloud")}
        self._node, self._subscriptions = node, []
        self._subscribe(LabelInfo, "labels", self._on_labels, latched)
        for part in self._queues:
            kind = PointCloud2 if part == "pointcloud" else Image
            self._subscribe(kind, part, lambda msg, part=part: self._on_part(part, msg), sensor)

    def close(self):
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)

    def map(self):
        """The cost of each tile, by its column and row."""
        table = self._by_id()
        return {place: tile.cost(table) for place, tile in list(self.tiles.items())}

    def _subscribe(self, kind, part, callback, profile):
        topic = self.source[f"{part}_topic"]
        self._subscriptions.append(self._node.create_subscription(kind, topic, callback, profile))

    def _on_labels(self, msg):
        self.names = {entry.class_id: entry.class_name for entry in msg.class_map}
        self.unknown = [name for name in self.names.values() if name not in self.costs]
        self.announced += 1

    def _by_id(self):
        names = self.names or {}
        return {number: self.costs[name] for number, name in names.items() if name in self.costs}

    def _on_part(self, part, msg):
        stamp = msg.header.stamp.sec, msg.header.stamp.nanosec
        self._queues[part].append((stamp, msg))
        found = [dict(queue).get(stamp) for queue in self._queues.values()]
        self.received += part == "pointcloud"
        if all(message is not None for message in found):
            self._buffer(stamp, *found)
            self.buffered.append(stamp)

    def _buffer(self, stamp, mask, confidence, cloud):
        if mask.width * mask.height != cloud.width * cloud.height:
            self.refused["sizes"].append(stamp)
        elif len(mask.data) < mask.width * mask.height:
            self.refused["data"].append(stamp)
        elif not self._by_id():
            self.refused["labels"].append(stamp)  # the layer itself reads a map that it has not got yet
        else:
            self._count(np.frombuffer(mask.data, np.uint8), np.frombuffer(confidence.data, np.uint8), read_cloud(cloud))

    def _count(self, ids, sure, points):
        """Take a pixel for each tile, by its index: the layer knows of no row padding."""
        table = self._by_id()
        distance = np.linalg.norm(points, axis=1)
        near, far = self.source["min_obstacle_distance"], self.source["max_obstacle_distance"]
        seen = np.flatnonzero(np.isfinite(points[:, 2]) & (distance > near) & (distance < far))
        worth = np.array([table.get(number, Costs()).max_cost for number in range(256)])[ids]
        worth = worth if self.source["use_cost_selection"] else sure
        places = np.floor(points[seen, :2] / self.resolution).astype(int)
        order = np.lexsort((seen, -worth[seen].astype(int)))
        chosen = np.unique(places[order], axis=0, return_index=True)
        for place, index in zip(*chosen, strict=True):
            pixel = seen[order[index]]
            class_id = int(ids[pixel])
            if class_id in table:
                self.tiles[tuple(place.tolist())].push(class_id, int(sure[pixel]), table[class_id].dominant_priority)
            else:
                self.skipped[class_id] += 1


def make_cloud(header, size, *, spacing):
    """An organised cloud of a camera that looks down: columns go along x from 0.5 m on, rows along y."""
    height, width = size
    x, y = 0.5 + spacing * np.arange(width), spacing * (np.arange(height) - height / 2)
    points = np.zeros((height, width, 3), np.float32)
    points[..., 0], points[..., 1] = x + spacing / 2, y[:, None] + spacing / 2
    fields = [PointField(name=name, offset=4 * i, datatype=PointField.FLOAT32, count=1) for i, name in enumerate("xyz")]
    cloud = PointCloud2(header=header, height=height, width=width, fields=fields, point_step=12, row_step=12 * width)
    cloud.data = points.tobytes()
    return cloud


def read_cloud(cloud):
    """The points, float32 [n, 3]."""
    return np.frombuffer(cloud.data, np.float32).reshape(-1, 3)
