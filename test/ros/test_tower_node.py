"""The segmentation node with MobileCLIP2 of the true size, its numbers random: the parameter `clip`, prompts live."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tower_making import build_reference

pytest.importorskip("vision_msgs")

from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import Image
from vision_msgs.msg import LabelInfo

SCRIPT = str(Path(__file__).with_name("segmentation_process.py"))
NAME = "/segmentation"
LATCHED = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.RELIABLE, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
PROMPTS = ["red car", "traffic cone"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("towers") / "open_clip_model.safetensors"
    state = build_reference("mobileclip2_s0").state_dict()
    save_file({key: value.half() if value.is_floating_point() else value for key, value in state.items()}, path)
    yield path
    path.unlink()  # 150 MB, which pytest would keep


@pytest.fixture(scope="module")
def node(start, weights):
    values = {"clip": "mobileclip2_s0", "clip_weights": str(weights), "method": "maskclip", "background": "none"}
    chosen = [word for name, value in values.items() for word in ("-p", f"{name}:={value}")]
    node = start(*chosen, "-p", f"prompts:={PROMPTS}", command=[SCRIPT])
    yield node
    assert node.process.poll() is None, node.log


def test_it_labels_every_pixel_and_follows_prompts(peer, node, wait_for):
    mask, info = peer.subscribe(Image, f"{NAME}/mask"), peer.subscribe(LabelInfo, f"{NAME}/label_info", LATCHED)

    def names():
        return {c.class_id: c.class_name for c in info.messages[-1].class_map} if info.messages else {}

    def ask():
        rgb = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
        answer = peer.ask(mask, lambda: peer.image(rgb))[1]
        return set(np.unique(np.frombuffer(answer.data, np.uint8)).tolist())

    wait_for(lambda: names() == dict(enumerate(PROMPTS)), "the first prompts")
    assert ask() <= {0, 1}
    assert peer.set_parameters(NAME, prompts=["blue cup"]) == (True, "")
    wait_for(lambda: names() == {2: "blue cup"}, "the next prompt")
    assert ask() == {2}
    accepted, reason = peer.set_parameters(NAME, prompts=["car " * 90])
    assert not accepted
    assert "at most 77 are read" in reason
    assert peer.set_parameters(NAME, method="clip_dinoiser") == (True, "")  # DINO's correlations, without a head
    assert ask() == {2}
    peer.unsubscribe(mask, info)
