"""Polygons that the nodes of two cameras ignore, set at the start and while they run, around the real engine."""

import cv2
import numpy as np
import pytest
import yaml
from waiting import PATIENCE_S

pytest.importorskip("vision_msgs")

from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

RED, BLUE = (90, 90), (240, 170)
"""Centres of two discs."""
AROUND = {RED: "0.1,0.12 0.46,0.12 0.46,0.62 0.1,0.62", BLUE: "0.62,0.54 0.88,0.54 0.88,0.88 0.62,0.88"}
NODES = {"found": ("mask", 0), "discovery": ("instance_mask", 0), "segmentation": ("mask", 255)}
"""The map of each node, and what it holds where nothing is reported."""


def scene():
    rgb = np.random.default_rng(0).integers(100, 120, (240, 320, 3), np.uint8)
    cv2.circle(rgb, RED, 45, (200, 20, 20), -1)
    cv2.circle(rgb, BLUE, 30, (20, 40, 200), -1)
    return rgb


@pytest.fixture(scope="module")
def node(start, tmp_path_factory):
    """The camera `rear` ignores the blue disc from the start."""
    path = tmp_path_factory.mktemp("parameters") / "cameras.yaml"
    document = {
        "perception": {"cameras": ["front", "rear"], "methods": list(NODES)},
        "/rear/*": {"ignore": AROUND[BLUE]},
        "/**/discovery": {"temporal": False},
    }
    path.write_text(yaml.safe_dump({name: {"ros__parameters": values} for name, values in document.items()}))
    node = start("--params-file", str(path), command=["-m", "objloc_ros.nodes.perception"])
    yield node
    assert node.process.poll() is None, node.log


@pytest.fixture
def find(peer, node):
    """Return the centres that a node's next detections are near, and its map, of the same frame."""
    inboxes = {}

    def find(name):
        if name not in inboxes:
            topic, _ = NODES[name.rpartition("/")[2]]
            inboxes[name] = [
                peer.subscribe(Detection2DArray, f"{name}/detections"),
                peer.subscribe(Image, f"{name}/{topic}"),
            ]
        camera = name.split("/")[1]
        _, (detections, message) = peer.ask_all(inboxes[name], lambda: peer.image(scene()), f"/{camera}/image_raw")
        places = [(d.bbox.center.position.x, d.bbox.center.position.y) for d in detections.detections]
        dtype = np.uint16 if message.encoding == "mono16" else np.uint8
        pixels = np.frombuffer(message.data, dtype).reshape(message.height, message.width)
        return {disc for disc in (RED, BLUE) for place in places if np.hypot(*np.subtract(disc, place)) < 20}, pixels

    yield find
    for several in inboxes.values():
        peer.unsubscribe(*several)


@pytest.mark.parametrize("name", NODES)
def test_polygons_change_while_the_nodes_run(name, peer, find, wait_for):
    nothing = NODES[name][1]
    assert peer.set_parameters(f"/front/{name}", ignore="") == (True, "")
    wait_for(lambda: find(f"/front/{name}")[0] == {RED, BLUE})
    assert peer.set_parameters(f"/front/{name}", ignore=AROUND[RED]) == (True, "")
    wait_for(lambda: find(f"/front/{name}")[0] == {BLUE})
    _, pixels = find(f"/front/{name}")
    assert set(pixels[35:140, 40:140].ravel().tolist()) == {nothing}
    assert (pixels[150:190, 220:260] != nothing).any()
    assert peer.set_parameters(f"/front/{name}", ignore=f"{AROUND[RED]}; {AROUND[BLUE]}") == (True, "")
    wait_for(lambda: find(f"/front/{name}")[0] == set())


@pytest.mark.parametrize("name", NODES)
def test_each_camera_has_polygons_of_its_own(name, peer, find):
    assert peer.set_parameters(f"/front/{name}", ignore=AROUND[RED]) == (True, "")
    places, pixels = find(f"/rear/{name}")
    assert places == {RED}
    assert set(pixels[135:205, 205:275].ravel().tolist()) == {NODES[name][1]}


@pytest.mark.parametrize("name", NODES)
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0,0 1,1", "ignore: a polygon needs at least 3 corners, got 2: '0,0 1,1'"),
        ("0,0 320,0 320,240", "ignore: a corner must lie in [0, 1], as fractions of width and height; got '320,0'"),
        ("0,nan 1,0 1,1", "got '0,nan'"),
        ("bonnet", "ignore: a corner must be two numbers 'x,y', got 'bonnet'"),
    ],
)
def test_what_is_no_polygon_is_refused_with_the_reason(name, text, reason, peer, node):
    before = peer.get_parameters("ignore", node=f"/rear/{name}")
    successful, said = peer.set_parameters(f"/rear/{name}", ignore=text)
    assert not successful
    assert reason in said
    assert peer.get_parameters("ignore", node=f"/rear/{name}") == before == [AROUND[BLUE]]


def test_a_node_does_not_start_with_a_bad_polygon(spawn, wait_for):
    node = spawn("-r", "__node:=blind", "-p", "ignore:=0,0 1,1", command=["-m", "objloc_ros.nodes.found"])
    assert node.process.wait(PATIENCE_S) != 0
    assert "ignore: a polygon needs at least 3 corners, got 2" in node.log
    assert "Traceback" not in node.log
