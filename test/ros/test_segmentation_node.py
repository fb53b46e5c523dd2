"""The segmentation node at work: masks, confidence, labels, detections, and what nav2's layer subscribes to."""

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("vision_msgs")

from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2DArray, LabelInfo

SCRIPT = str(Path(__file__).with_name("segmentation_process.py"))
NAME = "/segmentation"
LATCHED = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.RELIABLE, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
DEFAULTS = ["red object", "yellow object", "green object", "blue object"]


def scene():
    """A red and a blue disc on grey: RGB uint8 [240, 320, 3]."""
    rgb = np.full((240, 320, 3), 110, np.uint8)
    cv2.circle(rgb, (90, 120), 55, (200, 20, 20), -1)
    cv2.circle(rgb, (235, 120), 50, (20, 40, 200), -1)
    return rgb


@pytest.fixture(scope="module")
def node(start):
    node = start(command=[SCRIPT])
    yield node
    assert node.process.poll() is None, node.log


@pytest.fixture
def listen(peer):
    inboxes = []

    def listen(msg_type, name, qos=50):
        inboxes.append(peer.subscribe(msg_type, f"{NAME}/{name}", qos))
        return inboxes[-1]

    yield listen
    peer.unsubscribe(*inboxes)


@pytest.fixture(autouse=True)
def defaults(peer, node):
    yield
    values = {"method": "clip_diy", "background": "found", "threshold": 0.0, "prompts": DEFAULTS}
    assert peer.set_parameters(NAME, **values) == (True, "")


@pytest.fixture
def labels(listen):
    """The announced label set by id, as `labels()`; None before there is one."""
    inbox = listen(LabelInfo, "label_info", LATCHED)

    def latest():
        return {c.class_id: c.class_name for c in inbox.messages[-1].class_map} if inbox.messages else None

    return latest


def pixels(msg):
    return np.frombuffer(msg.data, np.uint8).reshape(msg.height, msg.width, -1)


def test_a_late_listener_learns_the_labels_before_any_frame(node, labels, wait_for):
    assert wait_for(labels) == dict(enumerate(DEFAULTS))


def test_every_output_tells_the_same(peer, node, listen, labels, wait_for):
    kinds = [(Image, "mask"), (Image, "confidence"), (Detection2DArray, "detections"), (Image, "overlay")]
    inboxes = [listen(*kind) for kind in (*kinds, (CompressedImage, "overlay/compressed"))]
    wait_for(labels)
    asked, (mask, confidence, detections, overlay, compressed) = peer.ask_all(inboxes, lambda: peer.image(scene()))
    assert all(msg.header == asked.header for msg in (mask, confidence, detections, overlay, compressed))
    assert (mask.encoding, confidence.encoding) == ("mono8", "mono8")
    ids, sure = pixels(mask)[..., 0], pixels(confidence)[..., 0]
    assert ids.shape == sure.shape == (240, 320)
    names = labels()
    assert names[int(ids[120, 90])] == "red object"
    assert names[int(ids[120, 235])] == "blue object"
    assert ids[5, 5] == 255
    assert (sure[ids == 255] == 0).all()
    found = {d.results[0].hypothesis.class_id: d for d in detections.detections}
    assert set(found) <= set(DEFAULTS)
    red = found["red object"]
    assert abs(red.bbox.center.position.x - 90) < 25
    x, y = (int(v) for v in (red.bbox.center.position.x, red.bbox.center.position.y))
    inside = sure[y - 20 : y + 20, x - 20 : x + 20].mean() / 255
    assert red.results[0].hypothesis.score == pytest.approx(inside, abs=0.15)
    assert pixels(overlay).shape == (240, 320, 3)
    assert cv2.imdecode(np.frombuffer(compressed.data, np.uint8), cv2.IMREAD_COLOR).shape == (240, 320, 3)


def test_navs_layer_gets_what_it_subscribes_to(peer, node, listen, wait_for):
    """Its semantic segmentation layer: sensor data QoS for two mono8 images of one stamp; labels latched."""
    images = [listen(Image, "mask", qos_profile_sensor_data), listen(Image, "confidence", qos_profile_sensor_data)]
    info = listen(LabelInfo, "label_info", LATCHED)
    wait_for(lambda: info.messages)
    _, (mask, confidence) = peer.ask_all(images, lambda: peer.image(scene()))
    assert (mask.height, mask.width, mask.encoding) == (confidence.height, confidence.width, confidence.encoding)
    known = {c.class_id for c in info.messages[-1].class_map}
    assert set(np.unique(pixels(mask)).tolist()) <= known | {255}


@pytest.mark.parametrize("method", ["clip_diy", "maskclip", "clip_dinoiser"])
def test_without_a_background_every_pixel_has_a_label(method, peer, node, listen, wait_for):
    mask = listen(Image, "mask")
    assert peer.set_parameters(NAME, method=method, background="none") == (True, "")
    wait_for(lambda: 255 not in pixels(peer.ask(mask, lambda: peer.image(scene()))[1]))


def test_a_threshold_of_one_leaves_what_is_certain(peer, node, listen, wait_for):
    images = [listen(Image, "mask"), listen(Image, "confidence")]
    assert peer.set_parameters(NAME, threshold=1.0, background="prompt") == (True, "")

    def only_certain():
        _, answers = peer.ask_all(images, lambda: peer.image(scene()))
        mask, confidence = map(pixels, answers)
        return (mask == 255).any() and set(np.unique(confidence[mask != 255]).tolist()) <= {255}

    wait_for(only_certain)


def test_the_next_frame_follows_the_prompts_and_ids_stay(peer, node, listen, labels, wait_for):
    mask = listen(Image, "mask")
    assert wait_for(labels)[0] == "red object"
    assert peer.set_parameters(NAME, prompts=["blue circle", "red object"]) == (True, "")
    wait_for(lambda: "blue circle" in (labels() or {}).values())
    assert labels() == {0: "red object", 4: "blue circle"}  # 1 to 3 rest
    _, answer = peer.ask(mask, lambda: peer.image(scene()))
    assert set(np.unique(pixels(answer)).tolist()) <= {0, 4, 255}


def test_prompts_and_life_cycle(peer, spawn, listen, labels, wait_for):
    """Set while unconfigured they are used at configure, set while inactive announced; then a shutdown."""
    name = "/other/segmentation"
    node = spawn("-r", "__ns:=/other", "-p", "autostart:=false", command=[SCRIPT])
    inbox = peer.subscribe(LabelInfo, f"{name}/label_info", LATCHED)

    def announced():
        return [c.class_name for c in inbox.messages[-1].class_map] if inbox.messages else []

    assert peer.set_parameters(name, prompts=["green star"]) == (True, "")
    assert inbox.messages == type(inbox.messages)()
    assert peer.change_state("configure", name)
    wait_for(lambda: announced() == ["green star"])
    assert peer.set_parameters(name, prompts=["pink ring", "green star"]) == (True, "")
    wait_for(lambda: announced() == ["pink ring", "green star"])
    assert peer.change_state("activate", name)
    assert peer.set_parameters(name, prompts=["white cross"]) == (True, "")
    assert node.end() == 0
    assert "Traceback" not in node.log
    peer.unsubscribe(inbox)


def test_prompts_from_the_command_line(peer, spawn, wait_for):
    spawn("-r", "__ns:=/third", "-p", "prompts:=['pink ring', 'white cross']", command=[SCRIPT])
    inbox = peer.subscribe(LabelInfo, "/third/segmentation/label_info", LATCHED)
    wait_for(lambda: inbox.messages)
    assert [c.class_name for c in inbox.messages[-1].class_map] == ["pink ring", "white cross"]
    peer.unsubscribe(inbox)
