from pathlib import Path

import pytest
from rcl_interfaces.msg import SetParametersResult
from rclpy.exceptions import ParameterException
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter

from objloc_ros.errors import ParameterError
from objloc_ros.nodes.parameter_docs import make_document
from objloc_ros.nodes.params import LiveParameters, Table, to_descriptor
from objloc_ros.options import Option

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "parameters.md"

TABLE = Table(
    Option("gain", 0.5, "How much.", live=True, low=0.0, high=2.0),
    Option("count", 3, "How many.", live=True, low=1, high=9),
    Option("mode", "fast", "How.", live=True, choices=("fast", "good")),
    Option("model", "tiny", "Which."),
    Option("on", True, "Whether."),
)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"gain": 0.0},
        {"gain": 2.0},
        {"count": 9, "mode": "good"},
        {"model": ""},
        {"on": False},
        {"somebody_elses": []},
    ],
)
def test_good_values_pass(values):
    TABLE.check(values)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"gain": 2.1}, ("gain", "[0, 2]", "2.1")),
        ({"gain": float("nan")}, ("gain", "nan")),
        ({"gain": float("inf")}, ("gain", "inf")),
        ({"gain": 1}, ("gain", "double", "1")),
        ({"count": 0}, ("count", "[1, 9]", "0")),
        ({"count": True}, ("count", "int", "True")),
        ({"mode": "slow"}, ("mode", "fast, good", "'slow'")),
        ({"on": "yes"}, ("on", "bool", "'yes'")),
        ({"gain": 1.0, "count": 10}, ("count", "10")),
    ],
)
def test_bad_values_are_named_with_their_constraint(values, words):
    with pytest.raises(ParameterError) as raised:
        TABLE.check(values)
    assert all(word in str(raised.value) for word in words)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Option("x", 3.0, "", low=0.0, high=1.0),
        lambda: Option("x", "a", "", choices=("b",)),
        lambda: Table(Option("x", 3.0, "", low=0.0)),
        lambda: Table(Option("x", 0.5, "", low=0.0, high=1.0, exclusive=True)),
        lambda: Table(Option("x", None, "", kind=int)),
        lambda: Table(Option("x", 1, ""), Option("x", 2, "")),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(make):
    with pytest.raises(ParameterError):
        make()


def test_descriptors():
    gain, count, mode, model, on = map(to_descriptor, TABLE.values())
    assert (gain.floating_point_range[0].from_value, gain.floating_point_range[0].to_value) == (0.0, 2.0)
    assert (count.integer_range[0].from_value, count.integer_range[0].to_value) == (1, 9)
    assert mode.additional_constraints == "one of fast, good"
    assert [d.read_only for d in (gain, count, mode, model, on)] == [False, False, False, True, True]
    assert gain.description == "How much."


def test_markdown():
    assert TABLE.markdown().splitlines() == [
        "| parameter | type | default | allowed | live | meaning |",
        "|---|---|---|---|---|---|",
        "| `gain` | double | `0.5` | 0 to 2 | yes | How much. |",
        "| `count` | int | `3` | 1 to 9 | yes | How many. |",
        "| `mode` | string | `'fast'` | `fast`, `good` | yes | How. |",
        "| `model` | string | `'tiny'` |  | no | Which. |",
        "| `on` | bool | `true` |  | no | Whether. |",
    ]


def test_the_document_is_what_the_tables_say():
    written = DOCUMENT.read_text(encoding="utf-8")
    assert written == make_document(), "run python -m objloc_ros.nodes.parameter_docs > docs/parameters.md"


@pytest.fixture(params=["jazzy", "humble"])
def node(request, context):
    """A node, once as it is and once without the callback that Humble lacks."""

    class Humble(Node):
        add_post_set_parameters_callback = None

    node = (Node if request.param == "jazzy" else Humble)("params", context=context, start_parameter_services=False)
    yield node
    node.destroy_node()


def bound(node, check=lambda values: None):
    applied = []
    return LiveParameters(node, TABLE, check=check, apply=applied.append), applied


def settle(node):
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    for _ in range(3):
        executor.spin_once(timeout_sec=0.05)
    executor.remove_node(node)
    executor.shutdown()


def set_all(node, **values):
    return node.set_parameters_atomically([Parameter(name, value=value) for name, value in values.items()])


def test_a_set_is_applied_once_and_whole(node):
    live, applied = bound(node)
    assert set_all(node, gain=1.5, mode="good").successful
    settle(node)
    assert applied == [{"gain": 1.5, "count": 3, "mode": "good", "model": "tiny", "on": True}]
    assert live.values() == applied[0]


def test_a_refused_set_applies_nothing(node):
    live, applied = bound(node)
    result = set_all(node, gain=1.5, mode="slow")
    assert not result.successful
    assert "mode must be one of fast, good" in result.reason
    settle(node)
    assert applied == []
    assert live.values()["gain"] == 0.5


def test_a_check_across_parameters_sees_the_values_that_would_result(node):
    def check(values):
        if values["mode"] == "good" and values["count"] > 5:
            raise ParameterError(f"good takes at most 5, got {values['count']}")

    live, _ = bound(node, check)
    assert set_all(node, count=8).successful
    assert set_all(node, mode="good").reason == "good takes at most 5, got 8"
    assert set_all(node, mode="good", count=5).successful
    assert live.values()["count"] == 5


def test_a_set_refused_by_somebody_else_changes_nothing(node):
    live, applied = bound(node)
    node.add_on_set_parameters_callback(lambda _: SetParametersResult(successful=True))
    node._on_set_parameters_callbacks.append(lambda _: SetParametersResult(successful=False, reason="no"))
    assert set_all(node, gain=1.5).reason == "no"
    settle(node)
    assert live.values()["gain"] == 0.5
    assert all(values["gain"] == 0.5 for values in applied)


def test_other_peoples_parameters_are_not_ours_to_apply(node):
    _, applied = bound(node)
    node.declare_parameter("somebody_elses", 1)
    assert set_all(node, somebody_elses=2).successful
    settle(node)
    assert applied == []


def test_read_only_parameters_are_refused(node):
    bound(node)
    result = set_all(node, gain=1.0, model="large")
    assert not result.successful
    assert "read-only parameter: model" in result.reason
    assert node.get_parameter("gain").value == 0.5


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [("gain", 7.0, "7.0"), ("gain", "high", "DOUBLE"), ("mode", "slow", "fast, good"), ("count", 0, "0")],
)
def test_bad_start_values_are_refused(context, name, value, word):
    node = Node("start", context=context, parameter_overrides=[Parameter(name, value=value)])
    with pytest.raises((ParameterError, ParameterException), match=word):
        bound(node)
    node.destroy_node()
