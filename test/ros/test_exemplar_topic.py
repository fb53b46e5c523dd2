"""A box on the newest frame becomes a class: announced, found where the thing has moved, renamed, forgotten."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from waiting import PATIENCE_S

pytest.importorskip("vision_msgs")

from rclpy.qos import QoSDurabilityPolicy, QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import Image, RegionOfInterest
from vision_msgs.msg import Detection2DArray, LabelInfo

SCRIPT = str(Path(__file__).with_name("segmentation_process.py"))
NAME = "/segmentation"
MANY = QoSProfile(depth=1000, reliability=QoSReliabilityPolicy.RELIABLE, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
PROMPTS = ["red object", "blue object"]
BOARD = RegionOfInterest(x_offset=60, y_offset=60, width=80, height=80)


def scene(x, y):
    """A chequered square on stripes, and a red disc: RGB uint8 [240, 320, 3]."""
    rgb = np.full((240, 320, 3), 120, np.uint8)
    rgb[::12] = rgb[1::12] = 150
    cv2.circle(rgb, (40, 200), 30, (200, 30, 30), -1)
    cells = np.indices((80, 80)).sum(0) // 10 % 2
    rgb[y : y + 80, x : x + 80] = np.where(cells[..., None], (240, 220, 40), (30, 40, 160))
    return rgb


@pytest.fixture(scope="module")
def node(start):
    node = start("-p", "device:=cpu", "-p", "method:=maskclip", command=[SCRIPT])
    yield node
    assert node.process.poll() is None, node.log
    assert "Traceback" not in node.log


@pytest.fixture(scope="module")
def announced(node, peer, wait_for):
    """Every label set that is announced, as {prompt: id}."""
    sets = []

    def receive(msg):
        sets.append({entry.class_name: entry.class_id for entry in msg.class_map})

    subscription = peer.node.create_subscription(LabelInfo, f"{NAME}/label_info", receive, MANY)
    wait_for(lambda: sets)
    yield sets
    peer.node.destroy_subscription(subscription)


@pytest.fixture(scope="module")
def show(node, peer, wait_for):
    publisher = peer.node.create_publisher(RegionOfInterest, f"{NAME}/exemplar", 10)

    def show(region):
        wait_for(publisher.get_subscription_count, "the node's subscription")
        publisher.publish(region)

    yield show
    peer.node.destroy_publisher(publisher)


@pytest.fixture
def mask(node, peer):
    inbox = peer.subscribe(Image, f"{NAME}/mask")
    yield inbox
    peer.unsubscribe(inbox)


@pytest.fixture(autouse=True)
def nothing_shown(peer, node, announced, wait_for):
    assert peer.set_parameters(NAME, prompts=PROMPTS, exemplars="") == (True, "")
    wait_for(lambda: list(announced[-1]) == PROMPTS)


def show_board(peer, show, mask, announced, wait_for, name="exemplar 1"):
    peer.ask(mask, lambda: peer.image(scene(60, 60)))
    show(BOARD)
    wait_for(lambda: name in announced[-1], name)


def overlap(msg, number, x, y):
    found = np.frombuffer(msg.data, np.uint8).reshape(240, 320) == number
    truth = np.zeros_like(found)
    truth[y : y + 80, x : x + 80] = True
    return (found & truth).sum() / (found | truth).sum()


def test_before_the_first_frame_nothing_can_be_shown(node, show, accounts, announced, wait_for):
    show(BOARD)
    wait_for(lambda: "an exemplar: there is no frame to show it on" in accounts(NAME).get("last_error", ""))
    assert list(announced[-1]) == PROMPTS


def test_a_box_becomes_a_class_that_is_found_where_the_thing_has_moved(peer, node, show, mask, announced, wait_for):
    before = dict(announced[-1])
    show_board(peer, show, mask, announced, wait_for)
    assert {name: announced[-1][name] for name in PROMPTS} == before
    assert peer.get_parameters("exemplars", "prompts", node=NAME) == ["exemplar 1", PROMPTS]
    detections = peer.subscribe(Detection2DArray, f"{NAME}/detections")
    _, (labels, boxes) = peer.ask_all([mask, detections], lambda: peer.image(scene(180, 110)))
    assert overlap(labels, announced[-1]["exemplar 1"], 180, 110) > 0.6
    (box,) = [d.bbox for d in boxes.detections if d.results[0].hypothesis.class_id == "exemplar 1"]
    assert (box.center.position.x, box.center.position.y) == (pytest.approx(220, abs=12), pytest.approx(150, abs=12))
    peer.unsubscribe(detections)


def test_it_is_renamed_and_forgotten_by_the_parameter(peer, node, show, mask, announced, wait_for):
    show_board(peer, show, mask, announced, wait_for)
    show(RegionOfInterest(x_offset=10, y_offset=170, width=60, height=60))
    wait_for(lambda: list(announced[-1]) == [*PROMPTS, "exemplar 1", "exemplar 2"])
    assert peer.set_parameters(NAME, exemplars="board, disc") == (True, "")
    wait_for(lambda: list(announced[-1]) == [*PROMPTS, "board", "disc"])
    _, labels = peer.ask(mask, lambda: peer.image(scene(180, 110)))
    assert overlap(labels, announced[-1]["board"], 180, 110) > 0.6
    number = announced[-1]["disc"]
    assert np.frombuffer(labels.data, np.uint8).reshape(240, 320)[200, 40] == number
    assert peer.set_parameters(NAME, exemplars="disc") == (True, "")
    wait_for(lambda: announced[-1] == {**{name: announced[-1][name] for name in PROMPTS}, "disc": number})
    show_board(peer, show, mask, announced, wait_for)
    assert peer.get_parameters("exemplars", node=NAME) == ["disc, exemplar 1"]


def test_prompts_change_beside_it(peer, node, show, mask, announced, wait_for):
    show_board(peer, show, mask, announced, wait_for)
    number = announced[-1]["exemplar 1"]
    assert peer.set_parameters(NAME, prompts=["green object"]) == (True, "")
    wait_for(lambda: list(announced[-1]) == ["green object", "exemplar 1"])
    assert announced[-1]["exemplar 1"] == number
    _, labels = peer.ask(mask, lambda: peer.image(scene(180, 110)))
    assert overlap(labels, number, 180, 110) > 0.6


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"exemplars": "board, disc"}, "exemplars must be as many names as were shown (1), or some of ['exemplar 1']"),
        ({"exemplars": "exemplar 1, exemplar 1"}, "prompts must be different, got 'exemplar 1' and 'exemplar 1'"),
        ({"exemplars": "red object"}, "prompts must be different, got 'red object' and 'red object'"),
        ({"exemplars": "board,"}, "exemplars must be as many names"),
        ({"prompts": ["Exemplar 1"]}, "prompts must be different, got 'Exemplar 1' and 'exemplar 1'"),
        ({"prompts": [f"thing {n}" for n in range(254)]}, "prompts must be 1 to 254 texts, got 255"),
    ],
)
def test_names_that_do_not_suit_are_refused(values, reason, peer, node, show, mask, announced, wait_for):
    show_board(peer, show, mask, announced, wait_for)
    successful, said = peer.set_parameters(NAME, **values)
    assert not successful
    assert reason in said
    assert peer.get_parameters("exemplars", "prompts", node=NAME) == ["exemplar 1", PROMPTS]


@pytest.mark.parametrize(
    ("region", "reason"),
    [
        ((0, 0, 0, 0), "a width and a height"),
        ((300, 100, 40, 40), "lie in the frame of 320x240 pixels, got 40x40 at (300, 100)"),
        ((2**32 - 1, 0, 2, 2), "lie in the frame of 320x240 pixels"),
        ((0, 0, 320, 240), "leave a quarter of the frame around it, got 320x240 of 320x240 pixels"),
    ],
)
def test_a_box_that_cannot_be_learned_is_refused(region, reason, peer, node, show, mask, announced, accounts, wait_for):
    peer.ask(mask, lambda: peer.image(scene(60, 60)))
    x, y, width, height = region
    show(RegionOfInterest(x_offset=x, y_offset=y, width=width, height=height))

    def refused():
        error = accounts(NAME)["last_error"]
        return error.startswith("an exemplar: its box must") and reason in error

    wait_for(refused, reason)
    assert list(announced[-1]) == PROMPTS
    assert peer.get_parameters("exemplars", node=NAME) == [""]
    assert node.says_once_a_minute("refused an exemplar")


def test_it_outlives_the_engine(peer, node, show, mask, announced, wait_for):
    show_board(peer, show, mask, announced, wait_for)
    for transition in ("deactivate", "cleanup", "configure", "activate"):
        assert peer.change_state(transition, NAME)
    wait_for(lambda: list(announced[-1]) == [*PROMPTS, "exemplar 1"])
    _, labels = peer.ask(mask, lambda: peer.image(scene(180, 110)))
    assert overlap(labels, announced[-1]["exemplar 1"], 180, 110) > 0.6


def test_a_node_is_not_started_with_exemplars(spawn):
    node = spawn("-p", "exemplars:=board", "-r", "__node:=early", command=[SCRIPT])
    assert node.process.wait(PATIENCE_S) == 1
    assert "cannot start: nothing was shown on ~/exemplar, so exemplars must be empty, got ['board']" in node.log


def test_cameras_of_one_process_are_shown_things_of_their_own(start, peer, wait_for):
    cameras = ("-p", "cameras:=[left, right]", "-p", "methods:=[segmentation]", "-p", "max_age_ms:=0.0")
    node = start("-p", "device:=cpu", "-p", "method:=maskclip", *cameras, command=["-m", "objloc_ros.nodes.perception"])
    names = [f"/{camera}/segmentation" for camera in ("left", "right")]
    masks = [peer.subscribe(Image, f"{name}/mask") for name in names]
    for mask, camera in zip(masks, ("left", "right"), strict=True):
        peer.ask(mask, lambda: peer.image(scene(60, 60)), f"/{camera}/image_raw")
    publisher = peer.node.create_publisher(RegionOfInterest, f"{names[0]}/exemplar", 10)
    wait_for(publisher.get_subscription_count)
    publisher.publish(BOARD)
    wait_for(lambda: peer.get_parameters("exemplars", node=names[0]) == ["exemplar 1"])
    overlaps = []

    def found():
        _, labels = peer.ask(masks[0], lambda: peer.image(scene(180, 110)), "/left/image_raw")
        overlaps.append(overlap(labels, 4, 180, 110))  # after the ids of the four prompts
        return overlaps[-1] > 0.6

    wait_for(found, "the board")
    _, labels = peer.ask(masks[1], lambda: peer.image(scene(180, 110)), "/right/image_raw")
    assert 4 not in labels.data
    assert peer.get_parameters("exemplars", node=names[1]) == [""]
    peer.unsubscribe(*masks)
    peer.node.destroy_publisher(publisher)
    assert "Traceback" not in node.log
