"""Life-cycle transitions by number, as nav2's lifecycle manager asks for them: all in all states, in both layouts."""

from pathlib import Path

import pytest
import yaml

pytest.importorskip("vision_msgs")

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from vision_msgs.msg import Detection2DArray

PERCEPTION = str(Path(__file__).with_name("perception_process.py"))

GOALS = {
    "unconfigured": {
        Transition.TRANSITION_CONFIGURE: "inactive",
        Transition.TRANSITION_UNCONFIGURED_SHUTDOWN: "finalized",
    },
    "inactive": {
        Transition.TRANSITION_CLEANUP: "unconfigured",
        Transition.TRANSITION_ACTIVATE: "active",
        Transition.TRANSITION_INACTIVE_SHUTDOWN: "finalized",
    },
    "active": {Transition.TRANSITION_DEACTIVATE: "inactive", Transition.TRANSITION_ACTIVE_SHUTDOWN: "finalized"},
    "finalized": {},
}
"""Of each state, the transitions that a client may ask for and where they lead (design.ros2.org, "Managed nodes")."""

NUMBERS = (*range(9), 10, 11, 60, 61, 62, 99, 255)
"""All transitions of lifecycle_msgs that clients may know, inner results among them, and some that do not exist."""


def change(peer, number, node):
    request = ChangeState.Request()
    request.transition.id = number
    return peer.call(ChangeState, f"{node}/change_state", request).success


def refuse_all(peer, node, state):
    """Ask for everything that is impossible in a state; the node says no and stays where it is."""
    for number in sorted(set(NUMBERS) - set(GOALS[state])):
        assert not change(peer, number, node), f"transition {number} when {state}"
        assert peer.state(node) == state, f"after transition {number} when {state}"


def walk(peer, node):
    """Lead an active node through all states by all ways, with every impossible transition on the way."""
    seen = "active"
    for goal in ("inactive", "unconfigured", "inactive", "active", "inactive", "active", "finalized"):
        refuse_all(peer, node, seen)
        (number,) = (number for number, to in GOALS[seen].items() if to == goal)
        assert change(peer, number, node), f"transition {number} when {seen}"
        assert peer.state(node) == goal
        seen = goal
    refuse_all(peer, node, "finalized")


def test_a_node_of_its_own_refuses_what_is_impossible_and_goes_on(peer, start):
    node = start()
    walk(peer, "/found")
    assert node.process.poll() is None, node.log
    assert node.says_once_a_minute("refused transition")
    assert "the node is active" in node.log


@pytest.mark.parametrize("state", ["unconfigured", "inactive"])
def test_shutdown_from_every_other_state(peer, start, state):
    name = f"/ends_{state}"
    node = start("-r", f"__node:={name[1:]}", "-p", "autostart:=false")
    if state == "inactive":
        assert change(peer, Transition.TRANSITION_CONFIGURE, name)
    refuse_all(peer, name, state)
    (number,) = (number for number, goal in GOALS[state].items() if goal == "finalized")
    assert change(peer, number, name)
    refuse_all(peer, name, "finalized")
    assert node.process.poll() is None, node.log


def test_a_camera_of_perception_refuses_and_the_others_go_on(peer, start, tmp_path, disc):
    cameras = {"/perception": {"ros__parameters": {"cameras": ["front", "rear"], "methods": ["found"]}}}
    (tmp_path / "cameras.yaml").write_text(yaml.safe_dump(cameras))
    process = start("--params-file", str(tmp_path / "cameras.yaml"), command=[PERCEPTION])
    walk(peer, "/front/found")
    inbox = peer.subscribe(Detection2DArray, "/rear/found/detections")
    asked, answer = peer.ask(inbox, lambda: peer.image(disc()), "/rear/image_raw")
    assert answer.header == asked.header
    assert process.process.poll() is None, process.log
