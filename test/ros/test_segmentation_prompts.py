"""Prompts that change between two frames: every mask belongs to one announced set, bad sets change nothing."""

import threading
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("vision_msgs")

from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import Image
from vision_msgs.msg import LabelInfo

SCRIPT = str(Path(__file__).with_name("segmentation_process.py"))
NAME = "/segmentation"
CHANGES = 200
MANY = QoSProfile(depth=1000, reliability=QoSReliabilityPolicy.RELIABLE, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)


def noise(seed):
    """A picture in which every prompt wins somewhere: RGB uint8 [120, 160, 3]."""
    blocks = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return blocks.repeat(20, axis=0).repeat(20, axis=1)


class Camera(threading.Thread):
    """Publishes pictures as fast as the node takes them, until it is stopped."""

    def __init__(self, peer):
        super().__init__(daemon=True)
        self.peer, self.stopping, self.sent = peer, threading.Event(), 0

    def run(self):
        publisher = self.peer.publisher(Image)
        while not self.stopping.wait(0.02):
            publisher.publish(self.peer.image(noise(self.sent)))
            self.sent += 1

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.join(10)


class Log:
    """Messages of one topic with the time at which they were published."""

    def __init__(self, peer, msg_type, topic, qos):
        self.entries = []
        self.subscription = peer.node.create_subscription(msg_type, f"{NAME}/{topic}", self.receive, qos)

    def receive(self, msg, info):
        self.entries.append((info["source_timestamp"], msg))


@pytest.fixture(scope="module")
def node(start):
    node = start("-p", "background:=none", "-p", "max_age_ms:=0.0", "-p", "idle_priority:=false", command=[SCRIPT])
    yield node
    assert node.process.poll() is None, node.log


@pytest.fixture
def logs(peer, node, wait_for):
    logs = Log(peer, LabelInfo, "label_info", MANY), Log(peer, Image, "mask", 1000)
    wait_for(lambda: logs[0].entries)
    yield logs
    peer.unsubscribe(*logs)


def stamp(msg):
    return msg.header.stamp.sec * 1_000_000_000 + msg.header.stamp.nanosec


def ids_of(info):
    return {c.class_id for c in info.class_map}


def names_of(info):
    return [c.class_name for c in info.class_map]


def shown(mask):
    return set(np.unique(np.frombuffer(mask.data, np.uint8)).tolist())


def last_before(entries, key, limit):
    return [msg for time_, msg in entries if key((time_, msg)) <= limit][-1]


def test_every_mask_belongs_to_the_set_announced_before_it(peer, logs, wait_for):
    """200 changes under load; consecutive sets share no prompt, hence no id, so that a mask of another set shows."""
    infos, masks = logs
    with Camera(peer):
        wait_for(lambda: masks.entries)
        for number in range(CHANGES):
            wanted = [f"red thing {number}", f"blue thing {number}"]
            assert peer.set_parameters(NAME, prompts=wanted) == (True, "")
            if number % 4:  # the others are overtaken at once, and some of them never announced
                wait_for(lambda wanted=wanted: names_of(infos.entries[-1][1]) == wanted)
        seen = len(masks.entries)
        wait_for(lambda: len(masks.entries) > seen + 3)
    assert all(not ids_of(one) & ids_of(other) for (_, one), (_, other) in pairwise(infos.entries))
    assert len(infos.entries) > 0.75 * CHANGES
    used = set()
    for published, mask in masks.entries:
        by_stamp = last_before(infos.entries, lambda entry: stamp(entry[1]), stamp(mask))
        by_time = last_before(infos.entries, lambda entry: entry[0], published)
        assert by_stamp is by_time
        assert shown(mask) <= ids_of(by_stamp)
        used.add(id(by_stamp))
    assert len(used) > 0.25 * CHANGES  # most sets were seen at work


def test_ten_changes_per_second(peer, logs, wait_for):
    """For six seconds here; frames are answered all the while, and the last set stands in the end."""
    infos, masks = logs
    with Camera(peer):
        wait_for(lambda: masks.entries)
        start = time.monotonic()
        for number in range(60):
            assert peer.set_parameters(NAME, prompts=[f"green thing {number}"]) == (True, "")
            time.sleep(max(0.0, start + 0.1 * (number + 1) - time.monotonic()))
        answered = [t for t, _ in masks.entries]
        wait_for(lambda: names_of(infos.entries[-1][1]) == ["green thing 59"])
    assert len(answered) > 15
    assert max(later - earlier for earlier, later in pairwise(answered)) < 2_000_000_000


@pytest.mark.parametrize(
    ("prompts", "words"),
    [
        (["" for _ in range(1)], ("must not be empty", "''")),
        (["car", "   "], ("must not be empty", "'   '")),
        (["car", "car"], ("must be different", "'car'")),
        (["car", "Car "], ("must be different", "'car'", "'Car '")),
        ([f"thing {i}" for i in range(255)], ("1 to 254", "255")),
        (["very " * 80 + "long"], ("tokens", "77")),
        (["x" * 1_000_000], ("at most 500 characters", "1000000")),
        (["car\n"], ("control characters", r"'car\n'")),
        (["a\x1bb"], ("control characters",)),
        ("car", ("STRING_ARRAY", "STRING")),
        ([1, 2], ("STRING_ARRAY", "INTEGER_ARRAY")),
        (True, ("STRING_ARRAY", "BOOL")),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_bad_set_is_refused_with_its_reason_and_changes_nothing(prompts, words, peer, logs, wait_for):
    infos, _ = logs
    before, announced = peer.get_parameters("prompts", node=NAME), len(infos.entries)
    successful, reason = peer.set_parameters(NAME, prompts=prompts)
    assert not successful
    assert all(word in reason for word in words), reason
    assert len(reason) < 400
    assert peer.get_parameters("prompts", node=NAME) == before
    assert answers(peer, logs) <= ids_of(infos.entries[-1][1])
    assert len(infos.entries) == announced


def test_an_empty_list_is_refused(peer, node):
    from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
    from rcl_interfaces.srv import SetParametersAtomically

    value = ParameterValue(type=ParameterType.PARAMETER_STRING_ARRAY)
    request = SetParametersAtomically.Request(parameters=[Parameter(name="prompts", value=value)])
    result = peer.call(SetParametersAtomically, f"{NAME}/set_parameters_atomically", request).result
    assert (result.successful, result.reason) == (False, "prompts must be 1 to 254 texts, got 0")


@pytest.mark.parametrize(
    "prompts",
    [["Straßenschild", "自転車", "🚲 🦄"], [f"thing {i}" for i in range(254)], ["{}", "100 % {name}"]],
    ids=["languages", "254", "braces"],
)
def test_unusual_sets_are_fine(prompts, peer, logs, wait_for):
    infos, _ = logs
    assert peer.set_parameters(NAME, prompts=prompts) == (True, "")
    wait_for(lambda: names_of(infos.entries[-1][1]) == prompts)
    assert answers(peer, logs) <= ids_of(infos.entries[-1][1])


@pytest.mark.parametrize("templates", [["a photo"], ["{} and {}"], [], ["imagenet", "a {}"]], ids=str)
def test_bad_templates_are_refused(templates, peer, node):
    successful, reason = peer.set_parameters(NAME, templates=templates or [""])
    assert not successful
    assert "template" in reason


def test_one_bad_value_spoils_the_whole_set(peer, node):
    before = peer.get_parameters("prompts", "method", node=NAME)
    assert peer.set_parameters(NAME, prompts=["car"], method="yolo")[0] is False
    assert peer.set_parameters(NAME, prompts=["car", "car"], method="maskclip")[0] is False
    assert peer.get_parameters("prompts", "method", node=NAME) == before


def answers(peer, logs):
    """Ids in the mask of a fresh frame."""
    inbox = peer.subscribe(Image, f"{NAME}/mask")
    try:
        return shown(peer.ask(inbox, lambda: peer.image(noise(0)))[1])
    finally:
        peer.unsubscribe(inbox)
