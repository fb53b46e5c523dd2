"""The segmentation node to the pixel, with heads that give every prompt a stripe of the bright part of the image."""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from waiting import PATIENCE_S

pytest.importorskip("vision_msgs")

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import QoSDurabilityPolicy, QoSHistoryPolicy, QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2DArray, LabelInfo

SCRIPT = str(Path(__file__).with_name("striped_process.py"))
NAME = "/segmentation"
PROMPTS = ["car", "cup", "cow", "cat"]
# What nav2's semantic_segmentation_layer asks for (kiwicampus/semantic_segmentation_layer): mask and confidence with
# rmw_qos_profile_sensor_data at a depth of 50, joined where their stamps are equal; labels latched at a depth of 5.
SENSOR_DATA = QoSProfile(
    history=QoSHistoryPolicy.KEEP_LAST,
    depth=50,
    reliability=QoSReliabilityPolicy.BEST_EFFORT,
    durability=QoSDurabilityPolicy.VOLATILE,
)
LATCHED = QoSProfile(
    history=QoSHistoryPolicy.KEEP_LAST,
    depth=5,
    reliability=QoSReliabilityPolicy.RELIABLE,
    durability=QoSDurabilityPolicy.TRANSIENT_LOCAL,
)


def scene(size=(120, 160)):
    """Dark above and bright below: RGB uint8 [H, W, 3]."""
    rgb = np.full((*size, 3), 30, np.uint8)
    rgb[size[0] // 2 :] = 200
    return rgb


def stripes(ids=(0, 1, 2, 3), size=(120, 160)):
    """The mask of `scene`."""
    expected = np.full(size, 255, np.uint8)
    expected[size[0] // 2 :] = np.repeat(np.uint8(ids), size[1] // len(ids))
    return expected


@pytest.fixture(scope="module")
def node(start):
    values = ("-p", "idle_priority:=false", "-p", f"prompts:={PROMPTS}")
    node = start(*values, command=[SCRIPT, "0", "0"])
    yield node
    assert node.process.poll() is None, node.log


@pytest.fixture
def listen(peer, node):
    inboxes = []

    def listen(msg_type, topic, qos=50):
        inboxes.append(peer.subscribe(msg_type, topic if topic.startswith("/") else f"{NAME}/{topic}", qos))
        return inboxes[-1]

    yield listen
    peer.unsubscribe(*inboxes)


@pytest.fixture(autouse=True)
def defaults(peer, node):
    yield
    values = {"method": "clip_diy", "background": "found", "threshold": 0.0, "min_area": 0.001, "prompts": PROMPTS}
    assert peer.set_parameters(NAME, **values) == (True, "")


def pixels(msg):
    return np.frombuffer(msg.data, np.uint8).reshape(msg.height, msg.step)


def names(info):
    return {c.class_id: c.class_name for c in info.class_map}


def regions(msg):
    """(prompt, score, centre, size) of each detection, from left to right."""
    found = []
    for detection in msg.detections:
        (result,) = detection.results
        box = detection.bbox
        place = (box.center.position.x, box.center.position.y, box.size_x, box.size_y)
        found.append((result.hypothesis.class_id, round(result.hypothesis.score, 3), place))
    return sorted(found, key=lambda entry: entry[2])


def test_every_output_describes_the_same_frame(peer, listen):
    topics = {"mask": Image, "confidence": Image, "overlay": Image, "overlay/compressed": CompressedImage}
    inboxes = [listen(msg_type, name) for name, msg_type in {"detections": Detection2DArray, **topics}.items()]
    asked, (detections, mask, confidence, overlay, compressed) = peer.ask_all(inboxes, lambda: peer.image(scene()))
    assert all(msg.header == asked.header for msg in (detections, mask, confidence, overlay, compressed))
    assert [(m.encoding, m.height, m.width, m.step) for m in (mask, confidence)] == [("mono8", 120, 160, 160)] * 2
    np.testing.assert_array_equal(pixels(mask), stripes())
    np.testing.assert_array_equal(pixels(confidence), np.where(stripes() == 255, 0, 51))  # 0.2 of 255
    assert regions(detections) == [(prompt, 0.2, (20 + 40 * i, 90, 40, 60)) for i, prompt in enumerate(PROMPTS)]
    assert all(d.header == asked.header and d.id == "" for d in detections.detections)
    assert (overlay.encoding, overlay.height, overlay.width) == ("bgr8", 120, 160)
    picture = pixels(overlay).reshape(120, 160, 3)
    assert (picture[:60] == 30).mean() > 0.8  # what has no label stays as it is, but for the names
    assert len({tuple(picture[65, 20 + 40 * i]) for i in range(4)} | {(200, 200, 200)}) == 5
    assert compressed.format.endswith("jpeg compressed bgr8")


@pytest.mark.parametrize("size", [(1, 4), (3, 400), (480, 640)])
def test_masks_have_the_size_of_their_frame(size, peer, listen):
    inboxes = [listen(Image, "mask"), listen(Image, "confidence")]
    _, answers = peer.ask_all(inboxes, lambda: peer.image(scene(size)))
    for answer in answers:
        assert (answer.height, answer.width, answer.step, len(answer.data)) == (*size, size[1], size[0] * size[1])
    np.testing.assert_array_equal(pixels(answers[0]), stripes(size=size))


@pytest.mark.parametrize(
    ("values", "mask", "sure", "count"),
    [
        ({"method": "maskclip"}, stripes(), 102, 4),
        ({"background": "none"}, np.repeat(np.uint8([0, 1, 2, 3]), 40)[None].repeat(120, 0), 51, 4),
        ({"threshold": 0.3}, np.full((120, 160), 255, np.uint8), 0, 0),
        ({"threshold": 0.3, "method": "clip_dinoiser"}, stripes(), 153, 4),
        ({"min_area": 0.2}, stripes(), 51, 0),  # a stripe is an eighth
    ],
)
def test_live_parameters_hold_from_the_next_frame_on(values, mask, sure, count, peer, listen):
    inboxes = [listen(Image, "mask"), listen(Image, "confidence"), listen(Detection2DArray, "detections")]
    assert peer.set_parameters(NAME, **values) == (True, "")
    frame = peer.image(scene())
    _, (got, confidence, detections) = peer.ask_all(inboxes, lambda: frame)
    np.testing.assert_array_equal(pixels(got), mask)
    np.testing.assert_array_equal(pixels(confidence), np.where(mask == 255, 0, sure))
    assert len(detections.detections) == count


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"clip": "clip_vitb16"}, ("clip", "read-only")),
        ({"clip_weights": "/x"}, ("clip_weights", "read-only")),
        ({"dinoiser_weights": "/x"}, ("dinoiser_weights", "read-only")),
        ({"head_weights": "/x"}, ("head_weights", "read-only")),
        ({"backbone": "dino_vits8"}, ("backbone", "read-only")),
        ({"device": "cuda"}, ("device", "read-only")),
        ({"idle_priority": True}, ("idle_priority", "read-only")),
        ({"method": "found"}, ("method", "found", "clip_diy, maskclip, clip_dinoiser")),
        ({"background": "sky"}, ("background", "sky", "found, prompt, none")),
        ({"threshold": 1.5}, ("threshold", "1.5")),
        ({"threshold": float("nan")}, ("threshold", "nan")),
        ({"min_area": -0.1}, ("min_area", "-0.1")),
        ({"prompts": ["dog"], "method": "found"}, ("method", "found")),  # all or nothing
        ({"prompts": ["dog", ""], "method": "maskclip"}, ("prompts", "empty")),
        ({"prompts": ["dog"], "clip": "clip_vitb16"}, ("clip", "read-only")),
    ],
)
def test_a_bad_set_is_refused_with_its_reason_and_changes_nothing(values, words, peer, node, listen):
    before = peer.get_parameters(*values, node=NAME)
    successful, reason = peer.set_parameters(NAME, **values)
    assert not successful
    assert all(word in reason for word in words), reason
    assert peer.get_parameters(*values, node=NAME) == before
    _, answers = peer.ask_all([listen(Image, "mask"), listen(Image, "confidence")], lambda: peer.image(scene()))
    np.testing.assert_array_equal(pixels(answers[0]), stripes())
    np.testing.assert_array_equal(pixels(answers[1]), np.where(stripes() == 255, 0, 51))


def test_labels_are_there_without_any_frame_and_for_whoever_comes_late(start, peer, listen, wait_for):
    name = "/fresh"
    start(
        "-r", "__node:=fresh", "-r", "image:=fresh_image", "-r", "/diagnostics:=/diagnostics_fresh",
        "-p", "prompts:=['pink ring', 'white cross']", "-p", "threshold:=0.25", command=[SCRIPT, "0", "0"],
    )  # fmt: skip
    for _ in range(2):
        info = wait_for(listen(LabelInfo, f"{name}/label_info", LATCHED).messages.copy)[-1]
        assert names(info) == {0: "pink ring", 1: "white cross"}
        assert info.threshold == pytest.approx(0.25)
        assert (info.header.stamp.sec, info.header.stamp.nanosec) == (0, 0)
    assert peer.set_parameters(name, prompts=["white cross", "cup"]) == (True, "")

    def late():
        inbox = listen(LabelInfo, f"{name}/label_info", LATCHED)
        wait_for(lambda: inbox.messages)
        return names(inbox.messages[-1]) == {1: "white cross", 2: "cup"}

    wait_for(late)


def test_navs_costmap_layer_is_served(peer, listen, wait_for):
    images = [listen(Image, name, SENSOR_DATA) for name in ("mask", "confidence")]
    info = listen(LabelInfo, "label_info", LATCHED)
    wait_for(lambda: info.messages)
    classes = {c.class_name: c.class_id for c in info.messages[-1].class_map}
    frame, (mask, confidence) = peer.ask_all(images, lambda: peer.image(scene()))
    assert mask.header == confidence.header == frame.header
    assert (mask.encoding, confidence.encoding) == ("mono8", "mono8")
    assert (mask.width, mask.height) == (confidence.width, confidence.height) == (frame.width, frame.height)
    assert len(mask.data) == len(confidence.data) == mask.width * mask.height  # read without regard to the step
    assert set(mask.data) == {*classes.values(), 255}  # ids without a class are left out of the costmap
    assert set(classes) == set(PROMPTS)


def test_nobody_listening_means_no_camera_and_no_work(peer, node, listen, facts, wait_for):
    listen(LabelInfo, "label_info", LATCHED)  # the labels alone are no reason to look
    publisher = peer.publisher(Image)
    wait_for(lambda: peer.node.count_subscribers("/image") == 0 and facts().get("state") == "idle: nobody subscribes")
    received = facts()["received"]
    for topic, msg_type in (
        ("mask", Image),
        ("confidence", Image),
        ("detections", Detection2DArray),
        ("overlay", Image),
    ):
        publisher.publish(peer.image(scene()))
        inbox = listen(msg_type, topic)
        wait_for(lambda: peer.node.count_subscribers("/image") == 1)
        peer.node.destroy_subscription(inbox.subscription)
        wait_for(lambda: peer.node.count_subscribers("/image") == 0)
    reports = listen(DiagnosticArray, "/diagnostics")
    wait_for(lambda: len(reports.messages) > 1)  # said after the last frame
    assert facts()["received"] == received


def test_diagnostics_tell_the_model_and_how_many_prompts(peer, node, facts, wait_for):
    wait_for(lambda: facts().get("prompts") == "4")
    assert (facts()["clip"], facts()["clip_weights"], facts()["dinoiser_weights"]) == ("tiny_clip", *["registered"] * 2)
    assert peer.set_parameters(NAME, prompts=["car"]) == (True, "")
    wait_for(lambda: facts()["prompts"] == "1")


def test_a_frame_that_fails_is_counted_and_the_next_one_answered(peer, node, listen, facts, wait_for):
    bad, mask = scene(), listen(Image, "mask")
    bad[0, 0] = (1, 2, 3)
    peer.ask(mask, lambda: peer.image(scene()))
    for _ in range(3):
        peer.publisher(Image).publish(peer.image(bad))
    wait_for(lambda: int(facts().get("dropped.processing_error", 0)) > 0)
    assert "the heads do not like this frame" in node.log
    _, answer = peer.ask(mask, lambda: peer.image(scene()))
    np.testing.assert_array_equal(pixels(answer), stripes())


@pytest.mark.skipif(sys.platform != "linux", reason="priorities per thread are Linux's")
def test_it_gives_way_to_other_processes_unless_told_otherwise(node, spawn, wait_for):
    willing = spawn("-r", "__node:=willing", "-p", "autostart:=false", command=[SCRIPT, "0", "0"], patient=False)

    def policies(process):
        tasks = Path(f"/proc/{process.pid}/task").iterdir()
        return {os.sched_getscheduler(int(task.name)) for task in tasks}

    assert os.SCHED_IDLE not in policies(node.process)
    wait_for(lambda: policies(willing.process) == {os.SCHED_IDLE})
    assert willing.end((signal.SIGINT, signal.SIGTERM)) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-p", "prompts:=['car', 'CAR']"), ("prompts", "different", "'CAR'")),
        (("-p", "prompts:=['']"), ("prompts", "empty")),
        (("-p", "prompts:=car"), ("prompts", "STRING")),
        (("-p", "templates:=['a photo']"), ("template", "'a photo'")),
        (("-p", "method:=yolo"), ("method", "yolo", "clip_diy, maskclip, clip_dinoiser")),
    ],
)
def test_a_bad_start_value_ends_the_start_with_one_line(arguments, words, spawn):
    node = spawn(*arguments, command=[SCRIPT, "0", "0"])
    assert node.process.wait(PATIENCE_S) == 1
    assert "cannot start" in node.log
    assert "Traceback" not in node.log
    assert all(word in node.log for word in words), node.log
