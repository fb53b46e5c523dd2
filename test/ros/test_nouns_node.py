"""The segmentation node with lite_clip: nouns change while it runs, and one that is unknown changes nothing."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("vision_msgs")

from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import Image
from vision_msgs.msg import LabelInfo

SCRIPT = str(Path(__file__).with_name("segmentation_process.py"))
NAME = "/segmentation"
LATCHED = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.RELIABLE, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)


@pytest.fixture(scope="module")
def node(start):
    node = start("-p", "clip:=lite_clip", "-p", "prompts:=[dog, cat]", command=[SCRIPT])
    yield node
    assert node.process.poll() is None, node.log


def test_an_unknown_noun_is_refused_and_the_earlier_ones_stay(peer, node, wait_for):
    inbox = peer.subscribe(LabelInfo, f"{NAME}/label_info", LATCHED)
    masks = peer.subscribe(Image, f"{NAME}/mask", 50)

    def names():
        return {entry.class_name for entry in inbox.messages[-1].class_map} if inbox.messages else set()

    assert wait_for(lambda: {"dog", "cat"} <= names())
    accepted, reason = peer.set_parameters(NAME, prompts=["dgo", "cat"])
    assert not accepted
    assert "does not know 'dgo'; nearest known: 'dog'" in reason
    accepted, reason = peer.set_parameters(NAME, prompts=["red car", "blue car"])
    assert not accepted
    assert "are the same to lite_clip" in reason
    assert peer.set_parameters(NAME, prompts=["cat", "traffic cones"]) == (True, "")
    assert wait_for(lambda: {"cat", "traffic cones"} <= names())
    assert "dog" not in names()
    _, mask = peer.ask(masks, lambda: peer.image(np.full((96, 128, 3), 120, np.uint8)))
    assert (mask.height, mask.width) == (96, 128)
    peer.unsubscribe(inbox, masks)
