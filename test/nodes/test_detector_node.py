"""The detector in the discovery node: loaded where it can be, refused by name where it cannot, and live."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

pytest.importorskip("vision_msgs")

from detector_making import make_detector
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image

from objloc_ros.nodes.camera import Frame
from objloc_ros.nodes.conversions import rgb_to_image
from objloc_ros.nodes.discovery import DiscoveryAdapter
from objloc_ros.nodes.perception_node import PerceptionNode
from objloc_ros.scenes.video import drive_video


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return make_detector(tmp_path_factory.mktemp("detectors") / "detector.safetensors", classes=("crate", "hand"))


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return make_detector(tmp_path_factory.mktemp("detectors") / "other.safetensors", of="0" * 64)


@pytest.fixture
def make(context):
    nodes = []

    def make(**parameters):
        values = {"device": "cpu", **parameters}
        overrides = [Parameter(name, value=value) for name, value in values.items()]
        nodes.append(PerceptionNode(DiscoveryAdapter(), context=context, parameter_overrides=overrides))
        return nodes[-1]

    yield make
    for node in nodes:
        node.close()
        node.destroy_node()


def process(node, count=1):
    """Run the node's adapter on some frames of a video; returns the last detections."""
    published = []
    outputs = SimpleNamespace(publish=lambda name, message: published.append(message))
    for image, _ in drive_video(seed=3, size=(96, 128), frames=count):
        header = Image().header
        node.adapter.process(Frame(rgb_to_image(image, header)), outputs, frozenset({"detections"}))
    return published[-1].detections


def test_it_publishes_classes_scores_and_ids(make, file):
    node = make(method="detector", head_weights=str(file), max_objects=2)
    assert node.trigger_configure().name == "SUCCESS"
    first = process(node)
    assert len(first) == 2
    assert {detection.results[0].hypothesis.class_id for detection in first} <= {"crate", "hand"}
    scores = [detection.results[0].hypothesis.score for detection in first]
    assert 1 >= scores[0] >= scores[1] >= 0.3
    assert [detection.id for detection in first] == ["1", "2"]
    assert [detection.id for detection in process(node)] == ["1", "2"]
    assert node.set_parameters([Parameter("min_score", value=1.0)])[0].successful
    assert len(process(node)) == 0


def test_weak_guesses_are_kept_where_the_least_score_is_low(make):
    node = make(method="detector", max_objects=20)
    assert node.trigger_configure().name == "SUCCESS"
    usual = process(node)
    assert node.set_parameters([Parameter("min_score", value=0.06)])[0].successful
    weak = process(node)
    scores = [detection.results[0].hypothesis.score for detection in weak]
    assert len(weak) > len(usual)
    assert 0.06 <= min(scores) < 0.3
    assert node.set_parameters([Parameter("min_score", value=0.0)])[0].successful
    assert len(process(node)) == len(usual)


def test_methods_take_turns_while_it_runs(make, file):
    node = make(method="maskcut", head_weights=str(file))
    assert node.trigger_configure().name == "SUCCESS"
    process(node)
    assert node.set_parameters([Parameter("method", value="detector")])[0].successful
    assert {detection.results[0].hypothesis.class_id for detection in process(node)} <= {"crate", "hand"}
    assert node.set_parameters([Parameter("post", value="bilateral")])[0].successful
    process(node)
    assert node.set_parameters([Parameter("method", value="maskcut")])[0].successful
    assert {detection.results[0].hypothesis.class_id for detection in process(node)} <= {"object"}


def test_another_backbone_s_detector_is_an_error_that_says_so(make, other, file):
    node = make(method="detector", head_weights=str(other))
    assert node.trigger_configure().name == "FAILURE"
    assert "trained on other weights of tiny" in node._log.last_error
    assert "Traceback" not in node._log.last_error
    assert make(method="detector", head_weights=str(file)).trigger_configure().name == "SUCCESS"


def test_a_missing_file_is_an_error_that_says_so(make, file):
    node = make(method="detector", head_weights=str(file.with_name("absent.safetensors")))
    assert node.trigger_configure().name == "FAILURE"
    assert "no weights file" in node._log.last_error


def test_a_backbone_without_a_detector_runs_the_other_methods(make, monkeypatch):
    monkeypatch.setattr("objloc_ros.nodes.discovery.is_present", lambda name: False)
    node = make(method="maskcut")
    assert node.trigger_configure().name == "SUCCESS"
    process(node)
    refused = node.set_parameters([Parameter("method", value="detector")])[0]
    assert not refused.successful
    assert "detector needs another network than the loaded one" in refused.reason
    process(node)
