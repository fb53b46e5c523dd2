"""The locate node over DDS in rooms whose truth is known: how far its boxes are off, and how much of them is right."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("vision_msgs")
from depth_peer import DepthPeer, describe_camera, read_points
from locate_truth import Scene, compare, read_boxes

from objloc_ros.scenes.depth_faults import spoil
from objloc_ros.scenes.room import default_camera

SCRIPT = str(Path(__file__).with_name("locate_process.py"))
SEEDS = range(6)


@pytest.fixture(scope="module")
def world(start, peer):
    node = start("-p", "target_frame:=map", command=[SCRIPT])
    world = DepthPeer(peer)
    yield world
    world.close()
    assert node.process.poll() is None, node.log


def ask(world, wait_for, scene, depth, inbox=None):
    """What the node says of all objects of a scene at once, with ids."""
    return world.ask(
        wait_for,
        inbox,
        depth=depth,
        info=describe_camera(scene.room.camera),
        boxes=scene.boxes,
        mask=scene.instances(),
        track=tuple(str(number) for number in scene.numbers),
    )


@pytest.mark.parametrize("distorted", [False, True], ids=["pinhole", "distorted"])
@pytest.mark.parametrize(
    ("faults", "half_m", "most_m", "half_iou", "most_iou"),
    [("clean", 0.04, 0.1, 0.75, 0.4), ("all of these", 0.1, 0.3, 0.45, 0.15)],
)
def test_boxes_are_where_the_objects_stand(world, wait_for, distorted, faults, half_m, most_m, half_iou, most_iou):
    """Half of the objects, and nine in ten, are compared with what the camera sees of them: the rest is not guessed."""
    distances, ious = [], []
    for seed in SEEDS:
        scene = Scene(seed, default_camera(distorted=distorted))
        depth = spoil(np.random.default_rng(seed), scene.view.depth_m, faults)
        millimetres = np.nan_to_num(1000 * depth, posinf=0, neginf=0).round().astype(np.uint16)
        answer = ask(world, wait_for, scene, millimetres if seed % 2 else depth)
        assert answer.header.frame_id == "map"
        assert [detection.id for detection in answer.detections] == [str(number) for number in scene.numbers]
        off, iou = compare(read_boxes(answer), scene.truth)
        distances, ious = [*distances, *off], [*ious, *iou]
    assert len(distances) >= 20
    assert np.quantile(distances, 0.5) < half_m
    assert np.quantile(distances, 0.9) < most_m
    assert np.quantile(ious, 0.5) > half_iou
    assert np.quantile(ious, 0.1) > most_iou


def test_points_lie_on_the_objects(world, wait_for):
    scene = Scene(0, default_camera())
    points, objects = read_points(ask(world, wait_for, scene, scene.view.depth_m, world.points))
    assert sorted(set(objects.tolist())) == list(range(len(scene.numbers)))
    for index in range(len(scene.numbers)):
        own = (points[objects == index] - scene.truth.centers[index]) @ scene.truth.rotations[index]
        inside = (np.abs(own) <= scene.truth.sizes[index] / 2 + 0.005).all(axis=1)
        assert inside.mean() > 0.99
