"""The points of locate and the sample parameters under the rules of nav2's obstacle layer, over DDS."""

from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("vision_msgs")
from depth_peer import HALL, DepthPeer, describe_camera
from obstacle_layer import ObstacleLayer

from objloc_ros.ops.point_clouds import deproject, transform
from objloc_ros.ops.regions import extent
from objloc_ros.scenes.room import Room, Solid, default_camera, render_room

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = yaml.safe_load((ROOT / "config" / "nav2" / "voxel_locate.yaml").read_text())
LAYER = SAMPLE["local_costmap"]["local_costmap"]["ros__parameters"]["objects_layer"]
SCRIPT = str(Path(__file__).with_name("locate_process.py"))
CARTON = Solid("carton", (1.8, 0.2, 0.25), (0.4, 0.5, 0.5), 0.3)
FAR = Solid("carton", (5.0, -0.5, 0.5), (0.4, 0.5, 1.0), 0.0)
FLAT = Solid("carton", (1.8, -0.7, 0.015), (0.3, 0.3, 0.03), 0.0)


@pytest.fixture(scope="module")
def world(start, peer):
    node = start("-r", "__ns:=/camera", command=[SCRIPT])
    world = DepthPeer(peer, "/camera/locate", "/camera")
    yield world
    world.close()
    assert node.process.poll() is None, node.log


@pytest.fixture
def layer(peer):
    layer = ObstacleLayer(peer.node, LAYER, "objects", HALL.rotation, HALL.translation)
    yield layer
    layer.close()


@pytest.fixture
def show(world, layer, wait_for):
    """Show solids until the layer has a cloud of them; returns what is seen."""

    def show(*solids):
        room = Room(default_camera(320, 240), HALL.height, HALL.pitch, HALL.wall, solids)
        view = render_room(np.random.default_rng(0), room)
        masks = [view.identities == number + 1 for number in range(len(solids))]
        world.ask(
            wait_for,
            layer,
            depth=view.depth_m,
            info=describe_camera(room.camera),
            boxes=[extent(mask) for mask in masks],
            mask=view.identities.astype(np.uint16),
        )
        return room, view

    return show


def cells_of(room, view, number, resolution):
    points = deproject(view.depth_m, room.camera, view.identities == number)
    points = transform(points, room.rotation, room.translation)
    points = points[points[:, 2] >= LAYER["objects"]["min_obstacle_height"]]
    return {tuple(cell) for cell in np.floor(points[:, :2] / resolution).astype(int).tolist()}


def test_an_object_marks_the_cells_that_it_stands_on_and_nothing_else(show, layer):
    room, view = show(CARTON)
    true = cells_of(room, view, 1, layer.resolution)
    assert layer.frame == "camera"
    assert layer.cells() <= true
    assert len(layer.cells()) > 0.9 * len(true)


def test_when_it_has_gone_the_newest_cloud_holds_nothing(show, layer):
    show(CARTON)
    assert layer.cells()
    show()
    assert layer.cells() == set()


def test_what_is_too_flat_or_too_far_for_the_sample_does_not_mark(show, layer):
    show(FLAT)
    assert layer.cells() == set()
    show(FAR)
    assert layer.cells() == set()


def test_the_topic_of_the_sample_is_the_nodes(world, peer, wait_for):
    topic = LAYER["objects"]["topic"]
    wait_for(lambda: peer.node.count_publishers(topic) == 1)
    there = dict(peer.node.get_topic_names_and_types())
    assert there[topic] == ["sensor_msgs/msg/PointCloud2"]
