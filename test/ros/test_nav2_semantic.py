"""Our nodes and the sample parameters under the rules of nav2's semantic_segmentation_layer, over DDS."""

import time
from pathlib import Path

import cv2
import pytest
import yaml

pytest.importorskip("vision_msgs")

from semantic_layer import SemanticLayer, make_cloud
from sensor_msgs.msg import Image, PointCloud2
from vision_msgs.msg import LabelInfo

from objloc_ros.nodes.qos import make_latched_profile

ROOT = Path(__file__).resolve().parents[2]
FOUND, PROMPTS = (ROOT / "config" / "nav2" / f"semantic_{name}.yaml" for name in ("found", "prompts"))
SCRIPT = str(Path(__file__).with_name("segmentation_process.py"))
PHOTOGRAPHS = ROOT / "objloc_ros" / "scenes" / "photographs"
SIZE = (120, 160)
MIDDLE = (105, 0)
"""Tile of the middle of an image of this size, which is at (2.1, 0) metres."""
CORNER = (25, -60)


def read_layer(path, node="local_costmap"):
    return yaml.safe_load(path.read_text())[node]["local_costmap"]["ros__parameters"]["semantic_layer"]


@pytest.fixture(scope="module")
def found(start):
    node = start("-r", "__ns:=/camera")
    yield node
    assert node.process.poll() is None, node.log


@pytest.fixture(scope="module")
def segmentation(start):
    node = start("-r", "__ns:=/camera", "--params-file", str(PROMPTS), command=[SCRIPT])
    yield node
    assert node.process.poll() is None, node.log


@pytest.fixture
def make_layer(peer, wait_for):
    """Layers that know their labels and are known to the node, and end with the test."""
    layers = []

    def make_layer(path, **changes):
        layer = SemanticLayer(peer.node, {**read_layer(path), **changes})
        layers.append(layer)
        wait_for(lambda: layer.names, "labels")
        return layer

    yield make_layer
    for layer in layers:
        layer.close()


def send_cloud(peer, header, size=SIZE, spacing=0.02):
    peer.publisher(PointCloud2, "/camera/depth/points", "BEST_EFFORT").publish(
        make_cloud(header, size, spacing=spacing)
    )


@pytest.fixture
def show(peer, wait_for):
    """Publish images with clouds of their stamps until one has arrived in the layer's map; returns its stamp."""

    def show(layer, rgb, **cloud):
        sent = []

        def arrived():
            if not sent or time.monotonic() - sent[-1][0] > 0.5:
                image = peer.image(rgb)
                peer.publisher(Image, "/camera/image").publish(image)
                send_cloud(peer, image.header, **({"size": rgb.shape[:2]} | cloud))
                sent.append((time.monotonic(), (image.header.stamp.sec, image.header.stamp.nanosec)))
            return next((stamp for _, stamp in sent if stamp in layer.buffered), None)

        return wait_for(arrived, "a mask with its confidence and its cloud")

    return show


def test_found_marks_objects_and_frees_the_background(found, make_layer, show, disc):
    layer = make_layer(FOUND)
    assert layer.names == {0: "background", 1: "object"}
    assert set(layer.names.values()) == set(layer.costs)
    for _ in range(3):
        show(layer, disc(20))
    costs = layer.map()
    assert (costs[MIDDLE], costs[CORNER]) == (254, 0)
    assert sum(cost == 254 for cost in costs.values()) == (disc(20)[..., 0] == 255).sum()
    assert not layer.skipped
    assert not layer.refused


def test_what_is_less_salient_than_the_layer_asks_costs_less(found, make_layer, show, disc):
    layer = make_layer(FOUND)
    for _ in range(4):
        show(layer, disc(20, brightness=135))
    assert layer.map()[MIDDLE] == 100


def test_an_obstacle_that_comes_counts_at_once_and_one_that_goes_is_forgotten(found, make_layer, show, disc):
    layer = make_layer(FOUND)
    for _ in range(4):
        show(layer, disc(0, brightness=40))
    assert layer.map()[MIDDLE] == 0
    show(layer, disc(20))
    assert layer.map()[MIDDLE] == 100
    seen = len(layer.tiles[MIDDLE].queues[1])
    for _ in range(seen + 1):
        show(layer, disc(0, brightness=40))
    assert layer.map()[MIDDLE] == 0


def test_the_labels_are_announced_anew_with_another_threshold_and_stay(found, make_layer, show, peer, disc, wait_for):
    layer = make_layer(FOUND)
    heard = layer.announced
    assert peer.set_parameters("/camera/found", threshold=0.9) == (True, "")
    wait_for(lambda: layer.announced > heard)
    assert layer.names == {0: "background", 1: "object"}
    show(layer, disc(20, brightness=200))
    assert layer.map()[MIDDLE] == 0
    assert peer.set_parameters("/camera/found", threshold=0.5) == (True, "")


def test_only_messages_of_one_stamp_and_size_count(found, make_layer, show, peer, disc):
    layer = make_layer(FOUND)
    counted, image = show(layer, disc(20)), peer.image(disc(20))
    peer.publisher(Image, "/camera/image").publish(image)
    send_cloud(peer, peer.image(disc(20)).header)
    of_another_size = show(layer, disc(20), size=(60, 80))
    assert (image.header.stamp.sec, image.header.stamp.nanosec) not in layer.buffered
    assert set(layer.refused) == {"sizes"}
    assert of_another_size in layer.refused["sizes"]
    assert counted not in layer.refused["sizes"]


@pytest.mark.parametrize(("later", "pairs"), [(4, True), (5, False)])
def test_the_layer_keeps_as_many_clouds_as_come_while_a_mask_is_made(
    later, pairs, found, make_layer, show, peer, disc, wait_for
):
    layer = make_layer(FOUND, sensor_data_depth=5)
    show(layer, disc(20))
    image = peer.image(disc(20))
    with found.held_up("engine") as is_held:
        peer.publisher(Image, "/camera/image").publish(image)
        is_held()
        for number in range(1 + later):
            before = layer.received
            send_cloud(peer, image.header if number == 0 else peer.image(disc(20)).header)
            wait_for(lambda: layer.received > before)  # noqa: B023
    stamp = image.header.stamp.sec, image.header.stamp.nanosec
    if pairs:
        wait_for(lambda: stamp in layer.buffered)
    show(layer, disc(20))
    assert (stamp in layer.buffered) == pairs


def test_a_life_cycle_manager_configures_first_and_labels_come_before_any_mask(found, start, peer, wait_for):
    """It sends CONFIGURE without asking for the state: only a node without autostart is still unconfigured."""
    assert not peer.change_state("configure", "/camera/found")
    start("-r", "__ns:=/managed", "-p", "autostart:=false")
    inbox = peer.subscribe(LabelInfo, "/managed/found/label_info", make_latched_profile())
    assert peer.change_state("configure", "/managed/found")
    wait_for(lambda: inbox.messages)
    assert [entry.class_name for entry in inbox.messages[-1].class_map] == ["background", "object"]
    assert peer.state("/managed/found") == "inactive"
    assert peer.change_state("activate", "/managed/found")
    peer.unsubscribe(inbox)


@pytest.fixture(scope="module")
def cat():
    return cv2.imread(str(PHOTOGRAPHS / "7_cat.jpg"))[..., ::-1]


def test_prompts_mark_what_they_name(segmentation, make_layer, show, peer, cat):
    layer = make_layer(PROMPTS)
    (prompts,) = peer.get_parameters("prompts", node="/camera/segmentation")
    assert list(layer.names.values()) == list(prompts) == list(layer.costs)
    assert layer.unknown == []
    show(layer, cat, spacing=0.005)
    costs = layer.map()
    assert 254 in costs.values()
    assert {layer.names[tile.dominant] for tile in layer.tiles.values()} == {"cat"}
    assert set(layer.skipped) == {255}
    assert not layer.refused


def test_prompts_that_are_no_classes_are_skipped_and_gone_ones_cost_nothing(
    segmentation, make_layer, show, peer, cat, wait_for
):
    layer, known = make_layer(PROMPTS), dict(make_layer(PROMPTS).names)
    show(layer, cat, spacing=0.005)
    marked = sum(cost == 254 for cost in layer.map().values())
    assert marked
    heard, node = layer.announced, "/camera/segmentation"
    assert peer.set_parameters(node, prompts=["dog", "cup"], background="none") == (True, "")
    wait_for(lambda: layer.announced > heard)
    (cup,) = (number for number, name in layer.names.items() if name == "cup")
    assert cup not in known  # what the costmap remembers of a cat cannot become a cup
    assert layer.unknown == ["cup"]
    assert set(layer.map().values()) == {0}
    coffee = cv2.imread(str(PHOTOGRAPHS / "2_coffee.jpg"))[..., ::-1]
    wait_for(lambda: show(layer, coffee, spacing=0.005) and cup in layer.skipped)
    assert peer.set_parameters(node, prompts=list(known.values()), background="found") == (True, "")
    wait_for(lambda: set(layer.names.values()) == set(known.values()))


@pytest.mark.parametrize("path", [FOUND, PROMPTS], ids=lambda path: path.stem)
def test_the_topics_of_the_samples_exist(path, found, segmentation, peer, wait_for):
    source = read_layer(path)["camera"]
    wanted = {
        source["segmentation_topic"]: "sensor_msgs/msg/Image",
        source["confidence_topic"]: "sensor_msgs/msg/Image",
        source["labels_topic"]: "vision_msgs/msg/LabelInfo",
    }

    def exist():
        there = dict(peer.node.get_topic_names_and_types())
        return all(
            there.get(topic) == [kind] and peer.node.count_publishers(topic) == 1 for topic, kind in wanted.items()
        )

    wait_for(exist)
