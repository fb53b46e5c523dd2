"""Publishers that only work while somebody listens, with and without events about subscribers."""

import pytest
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import Float32
from waiting import wait_for

from objloc_ros.engine.latest_slot import FrameDroppedError
from objloc_ros.nodes import qos
from objloc_ros.nodes.outputs import Output, Outputs


@pytest.fixture
def world(context):
    node, executor = LifecycleNode("outputs", context=context), SingleThreadedExecutor(context=context)
    executor.add_node(node)

    def spin_until(condition):
        wait_for(lambda: executor.spin_once(timeout_sec=0.05) or condition())

    yield node, spin_until
    executor.shutdown()
    node.destroy_node()


@pytest.mark.parametrize("events", [True, False])
def test_demand_is_followed_and_wanted_outputs_are_named(world, events):
    node, spin_until = world
    changes, got = [], []
    topics = (Output("value", Float32), Output("other", Float32))
    outputs = Outputs(node, topics, lambda: changes.append(outputs.wanted()), matched_events=events)
    node.trigger_configure()
    node.trigger_activate()

    assert outputs.wanted() == frozenset()
    subscription = node.create_subscription(Float32, "~/value", lambda msg: got.append(msg.data), 10)
    spin_until(lambda: changes and changes[-1] == {"value"})
    assert outputs.wanted() == {"value"}
    outputs.publish("value", Float32(data=3.0))
    spin_until(lambda: got)
    assert got == [3.0]
    node.destroy_subscription(subscription)
    spin_until(lambda: changes[-1] == frozenset())


def test_a_latched_output_is_for_whoever_comes_late_and_no_reason_to_work(world):
    node, spin_until = world
    outputs = Outputs(node, [Output("settings", Float32, latched=True)], lambda: None)
    outputs.announce("settings", Float32(data=2.0))  # the node is not active
    got = []
    node.create_subscription(Float32, "~/settings", lambda msg: got.append(msg.data), qos.make_latched_profile())
    spin_until(lambda: got)
    assert got == [2.0]
    assert outputs.wanted() == frozenset()


def test_a_node_that_is_not_active_publishes_nothing(world):
    node, _ = world
    outputs = Outputs(node, [Output("value", Float32)], lambda: None)
    with pytest.raises(FrameDroppedError) as raised:
        outputs.publish("value", Float32())
    assert raised.value.cause == "shutdown"
