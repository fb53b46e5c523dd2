"""The launch file of several cameras in one process."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("launch", reason="launch is not installed here")
pytest.importorskip("launch_ros", reason="launch_ros is not installed here")
sys.path.insert(0, str(Path(__file__).parent))
from launched import PROFILE, call, parameters, wait_for
from lifecycle_msgs.srv import GetState
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray
from waiting import PATIENCE_S


@pytest.fixture
def start(start_file):
    return lambda *arguments, **environment: start_file("multi_camera.launch.py", *arguments, **environment)


def test_the_preset_as_it_is(start, peer):
    launched = start("device:=cpu", "autostart:=false")
    got = parameters(peer, "/perception", ["cameras", "front.image", "front.methods", "rear.methods"], launched)
    assert {name: list(value) if name != "front.image" else value for name, value in got.items()} == {
        "cameras": ["front", "rear"],
        "front.image": "/front/image_raw",
        "front.methods": ["found", "discovery"],
        "rear.methods": ["found"],
    }
    assert parameters(peer, "/rear/found", ["mode", "device"], launched) == {"mode": "single", "device": "cpu"}
    assert parameters(peer, "/front/found", ["mode"], launched) == {"mode": "multi"}
    state = call(peer, GetState, "/front/discovery/get_state", GetState.Request(), launched).current_state
    assert state.label == "unconfigured"
    assert launched.child_environment()["FASTRTPS_DEFAULT_PROFILES_FILE"] == PROFILE
    assert launched.end() == 0


def test_weights_reach_every_node(start, peer, tmp_path):
    weights = tmp_path / "vit.safetensors"
    weights.touch()
    launched = start("cameras:=left, right", "methods:=found", f"weights:={weights}", "autostart:=false")
    for camera in ("left", "right"):
        assert parameters(peer, f"/{camera}/found", ["weights"], launched) == {"weights": str(weights)}
    assert launched.end() == 0


def test_arguments_reach_every_node_and_frames_become_detections(start, peer):
    launched = start("cameras:=left, right", "methods:=found", "device:=cpu")
    inboxes = {name: [] for name in ("left", "right")}
    publishers = {}
    for name, inbox in inboxes.items():
        peer.create_subscription(Detection2DArray, f"/{name}/found/detections", inbox.append, 1)
        publishers[name] = peer.create_publisher(Image, f"/{name}/image_raw", 1)
    image = Image(height=48, width=64, step=192, encoding="rgb8", data=bytes(48 * 64 * 3))

    def answered():
        for name, publisher in publishers.items():
            image.header.stamp, image.header.frame_id = peer.get_clock().now().to_msg(), name
            publisher.publish(image)
        return all(inboxes.values())

    wait_for(answered, launched)
    for name, inbox in inboxes.items():
        assert {msg.header.frame_id for msg in inbox} == {name}
    assert launched.end() == 0


@pytest.mark.parametrize(
    ("argument", "complaint"),
    [
        ("params_file:=/nowhere.yaml", "params_file must be an existing file, got '/nowhere.yaml'"),
        ("cameras:=front,front", "cameras must have different names"),
        ("methods:=lost", "methods must be different ones of found, discovery, segmentation"),
    ],
)
def test_bad_arguments_are_named(start, argument, complaint, peer):
    launched = start(argument)
    wait_for(lambda: complaint in launched.log, launched)
    assert launched.process.wait(PATIENCE_S) is not None
