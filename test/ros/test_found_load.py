"""Overload, incompatible and silent publishers, start-up errors and the end of the process."""

import signal
import time

import pytest
from waiting import PATIENCE_S

pytest.importorskip("vision_msgs")

from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray


@pytest.fixture(scope="module")
def slow(start):
    return start()


def send(peer, disc, count=1):
    """Publish frames; returns them."""
    frames = [peer.image(disc()) for _ in range(count)]
    for frame in frames:
        peer.publisher(Image).publish(frame)
    return frames


def test_an_engine_slower_than_the_camera_answers_fresh_frames(slow, peer, facts, disc, wait_for):
    detections = peer.subscribe(Detection2DArray, "/found/detections")
    peer.ask(detections, lambda: peer.image(disc()))
    facts.settle()
    for _ in range(3):
        detections.messages.clear()
        names = ("received", "published", "dropped.superseded")
        before, sent = {name: facts.count(name) for name in names}, []
        with slow.held_up("engine") as reached:
            for _ in range(5):
                sent += send(peer, disc)
                reached()
                wait_for(lambda: facts.count("received") == before["received"] + len(sent))  # noqa: B023
            wait_for(lambda: facts.count("in_flight") == 2, "one in work, one waiting")
            assert facts.conserved()
        wait_for(lambda: detections.with_stamp(sent[-1].header.stamp), "an answer to the newest frame")  # noqa: B023
        # A frame waits at most for the one before it, however many have come since.
        assert [msg.header.stamp for msg in detections.messages] == [sent[0].header.stamp, sent[-1].header.stamp]
        facts.settle()
        assert [facts.count(name) - before[name] for name in names] == [5, 2, 3]
        assert facts()["level"] != b"\x02"

    assert peer.set_parameters(max_age_ms=0.01) == (True, "")  # no frame arrives that young
    before = facts.count("published")
    wait_for(lambda: send(peer, disc) and facts.count("dropped.too_old"))
    facts.settle()
    assert facts.conserved()
    assert facts.count("published") == before
    assert slow.says_once_a_minute("older than max_age_ms")
    assert peer.set_parameters(max_age_ms=0.0) == (True, "")
    peer.ask(detections, lambda: peer.image(disc()))
    peer.unsubscribe(detections)


def test_unsubscribing_in_mid_frame_leaves_no_frame_unaccounted(slow, peer, facts, disc, wait_for):
    for _ in range(3):
        detections = peer.subscribe(Detection2DArray, "/found/detections")
        peer.ask(detections, lambda: peer.image(disc()))
        with slow.held_up("engine") as reached:
            send(peer, disc)
            reached()
            send(peer, disc, 4)
            peer.unsubscribe(detections)
            wait_for(lambda: facts()["state"] == "idle: nobody subscribes")
        facts.settle()
        assert facts.conserved()


def test_interrupted_twice_in_mid_frame_it_ends_in_order(slow, peer, disc):
    detections = peer.subscribe(Detection2DArray, "/found/detections")
    peer.ask(detections, lambda: peer.image(disc()))
    with slow.held_up("engine") as reached:
        send(peer, disc)
        reached()
        slow.kill(signal.SIGINT)
        time.sleep(0.1)  # so that the second one may come while the first is being dealt with
        slow.kill(signal.SIGINT)
        assert slow.process.poll() is None
    assert slow.end(()) == 0, slow.log
    assert "Traceback" not in slow.log
    peer.unsubscribe(detections)


def test_interrupted_very_often_it_ends_in_order(spawn, wait_for):
    node = spawn("-r", "__node:=pressed", fresh=True)
    wait_for(lambda: "loaded" in node.log)
    for _ in range(200):
        node.kill(signal.SIGINT)
        node.kill(signal.SIGTERM)
    assert node.end() == 0, node.log


def test_interrupted_while_starting_it_ends(spawn):
    node = spawn("-r", "__node:=early", fresh=True)
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
    reports = peer.subscribe(DiagnosticArray, "/diagnostics_lonely")
    wait_for(lambda: len(reports.messages) > 5)
    assert node.says_once_a_minute("but no frame")
    peer.unsubscribe(reports)
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
    assert node.process.wait(PATIENCE_S) == 1
    assert "cannot start" in node.log
    assert "Traceback" not in node.log
    assert all(word in node.log for word in words), node.log
