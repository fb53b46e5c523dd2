"""The node that publishes frames, as a process over DDS; what its sources do is in test_frame_sources.py."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from waiting import PATIENCE_S

pytest.importorskip("rclpy")
import rclpy
from rclpy.qos import QoSProfile, QoSReliabilityPolicy
from sensor_msgs.msg import Image

from objloc_ros.io.media import write_image
from objloc_ros.nodes.conversions import image_to_rgb
from objloc_ros.nodes.image_source import PARAMETERS

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def grey_picture(tmp_path):
    path = tmp_path / "a.png"
    write_image(path, np.full((6, 8, 3), 5, np.uint8))
    return path


@pytest.fixture
def start(domain):
    """Start image_source processes that do not outlive the test."""
    children = []

    def _start(**parameters):
        arguments = [f"{name}:={value}" for name, value in parameters.items()]
        child = subprocess.Popen(
            [sys.executable, "-m", "objloc_ros.nodes.image_source", "--ros-args", "-r", "__ns:=/cam"]
            + [word for argument in arguments for word in ("-p", argument)],
            cwd=REPOSITORY,
            env={**os.environ, "ROS_DOMAIN_ID": str(domain), "AMENT_PREFIX_PATH": sys.prefix, **profile()},
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        children.append(child)
        return child

    yield _start
    for child in children:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        child.stderr.close()


def profile():
    path = str(REPOSITORY / "config" / "fastdds_shm.xml")
    return {"FASTRTPS_DEFAULT_PROFILES_FILE": path, "FASTDDS_DEFAULT_PROFILES_FILE": path}


@pytest.fixture
def listener(domain, monkeypatch):
    """A node in this process; `listen(topic, qos)` returns the list that fills with messages while `spin` runs."""
    for name, value in profile().items():
        monkeypatch.setenv(name, value)
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=domain)
    node = rclpy.create_node("listener", namespace="/cam", context=context)
    executor = rclpy.executors.SingleThreadedExecutor(context=context)
    executor.add_node(node)

    class Listener:
        @staticmethod
        def listen(topic, profile):
            messages = []
            node.create_subscription(Image, topic, messages.append, profile)
            return messages

        @staticmethod
        def publishers(topic):
            return node.count_publishers(topic)

        @staticmethod
        def spin(until, timeout=PATIENCE_S):
            deadline = time.monotonic() + timeout
            while not until() and time.monotonic() < deadline:
                executor.spin_once(timeout_sec=0.05)
            return until()

    yield Listener
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown(context=context)


RELIABLE = QoSProfile(depth=50, reliability=QoSReliabilityPolicy.RELIABLE)
BEST_EFFORT = QoSProfile(depth=50, reliability=QoSReliabilityPolicy.BEST_EFFORT)
"""As cameras offer it; deep, so that frames can wait where this process has to."""


def test_frames_arrive_in_another_process_and_the_source_ends(start, listener):
    began = time.time()
    images = listener.listen("image", BEST_EFFORT)
    truths = listener.listen("image_source/truth", RELIABLE)
    child = start(frames=4, rate=4.0, size="320x240", wait_for_subscribers=1, frame_id="front")
    assert listener.spin(lambda: child.poll() is not None and len(images) == len(truths) == 4), (
        len(images),
        len(truths),
    )
    assert child.returncode == 0
    assert [t.header for t in truths] == [m.header for m in images]
    assert (images[0].encoding, images[0].header.frame_id) == ("rgb8", "front")
    assert image_to_rgb(images[0]).shape == (240, 320, 3)
    assert (truths[0].encoding, truths[0].width, truths[0].height) == ("mono8", 320, 240)
    stamps = [m.header.stamp.sec + 1e-9 * m.header.stamp.nanosec for m in images]
    assert began < stamps[0]
    assert stamps[-1] < time.time()
    assert stamps == sorted(set(stamps))
    assert stamps[-1] - stamps[0] > 0.4  # a node that has to wait for the processor may begin late, and so be shorter


def test_nothing_is_sent_before_the_subscribers_are_there(start, listener, grey_picture):
    images = listener.listen("image", BEST_EFFORT)
    child = start(source=grey_picture, frames=2, rate=50.0, wait_for_subscribers=2)
    assert listener.spin(lambda: listener.publishers("image"))
    listener.spin(lambda: images, timeout=1.0)
    assert child.poll() is None
    assert not images
    listener.listen("image", BEST_EFFORT)
    assert listener.spin(lambda: child.poll() is not None)
    assert len(images) == 2


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"source": "/nowhere/a.png"}, "does not exist"),
        ({"source": "99"}, "webcam '99'"),
        ({"rate": "0.0"}, "rate"),
        ({"size": "huge"}, "640x480"),
    ],
)
def test_a_start_that_fails_says_why(start, parameters, words):
    child = start(**parameters)
    _, errors = child.communicate(timeout=PATIENCE_S)
    assert child.returncode == 1
    assert words in errors
    assert len(errors.splitlines()) == 1


def test_a_source_that_fails_later_says_why(start, grey_picture, tmp_path):
    (tmp_path / "b.png").write_bytes(b"")
    child = start(source=tmp_path, rate=50.0)
    _, errors = child.communicate(timeout=PATIENCE_S)
    assert child.returncode == 1
    assert "b.png" in errors


def test_two_interrupts_end_it_quietly(start, listener, grey_picture):
    images = listener.listen("image", BEST_EFFORT)
    child = start(source=grey_picture, rate=50.0)
    assert listener.spin(lambda: images)
    child.send_signal(signal.SIGINT)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=PATIENCE_S)
    assert child.returncode == 0
    assert "Traceback" not in errors


def test_every_parameter_is_documented():
    assert all(spec.help and not spec.live for spec in PARAMETERS.values())
