"""Rooms of known depth for a locate node, and how its answers compare with them."""

from dataclasses import replace

import numpy as np
from depth_peer import HALL

from objloc_ros.metrics.boxes import Boxes3D, box_iou_3d
from objloc_ros.nodes.locate import to_matrix
from objloc_ros.ops.point_clouds import deproject, transform
from objloc_ros.ops.regions import extent
from objloc_ros.scenes.room import random_room, render_room

LEAST_PIXELS = 400
"""Objects of fewer pixels in an image of 320 x 240 are hardly seen."""


class Scene:
    """A room as the camera of `HALL` sees it, and the visible box of each object.

    Attributes:
        view: What it sees.
        numbers: Of the objects that are seen well, as in `view.identities`.
        truth: Their visible parts in their own axes, in the world.
        boxes: Around them in the image.
    """

    def __init__(self, seed, camera):
        rng = np.random.default_rng(seed)
        self.room = replace(random_room(rng, camera), height=HALL.height, pitch=HALL.pitch)
        self.view = render_room(rng, self.room)
        counts = np.bincount(self.view.identities.ravel(), minlength=len(self.room.solids) + 1)
        least = LEAST_PIXELS * camera.width * camera.height / (320 * 240)
        self.numbers = [number for number in range(1, len(counts)) if counts[number] >= least]
        self.boxes = [extent(self.view.identities == number) for number in self.numbers]
        centers, sizes, turns = zip(*map(self._visible_box, self.numbers), strict=True)
        self.truth = Boxes3D(np.array(centers), np.array(sizes), np.array(turns))

    def _visible_box(self, number):
        """Centre, sizes and rotation of the box around the pixels of an object, along its own axes."""
        solid = self.room.solids[number - 1]
        points = deproject(self.view.depth_m, self.room.camera, self.view.identities == number)
        own = transform(points, self.room.rotation, self.room.translation) @ solid.rotation
        low, high = own.min(0), own.max(0)
        return solid.rotation @ ((low + high) / 2), high - low, solid.rotation

    def instances(self):
        """Instance mask in the order of `numbers`, uint16 [H, W]."""
        ids = np.zeros(self.view.identities.shape, np.uint16)
        for index, number in enumerate(self.numbers):
            ids[self.view.identities == number] = index + 1
        return ids


def read_boxes(answer):
    """The boxes of a Detection3DArray."""
    boxes = [detection.bbox for detection in answer.detections]
    centers = [(b.center.position.x, b.center.position.y, b.center.position.z) for b in boxes]
    sizes = [(b.size.x, b.size.y, b.size.z) for b in boxes]
    turns = [to_matrix(b.center.orientation) for b in boxes]
    return Boxes3D(np.reshape(centers, (-1, 3)), np.reshape(sizes, (-1, 3)), np.reshape(turns, (-1, 3, 3)))


def compare(found, truth):
    """Distances of the centres in metres, and IoUs of the volumes, one for each object."""
    distances = np.linalg.norm(found.centers - truth.centers, axis=1)
    return distances, np.diagonal(box_iou_3d(found, truth))
