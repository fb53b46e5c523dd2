"""The launch file of one camera."""

import sys
import time
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

pytest.importorskip("launch", reason="launch is not installed here")
pytest.importorskip("launch_ros", reason="launch_ros is not installed here")
import numpy as np
import torch
from launch import LaunchContext

sys.path.insert(0, str(Path(__file__).parent))
from launched import PROFILE, ROOT, call, parameters, wait_for
from lifecycle_msgs.srv import GetState
from safetensors.torch import save_file
from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import Detection2DArray, Detection3DArray
from waiting import PATIENCE_S

from objloc_ros.nodes import launching

spec = spec_from_file_location("objloc_launch", ROOT / "launch/objloc.launch.py")
launch_file = module_from_spec(spec)
spec.loader.exec_module(launch_file)


@pytest.fixture
def start(start_file):
    return lambda *arguments, **environment: start_file("objloc.launch.py", *arguments, **environment)


def test_arguments_reach_the_node(start, peer):
    launched = start("camera:=/front/image_raw", "device:=cpu", "image_transport:=compressed", "autostart:=false")
    got = parameters(peer, "/front/found", ["device", "image_transport", "autostart", "threshold"], launched)
    assert got == {"device": "cpu", "image_transport": "compressed", "autostart": False, "threshold": 0.5}
    state = call(peer, GetState, "/front/found/get_state", GetState.Request(), launched).current_state
    assert state.label == "unconfigured"
    assert launched.child_environment()["FASTRTPS_DEFAULT_PROFILES_FILE"] == PROFILE
    assert launched.end() == 0


def test_parameter_file_namespace_and_own_profile(start, peer, tmp_path):
    preset = tmp_path / "own.yaml"
    preset.write_text("/**/found:\n  ros__parameters: {threshold: 0.7, device: cpu, autostart: false}\n")
    own = {"FASTRTPS_DEFAULT_PROFILES_FILE": str(tmp_path / "own.xml")}
    (tmp_path / "own.xml").write_text(Path(PROFILE).read_text())
    launched = start("camera:=front/image", "namespace:=robot/eye", f"params_file:={preset}", **own)
    got = parameters(peer, "/robot/eye/found", ["threshold", "device"], launched)
    assert got == {"threshold": 0.7, "device": "cpu"}
    environment = launched.child_environment()
    assert environment["FASTRTPS_DEFAULT_PROFILES_FILE"] == own["FASTRTPS_DEFAULT_PROFILES_FILE"]
    assert "FASTDDS_DEFAULT_PROFILES_FILE" not in environment


def test_camera_frames_become_detections(start, peer, tmp_path):
    from objloc_ros.backbones.vit import build_vit

    vit = build_vit("tiny")
    weights, head = tmp_path / "vit.safetensors", tmp_path / "head.safetensors"
    save_file({key: value.contiguous() for key, value in vit.vit.state_dict().items()}, weights)
    save_file({"weight": torch.zeros(1, vit.embed_dim, 1, 1), "bias": torch.ones(1)}, head)
    preset = tmp_path / "own.yaml"
    preset.write_text(
        f"/**/found:\n  ros__parameters: {{weights: {weights}, head_weights: {head}, device: cpu, max_age_ms: 0.0}}\n"
    )
    launched = start("camera:=/front/image_raw", f"params_file:={preset}")
    inbox = []
    peer.create_subscription(Detection2DArray, "/front/found/detections", inbox.append, 1)
    publisher = peer.create_publisher(Image, "/front/image_raw", 1)
    image = Image(height=48, width=64, step=192, encoding="rgb8", data=bytes(48 * 64 * 3))
    image.header.frame_id = "front_optical"

    def answered():
        image.header.stamp = peer.get_clock().now().to_msg()
        publisher.publish(image)
        return inbox

    (detection,) = wait_for(answered, launched)[0].detections  # a head of constant 1 finds one object: everything
    assert inbox[0].header.frame_id == "front_optical"
    assert (detection.bbox.size_x, detection.bbox.size_y) == (64.0, 48.0)
    assert launched.end() == 0


@pytest.mark.parametrize(
    ("argument", "complaint"),
    [
        ("methods:=lost", "methods must be different ones of found, discovery, segmentation; got 'lost'"),
        ("methods:=found,found", "methods must be different ones of found, discovery, segmentation; got 'found,found'"),
        ("camera:=/", "camera must name an image topic such as /front/image_raw, got '/'"),
        ("params_file:=/nowhere.yaml", "params_file must be an existing file, got '/nowhere.yaml'"),
        ("autostart:=perhaps", '"autostart" provided value "perhaps" is not valid'),
        ("weights:=/nowhere.safetensors", "weights must be an existing file, got '/nowhere.safetensors'"),
        ("camera_info:=/front/camera_info", "camera_info is for the locate node, which depth starts: set depth, too"),
        ("target_frame:=base_link", "target_frame is for the locate node, which depth starts: set depth, too"),
        ("depth:=/", "depth must name an image topic such as /front/image_raw, got '/'"),
        ("head_weights:=/nowhere.safetensors", "head_weights must be an existing file, got '/nowhere.safetensors'"),
    ],
)
def test_bad_arguments_start_nothing_and_say_why(start, argument, complaint):
    launched = start(argument)
    assert launched.process.wait(PATIENCE_S) == 1
    assert complaint in launched.log
    assert "process started" not in launched.log


def test_weights_by_launch_argument(start, peer, tmp_path):
    weights = tmp_path / "vit.safetensors"
    weights.touch()
    launched = start("methods:=found,discovery", f"weights:={weights}", "autostart:=false")
    for node in ("found", "discovery"):
        assert parameters(peer, f"/camera/{node}", ["weights"], launched) == {"weights": str(weights)}
    assert launched.end() == 0


def publish_forever(peer, topics):
    """Publish messages of one stamp under their topics, again and again; returns what does so once."""
    publishers = {topic: peer.create_publisher(type(msg), topic, 1) for topic, msg in topics.items()}

    def publish():
        stamp = peer.get_clock().now().to_msg()
        for topic, msg in topics.items():
            msg.header.stamp = stamp
            publishers[topic].publish(msg)

    return publish


@pytest.mark.parametrize("method", ["found", "discovery"])
def test_with_depth_the_objects_of_the_first_method_get_places(start, peer, tmp_path, method):
    preset = tmp_path / "own.yaml"
    quick = "{device: cpu, max_age_ms: 0.0, max_wait_ms: 2000.0, min_range: 0.5, temporal: false}"
    preset.write_text(f"/**/{method}:\n  ros__parameters: {quick}\n/**/locate:\n  ros__parameters: {quick}\n")
    launched = start(
        "camera:=/front/image_raw", f"methods:={method}", "depth:=/front/aligned/image_raw", f"params_file:={preset}"
    )
    inbox = []
    peer.create_subscription(Detection3DArray, "/front/locate/detections", inbox.append, 1)
    pixels = np.full((96, 128, 3), 60, np.uint8)
    pixels[30:70, 40:90] = (250, 60, 30)
    depth = np.full((96, 128), 4000, np.uint16)
    depth[30:70, 40:90] = 2000
    info = CameraInfo(width=128, height=96, k=[100.0, 0, 63.5, 0, 100, 47.5, 0, 0, 1])
    publish = publish_forever(
        peer,
        {
            "/front/image_raw": Image(height=96, width=128, step=384, encoding="rgb8", data=pixels.tobytes()),
            "/front/aligned/image_raw": Image(height=96, width=128, step=256, encoding="16UC1", data=depth.tobytes()),
            "/front/aligned/camera_info": info,
        },
    )

    def placed():
        publish()
        time.sleep(0.05)
        return next((msg for msg in inbox if msg.detections), None)

    (place,) = {round(item.bbox.center.position.z) for item in wait_for(placed, launched).detections}
    assert place in (2, 4)
    assert parameters(peer, "/front/locate", ["min_range", "depth_transport"], launched) == {
        "min_range": 0.5,
        "depth_transport": "raw",
    }
    assert launched.end() == 0


def test_compressed_depth_is_taken_by_its_name(start, peer):
    launched = start("depth:=/aligned/image_raw/compressedDepth", "camera_info:=/info", "autostart:=false")
    assert parameters(peer, "/camera/locate", ["depth_transport", "inputs", "autostart"], launched) == {
        "depth_transport": "compressedDepth",
        "inputs": "both",
        "autostart": False,
    }
    assert launched.end() == 0


def test_two_nodes_take_their_own_presets(start, peer):
    launched = start("camera:=/front/image_raw", "methods:=found,discovery", "device:=cpu", "autostart:=false")
    got = parameters(peer, "/front/discovery", ["device", "autostart", "method", "idle_priority"], launched)
    assert got == {"device": "cpu", "autostart": False, "method": "maskcut", "idle_priority": True}
    assert parameters(peer, "/front/found", ["device", "threshold"], launched) == {"device": "cpu", "threshold": 0.5}
    assert launched.end() == 0


def test_a_detector_by_launch_arguments(start, peer, tmp_path):
    head = tmp_path / "detector.safetensors"
    head.touch()
    chosen = ("methods:=discovery", "method:=detector", f"head_weights:={head}", "autostart:=false")
    launched = start("camera:=/front/image_raw", *chosen)
    got = parameters(peer, "/front/discovery", ["method", "head_weights"], launched)
    assert got == {"method": "detector", "head_weights": str(head)}
    assert launched.end() == 0


@pytest.mark.parametrize("argument", ["method:=detector", "head_weights:=/nowhere.safetensors"])
def test_a_method_and_its_head_are_of_one_node(start, argument):
    launched = start("methods:=found,discovery", argument)
    assert launched.process.wait(PATIENCE_S) == 1
    assert f"{argument.partition(':=')[0]} is of one node, and methods are found, discovery: choose one" in launched.log


def test_prompts_by_launch_argument(start, peer):
    arguments = ("camera:=/front/image_raw", "methods:=segmentation", "prompts:=red circle, blue star")
    launched = start(*arguments, "device:=cpu", "autostart:=false")
    got = parameters(peer, "/front/segmentation", ["prompts", "method"], launched)
    assert {**got, "prompts": list(got["prompts"])} == {"prompts": ["red circle", "blue star"], "method": "clip_diy"}
    assert launched.end() == 0


@pytest.mark.parametrize("text", ["found", " found ", "[found]", "['found']"])
def test_methods_may_be_a_list(text):
    assert launch_file.parse_methods(text) == ["found"]
    assert launch_file.parse_methods("found, discovery") == ["found", "discovery"]


@pytest.mark.parametrize(
    ("camera", "namespace", "expected"),
    [
        ("/front/image_raw", "", "/front"),
        ("front/color/image_raw", "", "/front/color"),
        ("/image", "", "/"),
        ("/front/image_raw", "/robot/", "/robot"),
    ],
)
def test_namespace_is_the_cameras_unless_given(camera, namespace, expected):
    assert launch_file.choose_namespace(launch_file.parse_topic(camera), namespace) == expected


def test_own_fast_dds_profile_is_left_alone():
    context = LaunchContext()
    context.environment.pop("FASTRTPS_DEFAULT_PROFILES_FILE", None)
    context.environment["FASTDDS_DEFAULT_PROFILES_FILE"] = "/own.xml"
    assert launching.make_profile_actions(context, Path(PROFILE)) == []
