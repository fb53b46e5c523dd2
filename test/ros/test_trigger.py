"""One frame at a time: a disabled node answers one for `~/trigger`, and goes back to rest."""

from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("vision_msgs")

from sensor_msgs.msg import Image
from std_srvs.srv import SetBool, Trigger
from vision_msgs.msg import Detection2DArray

PROCESS = str(Path(__file__).with_name("perception_process.py"))
NEXT = "the next frame of '/image' will be answered"


class Camera:
    """A camera, and what a test sees of the nodes that look at it."""

    def __init__(self, peer, accounts, topic, wait_for):
        self.peer, self.accounts, self.wait_for = peer, accounts, wait_for
        self.publisher = peer.publisher(Image, topic)

    def send(self, rgb):
        """Publish a frame to somebody; returns its stamp."""
        self.wait_for(self.publisher.get_subscription_count, "a subscription to the camera")
        msg = self.peer.image(rgb)
        self.publisher.publish(msg)
        return msg.header.stamp

    def rests(self):
        """Wait until nobody subscribes to the camera."""
        self.wait_for(lambda: self.publisher.get_subscription_count() == 0, "the end of the subscription")

    def trigger(self, node):
        """Ask a node for a frame; returns success and message."""
        response = self.peer.call(Trigger, f"{node}/trigger", Trigger.Request())
        return response.success, response.message

    def enable(self, node, wanted):
        assert self.peer.call(SetBool, f"{node}/enable", SetBool.Request(data=wanted)).success

    def count(self, node):
        """Frames published and received by a node at rest, each of them accounted for."""
        facts = self.accounts.settle(node)
        assert self.accounts.conserved(node)
        return int(facts["published"]), int(facts["received"])


def stamps(inbox):
    return [msg.header.stamp for msg in list(inbox.messages)]


@pytest.fixture(scope="module")
def node(start):
    node = start()
    yield node
    assert node.process.poll() is None, node.log


@pytest.fixture
def camera(node, peer, accounts, wait_for):
    """Of a disabled node at rest that somebody listens to."""
    camera = Camera(peer, accounts, "image", wait_for)
    camera.enable("/found", False)
    camera.rests()
    yield camera
    camera.enable("/found", False)
    camera.rests()


@pytest.fixture
def detections(camera, peer):
    inbox = peer.subscribe(Detection2DArray, "/found/detections")
    camera.enable("/found", True)  # a node that has answered knows its subscriber
    peer.ask(inbox, lambda: peer.image(np.zeros((48, 64, 3), np.uint8)))
    camera.enable("/found", False)
    camera.rests()
    camera.count("/found")
    inbox.messages.clear()
    yield inbox
    peer.unsubscribe(inbox)


def test_a_disabled_node_answers_exactly_one_frame(node, camera, detections, accounts, disc, wait_for):
    for _ in range(3):
        published, received = camera.count("/found")
        with node.held_up("engine") as reached:
            assert camera.trigger("/found") == (True, NEXT)
            wait_for(lambda: accounts("/found")["state"] == "triggered", "the state")
            first = camera.send(disc())
            reached()
            for number in range(2, 5):
                camera.send(disc())
                wait_for(lambda: accounts.count("received", "/found") == received + number)  # noqa: B023
        wait_for(lambda: stamps(detections), "an answer")
        camera.rests()
        assert camera.count("/found") == (published + 1, received + 4)
        wait_for(lambda: accounts("/found")["state"] == "disabled", "the state")
        assert stamps(detections) == [first]
        detections.messages.clear()


def test_triggers_before_a_frame_are_one_and_those_after_it_another(node, camera, detections, disc, wait_for):
    published, _ = camera.count("/found")
    with node.held_up("engine") as reached:
        assert [camera.trigger("/found") for _ in range(3)] == [(True, NEXT)] * 3
        first = camera.send(disc())
        reached()
        assert camera.trigger("/found") == (True, NEXT), "whoever asks now wants to see what is now"
        second = camera.send(disc())
    wait_for(lambda: len(stamps(detections)) == 2, "two answers")
    camera.rests()
    assert stamps(detections) == [first, second]
    assert camera.count("/found")[0] == published + 2


def test_a_frame_that_is_no_use_is_not_the_answer(camera, detections, peer, accounts, disc, wait_for):
    published, _ = camera.count("/found")
    assert camera.trigger("/found") == (True, NEXT)
    before = accounts.count("dropped", "/found")
    wait_for(camera.publisher.get_subscription_count, "a subscription to the camera")
    camera.publisher.publish(peer.image(disc(), encoding="nonsense"))
    wait_for(lambda: accounts.count("dropped", "/found") == before + 1, "its drop")
    good = camera.send(disc())
    wait_for(lambda: stamps(detections) == [good], "the answer to a good one")
    camera.rests()
    assert camera.count("/found")[0] == published + 1


def test_without_subscribers_the_first_of_them_is_waited_for(camera, peer, accounts, disc, wait_for):
    camera.enable("/found", True)
    wait_for(lambda: accounts("/found")["state"] == "idle: nobody subscribes", "the state")
    camera.enable("/found", False)
    published, _ = camera.count("/found")
    success, message = camera.trigger("/found")
    assert success
    assert message == "nobody subscribes to an output: the first frame after somebody does will be answered"
    assert camera.publisher.get_subscription_count() == 0
    late = peer.subscribe(Detection2DArray, "/found/detections")
    asked, _ = peer.ask(late, lambda: peer.image(disc()))
    camera.rests()
    assert camera.count("/found")[0] == published + 1
    assert stamps(late) == [asked.header.stamp]
    peer.unsubscribe(late)


def test_an_enabled_node_goes_on_as_it_did(camera, detections, peer, disc):
    camera.enable("/found", True)
    assert camera.trigger("/found") == (True, "the node is enabled: it answers every frame that it can")
    for _ in range(3):
        peer.ask(detections, lambda: peer.image(disc()))
    camera.enable("/found", False)
    camera.rests()
    camera.count("/found")


def test_disabling_takes_a_trigger_back(camera, detections, disc):
    before = camera.count("/found")
    assert camera.trigger("/found") == (True, NEXT)
    camera.enable("/found", False)
    camera.rests()
    assert camera.count("/found") == before


def test_a_node_that_is_not_active_says_so_and_keeps_no_trigger(camera, detections, peer, disc, wait_for):
    assert camera.trigger("/found") == (True, NEXT)
    assert peer.change_state("deactivate")
    camera.rests()
    assert camera.trigger("/found") == (False, "not active: configure and activate the node first")
    assert peer.change_state("activate")
    camera.rests()
    assert camera.trigger("/found") == (True, NEXT)
    asked = camera.send(disc())
    wait_for(lambda: stamps(detections) == [asked], "the answer")


def test_nodes_that_share_a_camera_are_asked_apart(start, peer, accounts, disc, tmp_path, wait_for):
    tree = {
        "/perception": {"cameras": ["front"], "methods": ["found", "discovery"]},
        "/**/discovery": {"temporal": False},
    }
    (tmp_path / "p.yaml").write_text(yaml.safe_dump({name: {"ros__parameters": own} for name, own in tree.items()}))
    start("--params-file", str(tmp_path / "p.yaml"), command=[PROCESS])
    found, discovery = nodes = ("/front/found", "/front/discovery")
    inboxes = {name: peer.subscribe(Detection2DArray, f"{name}/detections") for name in nodes}
    camera = Camera(peer, accounts, "front/image_raw", wait_for)
    peer.ask_all(list(inboxes.values()), lambda: peer.image(disc()), "front/image_raw")

    published = {name: camera.count(name)[0] for name in nodes}

    def ask(*asked, answering):
        """Trigger nodes and send a frame, which those answer that are to, and nobody else."""
        for name in asked:
            assert camera.trigger(name)[0]
        stamp = camera.send(disc())
        for name in answering:
            wait_for(lambda name=name: inboxes[name].with_stamp(stamp), f"an answer of {name}")
            published[name] += 1
        assert {name: camera.count(name)[0] for name in nodes} == published

    for name in nodes:
        camera.enable(name, False)
    camera.rests()
    inboxes[discovery].messages.clear()
    for asked in ((discovery,), (found,), (found, discovery), (discovery,)):
        ask(*asked, answering=asked)
        camera.rests()
    ids = [detection.id for msg in inboxes[discovery].messages for detection in msg.detections]
    assert len(ids) == len(set(ids)) == 3, "a frame asked for is no video's"
    camera.enable(discovery, True)
    for _ in range(2):  # the leader of the two is asked, and is not
        ask(found, answering=nodes)
        ask(answering=(discovery,))
    peer.unsubscribe(*inboxes.values())
