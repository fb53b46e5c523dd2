"""Publishers that only work while somebody listens, with and without events about subscribers."""

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode
from std_msgs.msg import Float32
from waiting import wait_for

from objloc_ros.engine.latest_slot import FrameDroppedError
from objloc_ros.nodes.outputs import Outputs


@pytest.fixture(scope="module")
def context(domain):
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    yield context
    context.try_shutdown()


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
def test_demand_is_followed_and_only_wanted_messages_are_built(world, events):
    node, spin_until = world
    changes, made, got = [], [], []
    outputs = Outputs(node, lambda: changes.append(outputs.any_wanted()), matched_events=events)
    outputs.add("value", Float32)
    outputs.add("other", Float32)
    node.trigger_configure()
    node.trigger_activate()

    def make():
        made.append(1)
        return Float32(data=3.0)

    outputs.publish("value", make)
    assert not made
    subscription = node.create_subscription(Float32, "~/value", lambda msg: got.append(msg.data), 10)
    spin_until(lambda: changes and changes[-1])
    assert (outputs.wanted("value"), outputs.wanted("other")) == (True, False)
    outputs.publish("value", make)
    outputs.publish("other", make)
    spin_until(lambda: got)
    assert (len(made), got) == (1, [3.0])
    node.destroy_subscription(subscription)
    spin_until(lambda: changes[-1] is False)


def test_a_node_that_is_not_active_publishes_nothing(world):
    node, _ = world
    outputs = Outputs(node, lambda: None)
    outputs.add("value", Float32)
    with pytest.raises(FrameDroppedError) as raised:
        outputs.publish("value", Float32)
    assert raised.value.cause == "shutdown"
