"""What the launch arguments `use_sim_time`, `log_level` and `respawn` do to processes that answer frames."""

import os
import signal
import sys
from pathlib import Path

import pytest

pytest.importorskip("launch", reason="launch is not installed here")
pytest.importorskip("launch_ros", reason="launch_ros is not installed here")
sys.path.insert(0, str(Path(__file__).parent))
from builtin_interfaces.msg import Time
from launched import parameters, wait_for
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import Float32
from vision_msgs.msg import Detection2DArray
from waiting import PATIENCE_S

FILES = {
    "objloc.launch.py": ("camera:=/front/image_raw",),
    "multi_camera.launch.py": ("cameras:=front", "methods:=found"),
}
"""Each puts a node `/front/found` before the camera `/front/image_raw`."""


@pytest.fixture(params=FILES)
def start(request, start_file):
    def _start(*arguments):
        return start_file(request.param, *FILES[request.param], "device:=cpu", *arguments)

    return _start


@pytest.fixture
def shoot(peer):
    """Publish one frame: `shoot(stamp)`."""
    publisher = peer.create_publisher(Image, "/front/image_raw", 1)
    image = Image(height=48, width=64, step=192, encoding="rgb8", data=bytes(48 * 64 * 3))

    def _shoot(stamp):
        image.header.stamp = stamp
        publisher.publish(image)

    return _shoot


def test_ages_are_counted_on_the_simulated_clock(start, peer, shoot):
    launched = start("use_sim_time:=true")
    assert parameters(peer, "/front/found", ["use_sim_time"], launched) == {"use_sim_time": True}
    clock = peer.create_publisher(Clock, "/clock", 1)
    ages = []
    peer.create_subscription(Float32, "/front/found/debug/age_ms", lambda message: ages.append(message.data), 10)

    def is_counted():  # the clock stands still at 1000 s while the frame is processed, however long that takes
        clock.publish(Clock(clock=Time(sec=1000)))
        shoot(Time(sec=999, nanosec=750_000_000))
        return 250.0 in ages

    wait_for(is_counted, launched)
    assert launched.end() == 0


def test_a_node_that_was_killed_answers_again(start, peer, shoot):
    launched = start("respawn:=true")
    heard = []
    peer.create_subscription(Detection2DArray, "/front/found/detections", heard.append, 10)

    def is_answered(since):
        shoot(peer.get_clock().now().to_msg())
        return any(message.header.stamp.sec > since for message in heard)

    wait_for(lambda: is_answered(0), launched)
    (killed,) = launched.children()
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: killed not in launched.children(), launched)
    moment = peer.get_clock().now().to_msg().sec
    wait_for(lambda: is_answered(moment), launched)
    assert killed not in launched.children()
    assert launched.end() == 0


def test_without_respawn_a_killed_node_stays_away(start, peer):
    launched = start("autostart:=false")
    parameters(peer, "/front/found", ["device"], launched)
    (killed,) = launched.children()
    os.kill(killed, signal.SIGKILL)
    assert launched.process.wait(PATIENCE_S) == 0
    assert "process has died" in launched.log


@pytest.mark.parametrize(("level", "is_told"), [("debug", True), ("info", False)])
def test_debug_tells_what_became_of_each_frame(start, peer, shoot, level, is_told):
    launched = start(f"log_level:={level}")
    heard = []
    peer.create_subscription(Detection2DArray, "/front/found/detections", heard.append, 10)

    def is_answered():
        shoot(peer.get_clock().now().to_msg())
        return len(heard) > 1

    wait_for(is_answered, launched)
    assert launched.end() == 0
    stamp = heard[0].header.stamp
    line = f"frame of stamp {stamp.sec * 10**9 + stamp.nanosec} ns: published,"
    assert ("[DEBUG]" in launched.log) == is_told
    assert (line in launched.log) == is_told


@pytest.mark.parametrize("argument", ["respawn:=perhaps", "log_level:=loud", "use_sim_time:=1"])
def test_other_values_start_nothing(start, argument):
    launched = start(argument)
    assert launched.process.wait(PATIENCE_S) == 1
    name, _, value = argument.partition(":=")
    assert f'"{name}" provided value "{value}" is not valid' in launched.log
    assert "process started" not in launched.log
