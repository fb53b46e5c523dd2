"""Presets and layouts must name parameters and topics that exist, with values that the nodes accept."""

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
import yaml

CONFIG = Path(__file__).resolve().parents[2] / "config"
PRESETS = sorted(CONFIG.glob("*.yaml"))
# Relative to the node; what a layout may show.
TOPICS = {
    "found": {
        "overlay",
        "overlay/compressed",
        "mask",
        "confidence",
        "label_info",
        "detections",
        "debug/age_ms",
        "debug/processing_ms",
    },
    "segmentation": {
        "overlay",
        "overlay/compressed",
        "mask",
        "confidence",
        "label_info",
        "detections",
        "debug/age_ms",
        "debug/processing_ms",
    },
    "discovery": {
        "overlay",
        "overlay/compressed",
        "instance_mask",
        "detections",
        "debug/age_ms",
        "debug/processing_ms",
    },
}


def settings_of(preset):
    for key, body in yaml.safe_load(preset.read_text()).items():
        node = key.rpartition("/")[2]
        for name, value in body["ros__parameters"].items():
            yield node, re.sub(r"^\w+\.", "<camera>.", name), value


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.name)
def test_presets_hold_declared_parameters_with_valid_values(preset):
    pytest.importorskip("rclpy")
    from objloc_ros.nodes.parameter_docs import TABLES

    for node, name, value in settings_of(preset):
        assert name in TABLES[node], f"{node} has no parameter {name}"
        TABLES[node][name].check(value)


@pytest.mark.parametrize("node", ["found", "discovery", "segmentation"])
def test_a_nodes_preset_is_its_defaults_written_out(node):
    pytest.importorskip("rclpy")
    from objloc_ros.nodes.parameter_docs import TABLES

    table = TABLES[node]
    for _, name, value in settings_of(CONFIG / f"{node}.yaml"):
        value = tuple(value) if isinstance(value, list) else value
        assert value == table[name].default, f"{name}: the node's default is {table[name].default}"


def strings_in(value):
    if isinstance(value, dict):
        for entry in value.values():
            yield from strings_in(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from strings_in(entry)
    elif isinstance(value, str):
        yield value


def layout(name):
    text = (CONFIG / name).read_text()
    return json.loads(text) if name.endswith(".json") else yaml.safe_load(text)


@pytest.mark.parametrize("name", ["objloc.rviz", "foxglove.json"])
def test_layouts_show_topics_of_the_nodes(name):
    topics = [text for text in strings_in(layout(name)) if text.startswith("/camera/")]
    assert topics
    for topic in topics:
        node, _, rest = topic.removeprefix("/camera/").partition("/")
        assert rest.partition(".")[0] in TOPICS[node], topic


def test_rviz_takes_images_best_effort():
    displays = layout("objloc.rviz")["Visualization Manager"]["Displays"]
    assert {display["Topic"]["Reliability Policy"] for display in displays} == {"Best Effort"}


def test_foxglove_layout_places_every_panel_once():
    def leaves(node):
        return [node] if isinstance(node, str) else leaves(node["first"]) + leaves(node["second"])

    document = layout("foxglove.json")
    assert sorted(leaves(document["layout"])) == sorted(document["configById"])


def test_fast_dds_profile_makes_room_for_full_hd_frames():
    space = "{http://www.eprosima.com}"
    transport = next(
        element
        for element in ElementTree.parse(CONFIG / "fastdds_shm.xml").iter(f"{space}transport_descriptor")
        if element.findtext(f"{space}type") == "SHM"
    )
    assert int(transport.findtext(f"{space}maxMessageSize")) > 1920 * 1080 * 3
    assert int(transport.findtext(f"{space}segment_size")) >= 3 * int(transport.findtext(f"{space}maxMessageSize"))
