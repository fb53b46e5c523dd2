"""Prompts that take long to encode, frames that take long to answer: whichever ends first, sets stay whole.

The node's heads give every prompt a stripe of the image, and the confidence tells the method (striped_process.py), so
that each mask shows under which set and with which options it was made.
"""

import random
import threading
import time
from bisect import bisect
from itertools import count, pairwise
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("vision_msgs")

from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import Image
from vision_msgs.msg import LabelInfo

SCRIPT = str(Path(__file__).with_name("striped_process.py"))
NAME = "/segmentation"
FRAME_MS, ENCODE_MS = 25, 60
MANY = QoSProfile(depth=1000, reliability=QoSReliabilityPolicy.RELIABLE, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
SCENE = np.full((16, 64, 3), 200, np.uint8)
CLIP_DIY, MASKCLIP = 51, 102  # confidences


class Camera(threading.Thread):
    """Publishes faster than the node takes the frames, until it is stopped."""

    def __init__(self, peer):
        super().__init__(daemon=True)
        self.peer, self.stopping = peer, threading.Event()

    def run(self):
        publisher = self.peer.publisher(Image)
        while not self.stopping.wait(0.01):
            publisher.publish(self.peer.image(SCENE))

    def __enter__(self):
        self.start()

    def __exit__(self, *_):
        self.stopping.set()
        self.join()


class Log:
    """Messages of one topic with the time at which they were published."""

    def __init__(self, peer, msg_type, topic, qos):
        self.entries = []
        self.subscription = peer.node.create_subscription(msg_type, f"{NAME}/{topic}", self.receive, qos)

    def receive(self, msg, info):
        self.entries.append((info["source_timestamp"], msg))

    @property
    def last(self):
        return self.entries[-1][1]


@pytest.fixture(scope="module")
def node(start):
    quick = ("-p", "idle_priority:=false", "-p", "max_age_ms:=0.0", "-p", "background:=none")
    node = start(*quick, command=[SCRIPT, str(FRAME_MS), str(ENCODE_MS)])
    yield node
    assert node.process.poll() is None, node.log


@pytest.fixture
def logs(peer, node, wait_for):
    """What is published from now on: label sets (the one in force first), masks, confidences."""
    logs = [Log(peer, LabelInfo, "label_info", MANY)]
    logs += [Log(peer, Image, topic, 1000) for topic in ("mask", "confidence")]
    wait_for(lambda: logs[0].entries)
    yield logs
    peer.unsubscribe(*logs)


def names(info):
    return {c.class_id: c.class_name for c in info.class_map}


def values(image):
    return set(np.unique(np.frombuffer(image.data, np.uint8)).tolist())


def nanoseconds(msg):
    return msg.header.stamp.sec * 1_000_000_000 + msg.header.stamp.nanosec


def change(peer, **values):
    assert peer.set_parameters(NAME, **values) == (True, "")


def settle(logs, prompts, wait_for):
    """Wait until the prompts are announced and two more masks are there."""
    infos, masks, _ = logs
    wait_for(lambda: list(names(infos.last).values()) == prompts, f"an announcement of {prompts}")
    seen = len(masks.entries)
    wait_for(lambda: len(masks.entries) >= seen + 2)


def in_force(infos, masks):
    """How many sets have been in force when a mask was published."""
    announced = sorted(time_ for time_, _ in infos.entries)
    return len({bisect(announced, published) for published, _ in masks.entries})


def check_masks(infos, masks):
    """Every mask shows all of the set in force, told by the order of publication and by the stamps; count the sets."""
    used = set()
    for published, mask in masks.entries:
        by_order = [info for time_, info in infos.entries if time_ < published][-1]
        by_stamp = [info for _, info in infos.entries if nanoseconds(info) <= nanoseconds(mask)][-1]
        assert by_order is by_stamp
        assert values(mask) == set(names(by_order))
        used.add(id(by_order))
    return len(used)


def test_no_mask_is_made_or_published_under_two_sets(peer, logs, wait_for):
    """Changes, none of which shares a prompt with the one before, so that any mask of a wrong set shows."""
    infos, masks, _ = logs
    pause, wanted = random.Random(3), []
    with Camera(peer):
        wait_for(lambda: masks.entries)
        for number in count():
            wanted.append([f"{colour} thing {number}" for colour in ("red", "green", "blue")])
            change(peer, prompts=wanted[-1])
            time.sleep(pause.uniform(0.0, 0.1))
            if number > 50 and in_force(infos, masks) > 25:
                break
        settle(logs, wanted[-1], wait_for)
    announced = [list(names(info).values()) for _, info in infos.entries[1:]]
    order = [wanted.index(prompts) for prompts in announced]
    assert order == sorted(set(order))
    assert len(order) > 20
    for (_, one), (_, other) in pairwise(infos.entries):
        assert not set(names(one)) & set(names(other)), "ids of the set before were given away at once"
    assert check_masks(infos, masks) > 20


def test_what_stays_keeps_its_id_and_what_goes_leaves_its_id_to_rest(peer, logs, wait_for):
    infos, masks, _ = logs
    draw, pool = random.Random(4), [f"thing {number}" for number in range(9)]
    with Camera(peer):
        wait_for(lambda: masks.entries)
        for number in count():
            prompts = draw.sample(pool, draw.randint(1, 6))
            change(peer, prompts=prompts)
            time.sleep(draw.uniform(0.0, 0.1))
            if number > 30 and in_force(infos, masks) > 15:
                break
        settle(logs, prompts, wait_for)
    for (_, one), (_, other) in pairwise(infos.entries):
        before, after = names(one), names(other)
        ids_before = {name: number for number, name in before.items()}
        stayed = {name: number for number, name in after.items() if name in ids_before}
        assert stayed == {name: ids_before[name] for name in stayed}
        assert not {number for number, name in after.items() if name not in ids_before} & set(before)
    assert check_masks(infos, masks) > 10


def test_the_first_frame_after_the_announcement_follows_it(peer, logs, wait_for):
    infos, masks, _ = logs
    for number in range(5):
        change(peer, prompts=[f"new thing {number}", "old thing"])
        wait_for(lambda: f"new thing {number}" in names(infos.last).values())  # noqa: B023
        frame = peer.image(SCENE)
        assert nanoseconds(infos.last) < nanoseconds(frame)
        seen = len(masks.entries)
        peer.publisher(Image).publish(frame)
        wait_for(lambda: len(masks.entries) > seen)  # noqa: B023
        assert masks.entries[seen][1].header == frame.header
        assert values(masks.entries[seen][1]) == set(names(infos.last))


def test_prompts_and_method_set_together_hold_from_one_frame_on(peer, logs, wait_for):
    infos, masks, confidences = logs
    settings = {("old",): "clip_diy", ("new",): "maskclip"}
    sure = {"clip_diy": {CLIP_DIY}, "maskclip": {MASKCLIP}}
    with Camera(peer):
        change(peer, prompts=["old"], method="clip_diy")
        settle(logs, ["old"], wait_for)
        for _ in range(4):
            for prompts, method in reversed(settings.items()):
                change(peer, prompts=list(prompts), method=method)
                settle(logs, list(prompts), wait_for)
    change(peer, method="clip_diy")
    start = next(i for i, (_, info) in enumerate(infos.entries) if list(names(info).values()) == ["old"])
    infos.entries = infos.entries[start:]
    by_stamp = {nanoseconds(msg): values(msg) for _, msg in confidences.entries}
    checked = 0
    for published, mask in masks.entries:
        announced = [info for time_, info in infos.entries if time_ < published]
        if announced and nanoseconds(mask) in by_stamp:
            method = settings[tuple(names(announced[-1]).values())]
            assert by_stamp[nanoseconds(mask)] == sure[method], f"{names(announced[-1])} by another method"
            checked += 1
    assert checked > 16


def test_a_method_alone_holds_from_the_next_frame_on(peer, node):
    inbox = peer.subscribe(Image, f"{NAME}/confidence")
    for method, sure in (("maskclip", MASKCLIP), ("clip_diy", CLIP_DIY)):
        change(peer, method=method)
        frame = peer.image(SCENE)
        _, answer = peer.ask(inbox, lambda: frame)  # noqa: B023
        assert values(answer) == {sure}
    peer.unsubscribe(inbox)


def test_templates_alone_are_announced_and_change_no_id(peer, logs, wait_for):
    infos = logs[0]
    change(peer, prompts=["cup", "bowl"])
    wait_for(lambda: set(names(infos.last).values()) == {"cup", "bowl"})
    before, count = names(infos.last), len(infos.entries)
    change(peer, templates=["a drawing of a {}"])
    wait_for(lambda: len(infos.entries) > count)
    assert names(infos.last) == before
    change(peer, templates=["a photo of a {}"])
    wait_for(lambda: len(infos.entries) > count + 1)


def test_a_text_tower_that_fails_is_told_and_may_be_asked_again(peer, node, logs, wait_for):
    infos, masks, _ = logs
    change(peer, prompts=["safe"])
    with Camera(peer):
        settle(logs, ["safe"], wait_for)
        change(peer, prompts=["unspeakable"])
        wait_for(lambda: "does not like this prompt" in node.log)
        seen = len(masks.entries)
        wait_for(lambda: len(masks.entries) > seen + 2)
        assert list(names(infos.last).values()) == ["safe"]
        change(peer, prompts=["unspeakable"])  # it fails only once
        settle(logs, ["unspeakable"], wait_for)
    assert check_masks(infos, masks) >= 2


def test_a_frame_that_fails_keeps_no_prompts_waiting(peer, node, logs, wait_for):
    infos = logs[0]
    bad = SCENE.copy()
    bad[0, 0] = (1, 2, 3)
    publisher = peer.publisher(Image)
    for number in range(5):
        change(peer, prompts=[f"after a bad frame {number}"])
        publisher.publish(peer.image(bad))
    wait_for(lambda: f"after a bad frame {number}" in names(infos.last).values())
    wait_for(lambda: "the heads do not like this frame" in node.log)
    inbox = peer.subscribe(Image, f"{NAME}/mask")
    _, mask = peer.ask(inbox, lambda: peer.image(SCENE))
    assert values(mask) == set(names(infos.last))
    peer.unsubscribe(inbox)
