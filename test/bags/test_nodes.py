"""Which nodes answer in real time, and with which parameters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("vision_msgs")

from objloc_ros.bags.nodes import list_nodes, make_parameters
from objloc_ros.bags.realtime import Realtime
from objloc_ros.bags.settings import PromptSet
from objloc_ros.engine.config import MethodOptions, PipelineConfig
from objloc_ros.engine.video_tracker import VideoOptions
from objloc_ros.errors import ParameterError

IMAGE, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"


def settings(*methods: str, options: tuple[MethodOptions, ...] = (), sets: Any = (), **more: Any) -> Realtime:
    return Realtime(config=PipelineConfig(methods=methods, options=options, device="cpu"), sets=sets, **more)


def only_parameters(wanted: Realtime) -> dict[str, Any]:
    (row,) = wanted.rows
    return make_parameters(wanted, row)


def test_found() -> None:
    got = only_parameters(settings("found", options=((("threshold", 0.6), ("mode", "single")),)))
    assert {name: got[name] for name in ("method", "backbone", "device", "threshold", "mode")} == {
        "method": "found",
        "backbone": "tiny",
        "device": "cpu",
        "threshold": 0.6,
        "mode": "single",
    }
    assert not {"short_side", "weights", "prompts", "temporal"} & set(got)  # defaults, and other nodes'
    assert only_parameters(settings("selfmask"))["method"] == "selfmask"


def test_what_is_ignored_is_ignored_by_every_node() -> None:
    polygon = "0,0.9 1,0.9 1,1 0,1"
    for method, sets in (("found", ()), ("lost", ()), ("maskclip", (PromptSet.parse("red object"),))):
        wanted = Realtime(config=PipelineConfig(methods=(method,), ignore=polygon), sets=sets)
        assert only_parameters(wanted)["ignore"] == polygon


def test_discovery() -> None:
    options: tuple[MethodOptions, ...] = ((("n_masks", 2), ("post", "none")),)
    video = VideoOptions(temporal=False, max_objects=2, min_score=0.25)
    got = only_parameters(settings("maskcut", options=options, video=video))
    expected = {"method": "maskcut", "post": "none", "temporal": False, "max_objects": 2, "min_score": 0.25}
    assert {name: got[name] for name in expected} == expected


def test_segmentation() -> None:
    one = PromptSet.parse("red object, blue object")
    got = only_parameters(settings("maskclip", sets=(one,)))
    assert got["prompts"] == ("red object", "blue object")
    assert (got["method"], got["clip"], got["templates"]) == ("maskclip", "tiny_clip", ("a photo of a {}",))


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("maskcut", (("n_masks", 5),), "n_masks is the node's max_objects"),
        ("maskcut", (("tau", 0.3),), "the discovery node has no parameter tau: only lockstep can set it to 0.3"),
        ("found", (("max_detections", 2000),), r"max_detections must lie in \[1, 1000\], got 2000"),
    ],
)
def test_what_the_nodes_cannot_do(method: str, options: MethodOptions, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        settings(method, options=(options,))


def test_one_node_for_each_camera_and_row() -> None:
    kinds = {"/front/image": IMAGE, "/rear/image/compressed": COMPRESSED, "/jpeg": COMPRESSED}
    nodes = list_nodes(settings("lost", "tokencut"), kinds, list(kinds))
    assert [node.name for node in nodes] == [
        "/front/discovery_lost",
        "/front/discovery_tokencut",
        "/rear/discovery_lost",
        "/rear/discovery_tokencut",
        "/discovery_lost",
        "/discovery_tokencut",
    ]
    raw, compressed, plain = nodes[0], nodes[2], nodes[4]
    assert raw.remappings == {"__node": "discovery_lost", "image": "/front/image"}
    assert (compressed.played, compressed.remappings["image"]) == ("/rear/image/compressed", "/rear/image")
    assert (plain.played, plain.remappings["image"]) == ("/jpeg/compressed", "/jpeg")
    assert [node.parameters["image_transport"] for node in (raw, compressed, plain)] == ["raw", *["compressed"] * 2]
    assert all(node.parameters["use_sim_time"] for node in nodes)


def test_only_what_is_wanted_is_listened_to() -> None:
    def names(**more: Any) -> list[str]:
        wanted = settings("found", **more)
        (node,) = list_nodes(wanted, {"/front/image": IMAGE}, ["/front/image"])
        return [Path(topic.topic).name for topic in node.recorded_topics(wanted)]

    assert names(outputs=False) == ["detections", "mask", "label_info"]
    assert names() == ["detections", "mask", "confidence", "label_info"]
    assert names(overlay=True) == ["detections", "mask", "confidence", "label_info", "compressed"]
