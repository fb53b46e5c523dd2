"""Overload, incompatible and silent publishers, start-up errors and the end of the process."""

import signal
import time

import pytest

pytest.importorskip("vision_msgs")

from sensor_msgs.msg import Image
from std_msgs.msg import Float32
from vision_msgs.msg import Detection2DArray

DELAY_MS = 150
CAMERA_HZ = 40


@pytest.fixture(scope="module")
def slow(start):
    return start(delay_ms=DELAY_MS)


def balanced(latest):
    return int(latest["received"]) == int(latest["published"]) + int(latest["dropped"]) + int(latest["in_flight"])


def film(peer, disc, seconds):
    """Publish at CAMERA_HZ."""
    frame, publisher = disc(), peer.publisher(Image)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        publisher.publish(peer.image(frame))
        time.sleep(1 / CAMERA_HZ)


def test_an_engine_slower_than_the_camera_answers_fresh_frames(slow, peer, facts, disc, wait_for):
    detections = peer.subscribe(Detection2DArray, "/found/detections")
    ages = peer.subscribe(Float32, "/found/debug/age_ms")
    peer.ask(detections, lambda: peer.image(disc()))
    detections.messages.clear()
    ages.messages.clear()
    film(peer, disc, 4.0)
    assert balanced(facts())
    wait_for(lambda: facts()["in_flight"] == "0", what="the last frame")
    latest = facts()
    assert balanced(latest)
    assert int(latest["dropped.superseded"]) > int(latest["published"])
    assert len(detections.messages) >= 10
    # A frame waits at most for the one before it, and then takes its own time: about twice the delay, however long
    # the camera runs. The margin is for a busy machine; a queue of ten would be over 1500 ms.
    assert max(age.data for age in ages.messages) < 2 * DELAY_MS + 400
    stamps = [(msg.header.stamp.sec, msg.header.stamp.nanosec) for msg in detections.messages]
    assert stamps == sorted(stamps)
    assert latest["level"] != b"\x02"

    assert peer.set_parameters(max_age_ms=0.01) == (True, "")  # no frame arrives that young
    before = int(latest["published"])
    film(peer, disc, 1.5)
    wait_for(lambda: int(facts().get("dropped.too_old", 0)) > 0)
    wait_for(lambda: facts()["in_flight"] == "0")
    latest = facts()
    assert balanced(latest)
    assert int(latest["published"]) == before
    assert slow.log.count("older than max_age_ms") == 1
    assert peer.set_parameters(max_age_ms=500.0) == (True, "")
    peer.ask(detections, lambda: peer.image(disc()))
    peer.unsubscribe(detections, ages)


def test_unsubscribing_in_mid_frame_leaves_no_frame_unaccounted(slow, peer, facts, disc, wait_for):
    for _ in range(3):
        detections = peer.subscribe(Detection2DArray, "/found/detections")
        peer.ask(detections, lambda: peer.image(disc()))
        film(peer, disc, 0.2)
        peer.unsubscribe(detections)
    wait_for(lambda: facts()["state"] == "idle: nobody subscribes" and facts()["in_flight"] == "0")
    assert balanced(facts())


def test_interrupted_twice_in_mid_frame_it_ends_in_order(slow, peer, disc):
    detections = peer.subscribe(Detection2DArray, "/found/detections")
    peer.ask(detections, lambda: peer.image(disc()))
    film(peer, disc, 0.2)
    assert slow.end((signal.SIGINT, signal.SIGINT)) == 0, slow.log
    assert "Traceback" not in slow.log
    peer.unsubscribe(detections)


def test_interrupted_very_often_it_ends_in_order(spawn, wait_for):
    node = spawn("-r", "__node:=pressed")
    wait_for(lambda: "loaded" in node.log)
    for _ in range(200):
        node.kill(signal.SIGINT)
        node.kill(signal.SIGTERM)
    assert node.end() == 0, node.log


def test_interrupted_while_starting_it_ends(spawn):
    node = spawn("-r", "__node:=early")
    time.sleep(0.5)
    code = node.end((signal.SIGINT, signal.SIGINT))
    # Before the handlers are set up, while Python still imports, the signal ends the process in its own way.
    assert code in (0, -signal.SIGINT)


@pytest.fixture(scope="module")
def picky(start):
    """A node told to insist on RELIABLE."""
    return start(
        "-r", "__node:=picky", "-r", "image:=picky_image", "-r", "/diagnostics:=/diagnostics_picky",
        "-p", "qos_overrides./picky_image.subscription.reliability:=reliable",
    )  # fmt: skip


def test_an_incompatible_publisher_is_named_with_the_fix(picky, peer, disc, wait_for):
    detections = peer.subscribe(Detection2DArray, "/picky/detections")
    peer.publisher(Image, "picky_image", "BEST_EFFORT")
    wait_for(lambda: "QoS is incompatible" in picky.log)
    (line,) = [line for line in picky.log.splitlines() if "QoS is incompatible" in line]
    for word in ("'/picky_image'", "reliability", "/peer (best_effort volatile)", "best_effort",
                 "qos_overrides./picky_image.subscription.reliability"):  # fmt: skip
        assert word in line, line
    peer.publisher(Image, "picky_image", "RELIABLE")
    wait_for(lambda: detections.messages or peer.publishers["picky_image", "RELIABLE"].publish(peer.image(disc())))
    peer.unsubscribe(detections)


def test_a_subscriber_asking_for_more_than_is_offered_is_named(picky, peer, wait_for):
    from rclpy.qos import QoSDurabilityPolicy, QoSProfile

    latched = QoSProfile(depth=1, durability=QoSDurabilityPolicy.TRANSIENT_LOCAL)
    subscription = peer.node.create_subscription(Image, "/picky/mask", lambda msg: None, latched)
    wait_for(lambda: "a subscriber of '/picky/mask' gets nothing" in picky.log)
    peer.node.destroy_subscription(subscription)


def test_a_publisher_without_frames_is_noticed(start, peer, wait_for, monkeypatch):
    for name in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE"):
        monkeypatch.delenv(name)
    node = start("-r", "__node:=lonely", "-r", "image:=silent", "-r", "/diagnostics:=/diagnostics_lonely")
    detections = peer.subscribe(Detection2DArray, "/lonely/detections")
    peer.publisher(Image, "silent")
    wait_for(lambda: "1 publisher(s) of '/silent' but no frame" in node.log)
    assert "fastdds_shm.xml" in node.log
    time.sleep(1.5)
    assert node.log.count("but no frame") == 1
    peer.unsubscribe(detections)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("-p", "mode:=several"), ("mode", "several", "multi, single")),
        (("-p", "qos_overrides./image.subscription.reliability:=often"), ("QoS", "'/image'", "often")),
    ],
)
def test_a_bad_start_value_ends_the_start_with_one_line(arguments, words, spawn):
    node = spawn(*arguments)
    assert node.process.wait(30) == 1
    assert "cannot start" in node.log
    assert "Traceback" not in node.log
    assert all(word in node.log for word in words), node.log
