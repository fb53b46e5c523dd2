"""Prompts from a topic are a set of the parameter: whoever publishes, whenever, in every state; refused as a whole."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("vision_msgs")

from rcl_interfaces.msg import ParameterEvent
from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import String
from vision_msgs.msg import LabelInfo

STRIPED = [str(Path(__file__).with_name("striped_process.py")), "0", "0"]
NAME = "/segmentation"
PLAIN = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.RELIABLE)  # what `ros2 topic pub` offers
LATCHED = QoSProfile(depth=1, reliability=QoSReliabilityPolicy.RELIABLE, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
MANY = QoSProfile(depth=1000, reliability=QoSReliabilityPolicy.RELIABLE, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
SCENE = np.full((16, 64, 3), 200, np.uint8)


class Speaker:
    """Says prompts to a node, and hears what it announces."""

    def __init__(self, peer, wait_for, name=NAME, topic=None, qos=PLAIN):
        self.peer, self.wait_for, self.name = peer, wait_for, name
        self.infos = []
        self.ear = peer.node.create_subscription(LabelInfo, f"{name}/label_info", self.infos.append, MANY)
        self.publisher = peer.node.create_publisher(String, topic or f"{name}/prompts", qos)

    def say(self, text):
        self.wait_for(self.publisher.get_subscription_count, "the node's subscription")
        self.publisher.publish(String(data=text))

    def announced(self):
        return [[entry.class_name for entry in info.class_map] for info in self.infos]

    def expect(self, *prompts):
        self.wait_for(lambda: self.announced()[-1:] == [list(prompts)], f"an announcement of {prompts}")

    def parameter(self):
        (prompts,) = self.peer.get_parameters("prompts", node=self.name)
        return prompts

    def close(self):
        self.peer.node.destroy_subscription(self.ear)
        self.peer.node.destroy_publisher(self.publisher)


@pytest.fixture(scope="module")
def node(start):
    node = start("-p", "background:=none", command=STRIPED)
    yield node
    assert node.process.poll() is None, node.log


@pytest.fixture
def make_speaker(peer, wait_for):
    speakers = []

    def make(**options):
        speakers.append(Speaker(peer, wait_for, **options))
        return speakers[-1]

    yield make
    for speaker in speakers:
        speaker.close()


@pytest.fixture
def speaker(node, make_speaker):
    return make_speaker()


def test_a_text_sets_the_parameter_and_the_next_frame_follows(peer, speaker, wait_for):
    events = []
    ear = peer.node.create_subscription(ParameterEvent, "/parameter_events", events.append, 100)
    wait_for(lambda: peer.node.count_publishers("/parameter_events") > 1)
    inbox = peer.subscribe(Image, f"{NAME}/mask")
    speaker.say(" red car,traffic cone ")
    speaker.expect("red car", "traffic cone")
    assert speaker.parameter() == ["red car", "traffic cone"]

    def changes():
        return [parameter for event in list(events) if event.node == NAME for parameter in event.changed_parameters]

    (change,) = wait_for(changes, "a parameter event")
    assert (change.name, list(change.value.string_array_value)) == ("prompts", ["red car", "traffic cone"])
    frame = peer.image(SCENE)
    _, mask = peer.ask(inbox, lambda: frame)
    told = speaker.infos[-1]
    assert (told.header.stamp.sec, told.header.stamp.nanosec) <= (frame.header.stamp.sec, frame.header.stamp.nanosec)
    assert set(mask.data) == {entry.class_id for entry in told.class_map}
    peer.unsubscribe(inbox)
    peer.node.destroy_subscription(ear)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "prompts must not be empty, got ''"),
        (" \t ", "prompts must not be empty"),
        ("car, ", "prompts must not be empty"),
        ("car, cup, CAR", "prompts must be different, got 'car' and 'CAR'"),
        (",".join(f"thing {n}" for n in range(255)), "prompts must be 1 to 254 texts, got 255"),
        ("x" * 1_000_000, "prompts must have at most 500 characters, got 1000000"),
        ("car\x1b[31m", "prompts must not have control characters"),
    ],
)
def test_a_bad_text_changes_nothing_and_its_reason_is_in_the_diagnostics(
    text, reason, peer, node, speaker, accounts, wait_for
):
    assert peer.set_parameters(NAME, prompts=["car", "cup"]) == (True, "")
    speaker.expect("car", "cup")
    count = len(speaker.infos)
    speaker.say(text)
    wait_for(lambda: f"prompts from the topic: {reason}" in accounts(NAME).get("last_error", ""), reason)
    assert speaker.parameter() == ["car", "cup"]
    speaker.say("cup, bowl")
    speaker.expect("cup", "bowl")
    assert len(speaker.infos) == count + 1
    assert node.says_once_a_minute("refused prompts from the topic")


def test_topic_and_parameter_overtake_each_other_in_the_order_in_which_they_come(peer, speaker):
    for number in range(5):
        speaker.say(f"said {number}")
        speaker.expect(f"said {number}")
        assert peer.set_parameters(NAME, prompts=[f"set {number}"]) == (True, "")
        speaker.expect(f"set {number}")
        speaker.say(f"said {number}")  # the same text again is news after another set
        speaker.expect(f"said {number}")
        assert speaker.parameter() == [f"said {number}"]


def test_what_a_latched_publisher_said_before_the_node_was_there_holds(peer, start, make_speaker):
    """Once: a set of the parameter after it is not undone, though the node goes on looking for latched publishers."""
    speaker = make_speaker(name="/late", topic="/input_query", qos=LATCHED)
    speaker.publisher.publish(String(data="dog, cat"))
    node = start(
        "-r", "__node:=late", "-r", "~/prompts:=/input_query", "-r", "image:=late_image", command=STRIPED
    )  # fmt: skip
    speaker.expect("dog", "cat")
    assert peer.set_parameters("/late", prompts=["bird"]) == (True, "")
    speaker.expect("bird")
    other = make_speaker(name="/late", topic="/input_query")
    for text in ("fish", "horse"):
        other.say(text)
        other.expect(text)
    assert peer.set_parameters("/late", prompts=["cow"]) == (True, "")
    speaker.expect("cow")
    speaker.say("sheep")
    speaker.expect("sheep")
    assert speaker.announced()[-6:] == [["dog", "cat"], ["bird"], ["fish"], ["horse"], ["cow"], ["sheep"]]
    assert "Traceback" not in node.log


def test_what_was_heard_live_is_not_heard_again_from_a_latched_publisher(
    peer, speaker, make_speaker, accounts, wait_for
):
    latched = make_speaker(qos=LATCHED)
    latched.say("lion")
    latched.expect("lion")
    assert peer.set_parameters(NAME, prompts=["tiger"]) == (True, "")
    wait_for(lambda: latched.publisher.get_subscription_count() == 2, "the latched subscription")
    before_ns = accounts(NAME)["at_ns"]
    wait_for(lambda: accounts(NAME)["at_ns"] > before_ns + 500_000_000, "a few more reports")
    assert speaker.parameter() == ["tiger"]
    latched.say("lion")
    latched.expect("lion")


def test_every_state_takes_prompts_from_the_topic(peer, start, make_speaker, wait_for):
    node = start(
        "-p", "autostart:=false", "-r", "__node:=managed", "-r", "image:=managed_image", command=STRIPED
    )  # fmt: skip
    speaker = make_speaker(name="/managed")
    speaker.say("unconfigured")
    wait_for(lambda: speaker.parameter() == ["unconfigured"])
    for transition, announces in (("configure", True), ("activate", True), ("deactivate", True), ("cleanup", False)):
        assert peer.change_state(transition, "/managed")
        if transition == "configure":
            speaker.expect("unconfigured")
        speaker.say(f"after {transition}")
        wait_for(lambda: speaker.parameter() == [f"after {transition}"])  # noqa: B023
        if announces:
            speaker.expect(f"after {transition}")
    assert peer.change_state("configure", "/managed")
    speaker.expect("after cleanup")
    assert peer.change_state("shutdown", "/managed")
    speaker.say("finalized")
    wait_for(lambda: speaker.parameter() == ["finalized"])
    assert "Traceback" not in node.log
    assert "incompatible QoS" not in node.log, "the publisher was warned of a subscription that it does not match"


def test_cameras_of_one_process_have_prompts_of_their_own(start, make_speaker, tmp_path):
    cameras = ("-p", "cameras:=[left, right]", "-p", "methods:=[segmentation]")
    node = start("-p", "device:=cpu", *cameras, command=["-m", "objloc_ros.nodes.perception"])
    left, right = (make_speaker(name=f"/{camera}/segmentation") for camera in ("left", "right"))
    right.expect("red object", "yellow object", "green object", "blue object")
    left.say("red circle")
    left.expect("red circle")
    right.say("blue star")
    right.expect("blue star")
    assert (left.parameter(), right.parameter()) == (["red circle"], ["blue star"])
    assert "Traceback" not in node.log
