"""Presets and layouts must name parameters and topics that exist, with values that the nodes accept."""

import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

CONFIG = Path(__file__).resolve().parents[2] / "config"
PRESETS = sorted(CONFIG.glob("*.yaml"))
LAYOUTS = ("objloc.rviz", "foxglove.json")


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


@pytest.mark.parametrize("node", ["found", "discovery", "segmentation", "locate"])
def test_a_nodes_preset_is_its_defaults_written_out(node):
    pytest.importorskip("rclpy")
    from objloc_ros.nodes.parameter_docs import TABLES

    table = TABLES[node]
    for _, name, value in settings_of(CONFIG / f"{node}.yaml"):
        value = tuple(value) if isinstance(value, list) else value
        assert value == table[name].default, f"{name}: the node's default is {table[name].default}"


def strings_in(value):
    if isinstance(value, dict):
        for key, entry in value.items():
            yield key
            yield from strings_in(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from strings_in(entry)
    elif isinstance(value, str):
        yield value


def read_layout(name):
    text = (CONFIG / name).read_text()
    return json.loads(text) if name.endswith(".json") else yaml.safe_load(text)


def topics_in(name):
    """Topics of the camera in a layout, without the message paths behind them."""
    names = [text for text in strings_in(read_layout(name)) if text.startswith("/camera/")]
    return {text.partition(".")[0].removeprefix("/camera/") for text in names}


def topics_of_nodes():
    """Every topic of the nodes of one camera, relative to its namespace."""
    pytest.importorskip("visualization_msgs", reason="locate has no markers here")
    from objloc_ros.nodes.locate import LocateAdapter
    from objloc_ros.nodes.perception import ADAPTERS
    from objloc_ros.nodes.perception_node import DEBUG_OUTPUTS
    from objloc_ros.nodes.prompt_topic import TOPIC

    nodes = {**ADAPTERS, "locate": LocateAdapter}
    outputs = {f"{node}/{output.name}" for node in nodes for output in (*DEBUG_OUTPUTS, *nodes[node].outputs)}
    return outputs | {TOPIC.replace("~", "segmentation")}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_show_topics_of_the_nodes(name):
    pytest.importorskip("rclpy")
    shown = topics_in(name)
    assert shown <= topics_of_nodes()
    assert shown >= {"found/overlay", "found/mask", "segmentation/overlay", "segmentation/mask", "discovery/overlay"}
    assert shown >= {"locate/markers", "locate/points"}


def test_layouts_stand_in_the_optical_frame_of_the_demo_camera():
    pytest.importorskip("rclpy")
    from objloc_ros.nodes.image_source import PARAMETERS

    frame = PARAMETERS["frame_id"].default
    assert read_layout("objloc.rviz")["Visualization Manager"]["Global Options"]["Fixed Frame"] == frame
    assert read_layout("foxglove.json")["configById"]["3D!objects"]["followTf"] == frame


def test_rviz_takes_messages_best_effort():
    displays = read_layout("objloc.rviz")["Visualization Manager"]["Displays"]
    policies = {display["Topic"]["Reliability Policy"] for display in displays if "Topic" in display}
    assert policies == {"Best Effort"}


def panels_of(node):
    """Panels that a part of a Foxglove layout places, in tabs or outside."""
    if isinstance(node, dict):
        return panels_of(node["first"]) + panels_of(node["second"])
    tabs = read_layout("foxglove.json")["configById"][node].get("tabs", [])
    return [node, *(panel for tab in tabs for panel in panels_of(tab["layout"]))]


def test_foxglove_layout_places_every_panel_once():
    document = read_layout("foxglove.json")
    assert sorted(panels_of(document["layout"])) == sorted(document["configById"])
    kinds = {panel.partition("!")[0] for panel in document["configById"]}
    assert kinds >= {"Image", "3D", "Parameters", "Publish", "DiagnosticSummary", "RawMessages", "Plot"}


def test_foxglove_knows_every_setting_of_its_panels():
    """Foxglove drops what it does not know without a word; its SDK names what its app knows."""
    layouts = pytest.importorskip("foxglove.layouts")
    beside = {"foxglovePanelTitle", "activeTabIdx", "tabs"}  # the app's own, in layouts that it has saved

    def unknown(settings, kind):
        known = {re.sub(r"_(\w)", lambda found: found[1].upper(), field.name) for field in fields(kind)}
        return set(settings) - known - beside

    for panel, config in read_layout("foxglove.json")["configById"].items():
        kind = panel.partition("!")[0]
        kind = {"3D": "ThreeDee", "DiagnosticSummary": "DiagnosticsSummary"}.get(kind, kind)
        if kind in ("Tab", "Parameters"):  # nothing of theirs can be set but titles and tabs
            assert set(config) <= beside
            continue
        assert unknown(config, getattr(layouts, f"{kind}Config")) == set(), panel
        assert unknown(config.get("imageMode", {}), layouts.ImageModeConfig) == set(), panel
        assert unknown(config.get("cameraState", {}), layouts.ThreeDeeCameraState) == set(), panel
        for settings in config.get("topics", {}).values():
            assert unknown(settings, layouts.BaseRendererPointCloudTopicSettings) == set(), panel
        for series in config.get("paths", []):
            assert unknown(series, layouts.PlotSeries) == set(), panel


def test_prompts_to_publish_are_a_message():
    from objloc_ros.types import split_prompts

    std_msgs = pytest.importorskip("std_msgs.msg")
    panel = read_layout("foxglove.json")["configById"]["Publish!prompts"]
    assert panel["datatype"] == "std_msgs/msg/String"
    assert split_prompts(std_msgs.String(**json.loads(panel["value"])).data)


def test_fast_dds_profile_makes_room_for_full_hd_frames():
    space = "{http://www.eprosima.com}"
    transport = next(
        element
        for element in ElementTree.parse(CONFIG / "fastdds_shm.xml").iter(f"{space}transport_descriptor")
        if element.findtext(f"{space}type") == "SHM"
    )
    assert int(transport.findtext(f"{space}maxMessageSize")) > 1920 * 1080 * 3
    assert int(transport.findtext(f"{space}segment_size")) >= 3 * int(transport.findtext(f"{space}maxMessageSize"))
