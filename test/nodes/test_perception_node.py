"""The node and its adapter: what it calls, when, and with what."""

import threading

import pytest

pytest.importorskip("vision_msgs")
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from std_msgs.msg import Float32

from objloc_ros.errors import ParameterError
from objloc_ros.nodes.adapter import MethodAdapter
from objloc_ros.nodes.camera import Frame
from objloc_ros.nodes.outputs import Output
from objloc_ros.nodes.perception_node import PerceptionNode
from objloc_ros.nodes.segmentation import SegmentationAdapter

LIMIT_S = 60


class Adapter(MethodAdapter):
    """Notes its calls; frames stop at a gate. Its last attribute is set last, and every hook looks at it."""

    name = "recorder"
    parameters = SegmentationAdapter.parameters
    outputs = (Output("value", Float32), Output("other", Float32))
    methods = ()

    def __init__(self):
        super().__init__()
        self.calls, self.news = [], threading.Condition()
        self.gate = threading.Semaphore(0)
        self.whole = True

    def note(self, *call):
        assert self.whole
        with self.news:
            self.calls.append(call)
            self.news.notify_all()

    def wait_for(self, *call):
        with self.news:
            assert self.news.wait_for(lambda: call in self.calls, LIMIT_S), self.calls

    def method_options(self, values):
        return {}

    def check(self, values):
        self.note("check", values["threshold"])
        if values["threshold"] == 0.5:
            raise ParameterError("not half")

    def apply(self, values):
        self.note("apply", values["threshold"])

    def load(self, values, host):
        host.report_step("thinking")
        self.note("load", host.name)

    def process(self, frame, outputs, wanted):
        self.note("process", frame.header.stamp.sec, wanted)
        assert self.gate.acquire(timeout=LIMIT_S)
        outputs.publish("value", Float32())

    def reset(self):
        self.note("reset")

    def free_memory(self):
        self.note("free_memory")

    def release(self):
        self.note("release")

    def describe(self, values):
        return {"device": "cpu"}


@pytest.fixture
def make(context):
    nodes = []

    def make(**parameters):
        overrides = [Parameter(name, value=value) for name, value in {"max_age_ms": 0.0, **parameters}.items()]
        nodes.append(PerceptionNode(Adapter(), context=context, parameter_overrides=overrides))
        return nodes[-1], nodes[-1].adapter

    yield make
    for node in nodes:
        node.adapter.gate.release(100)
        node.close()
        node.destroy_node()


def frame(seconds):
    message = Image(height=1, width=1, encoding="mono8", step=1, data=[0])
    message.header.stamp.sec = seconds
    return Frame(message)


def activate(node):
    """Bring a node up that somebody listens to."""
    node.create_subscription(Float32, "~/value", lambda _: None, 5)
    assert node.trigger_configure().name == "SUCCESS"
    assert node.trigger_activate().name == "SUCCESS"
    assert node.wants_frames()


def test_building_a_node_only_checks_its_parameters(make):
    node, adapter = make(threshold=0.25)
    assert adapter.calls == [("check", 0.25)]
    assert not node.wants_frames()


def test_the_adapter_follows_the_life_cycle(make):
    node, adapter = make()
    activate(node)
    assert adapter.calls[1:] == [("load", "recorder")]
    assert node.trigger_deactivate().name == "SUCCESS"
    assert node.trigger_cleanup().name == "SUCCESS"
    assert adapter.calls[2:] == [("free_memory",), ("free_memory",), ("release",)]


def test_values_are_checked_then_applied_as_a_whole(make):
    node, adapter = make()
    assert node.set_parameters([Parameter("threshold", value=0.75)])[0].successful
    result = node.set_parameters([Parameter("threshold", value=0.5)])[0]
    assert (result.successful, result.reason) == (False, "not half")
    assert adapter.calls[1:] == [("check", 0.75), ("apply", 0.75), ("check", 0.5)]


def test_frames_come_one_at_a_time_with_what_is_wanted_of_them(make):
    node, adapter = make()
    activate(node)
    done = []
    for number in (1, 2, 3):
        node.receive(frame(number), lambda cause, number=number: done.append((number, cause)))
        if number == 1:
            adapter.wait_for("process", 1, {"value"})
    assert done == [(2, "superseded")]
    adapter.gate.release(2)
    adapter.wait_for("process", 3, {"value"})
    node.trigger_deactivate()
    assert done == [(2, "superseded"), (1, ""), (3, "")]


def test_a_jump_of_time_is_told_once_before_the_next_frame_even_if_the_frame_that_jumped_was_superseded(make):
    node, adapter = make()
    activate(node)
    node.receive(frame(100))
    adapter.wait_for("process", 100, {"value"})
    node.receive(frame(3))
    node.receive(frame(4))  # supersedes the frame that jumped
    adapter.gate.release()
    adapter.wait_for("process", 4, {"value"})
    node.receive(frame(5))
    adapter.gate.release()
    adapter.wait_for("process", 5, {"value"})
    names = [call[:2] for call in adapter.calls if call[0] in ("process", "reset")]
    assert names == [("process", 100), ("reset",), ("process", 4), ("process", 5)]


def test_a_node_that_is_not_active_gives_frames_back(make):
    node, _ = make()
    done = []
    node.receive(frame(1), done.append)
    assert done == ["shutdown"]
