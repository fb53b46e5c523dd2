"""Frames a node cannot use: dropped, counted and explained, and the next good one is answered."""

import time
from array import array

import cv2
import numpy as np
import pytest

pytest.importorskip("vision_msgs")

from builtin_interfaces.msg import Time
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2DArray


@pytest.fixture(scope="module")
def node(start, peer):
    node = start()
    yield node
    assert node.process.poll() is None, node.log


@pytest.fixture(scope="module")
def detections(node, peer):
    return peer.subscribe(Detection2DArray, "/found/detections")


def grey(value, size=(48, 64)):
    return np.full((*size, 3), value, np.uint8)


def with_nan():
    depth = np.full((120, 160), 1.0, np.float32)
    depth[40:80, 60:100] = 5.0
    depth[:10] = np.nan
    return depth


UNUSABLE = {
    "unknown_encoding": (lambda peer: peer.image(grey(9), encoding="fancy99"), "encoding"),
    "data_too_short": (lambda peer: peer.image(grey(9), data=array("B", b"12345")), "size"),
    "data_too_long": (lambda peer: peer.image(grey(9), height=47), "size"),
    "step_too_small": (lambda peer: peer.image(grey(9), step=5), "size"),
    "zero_sized": (lambda peer: peer.image(np.zeros((0, 0, 3), np.uint8), step=0), "size"),
    "no_encoding": (lambda peer: peer.image(grey(9), encoding=""), "encoding"),
    "odd_width_yuv": (lambda peer: peer.image(np.zeros((4, 10), np.uint8), encoding="uyvy", width=5), "size"),
    "engine_error": (lambda peer: peer.image(np.tile(np.uint8([1, 2, 3]), (8, 8, 1))), "processing_error"),
}


def dropped(facts, cause):
    return int(facts().get(f"dropped.{cause}", 0))


def send_until(condition, publisher, msg, wait_for):
    """Publish a frame again and again, since one may get lost or be superseded, until the condition holds."""
    last = [0.0]

    def holds():
        if time.monotonic() - last[0] > 0.1:
            publisher.publish(msg)
            last[0] = time.monotonic()
        return condition()

    wait_for(holds)


@pytest.mark.parametrize("case", UNUSABLE)
def test_an_unusable_frame_is_counted_and_the_next_one_answered(case, peer, node, detections, facts, disc, wait_for):
    make, cause = UNUSABLE[case]
    peer.ask(detections, lambda: peer.image(disc()))
    before = dropped(facts, cause)
    bad = make(peer)
    send_until(lambda: dropped(facts, cause) > before, peer.publisher(Image), bad, wait_for)
    _, answer = peer.ask(detections, lambda: peer.image(disc()))
    assert len(answer.detections) == 1
    assert detections.with_stamp(bad.header.stamp) is None


def test_each_cause_is_logged_once_a_minute_and_the_books_balance(peer, node, detections, facts, disc, wait_for):
    bad = peer.image(grey(9), encoding="fancy99")
    for _ in range(2):
        before = dropped(facts, "encoding")
        send_until(lambda: dropped(facts, "encoding") > before, peer.publisher(Image), bad, wait_for)  # noqa: B023
        peer.ask(detections, lambda: peer.image(disc()))
    assert node.says_once_a_minute("dropped a frame (encoding)")
    assert "'fancy99'" in node.log or "''" in node.log
    assert node.says_once_a_minute("dropped a frame (size)")
    assert node.says_once_a_minute("dropped a frame (processing_error)")
    assert "the engine does not like this frame" in node.log
    facts.settle()
    assert facts.conserved()
    assert any(words in facts()["last_error"] for words in ("the engine does not like", "fancy99"))


USABLE = {
    "one_pixel": (lambda: grey(9, (1, 1)), None, 0),
    "one_bright_pixel": (lambda: grey(255, (1, 1)), None, 1),
    "twelve_megapixels": (lambda: cv2.resize(np.uint8([[0, 0, 0], [0, 255, 0], [0, 0, 0]]), (4000, 3000)), "mono8", 1),
    "all_black": (lambda: grey(0), None, 0),
    "all_equal": (lambda: grey(77), None, 0),
    "all_white": (lambda: grey(255), None, 1),
    "nan": (with_nan, "32FC1", 1),
    "all_nan": (lambda: np.full((20, 30), np.nan, np.float32), "32FC1", 0),
}


@pytest.mark.parametrize("case", USABLE)
def test_an_extreme_frame_is_answered_and_so_is_the_next_one(case, peer, node, detections, disc):
    make, encoding, objects = USABLE[case]
    pixels = make()
    _, answer = peer.ask(detections, lambda: peer.image(pixels, encoding))
    assert len(answer.detections) == objects
    _, answer = peer.ask(detections, lambda: peer.image(disc()))
    assert len(answer.detections) == 1


def test_a_camera_that_changes_resolution_and_encoding_in_mid_stream(peer, node, detections, disc):
    shapes = [(120, 160), (48, 64), (240, 320), (120, 160)]
    for size in shapes:
        _, answer = peer.ask(detections, lambda: peer.image(disc(10, size=size)))  # noqa: B023
        assert answer.detections[0].bbox.center.position.x == pytest.approx(size[1] / 2 + 0.5)
    for encoding in ("bgr8", "mono8", "rgba8"):
        pixels = {"bgr8": disc(), "mono8": disc()[:, :, 0], "rgba8": np.dstack([disc(), disc()[:, :, 0]])}[encoding]
        _, answer = peer.ask(detections, lambda: peer.image(pixels, encoding))  # noqa: B023
        assert answer.detections[0].bbox.size_x == 41.0


def test_a_stamp_of_zero_is_kept_and_warned_about_once(peer, node, detections, disc):
    for _ in range(3):
        detections.messages.clear()
        _, answer = peer.ask(detections, lambda: at(peer, disc, 0.0))
        assert len(answer.detections) == 1
        peer.ask(detections, lambda: peer.image(disc()))
    assert node.log.count("stamp of zero") == 1


def at(peer, disc, seconds):
    msg = peer.image(disc())
    msg.header.stamp = Time(sec=int(seconds), nanosec=int(seconds % 1 * 1e9))
    return msg


def test_time_that_jumps_back_and_a_recording_from_long_ago(peer, node, detections, disc):
    """A looped recording, played without its clock: days old by the stamp, and back to the start every second frame."""
    for stamp in (1000.1, 1002.0, 1004.0, 1000.1, 1002.0, 1000.1):
        detections.messages.clear()
        _, answer = peer.ask(detections, lambda: at(peer, disc, stamp))  # noqa: B023
        assert answer.header.stamp.sec == int(stamp)
    assert node.says_once_a_minute("time jumped back")
    assert node.says_once_a_minute("far from this node's clock")
    _, answer = peer.ask(detections, lambda: peer.image(disc()))
    assert len(answer.detections) == 1


def test_compressed_images_and_a_truncated_one(start, peer, facts, disc, wait_for):
    node = start(
        "-r", "__node:=found_jpeg", "-p", "image_transport:=compressed", "-r", "image:=front/image_raw",
        "-r", "/diagnostics:=/diagnostics_jpeg",
    )  # fmt: skip
    inbox = peer.subscribe(Detection2DArray, "/found_jpeg/detections")
    topic = "front/image_raw/compressed"

    def compressed(keep=1.0, suffix=".png"):
        _, data = cv2.imencode(suffix, disc())
        msg = CompressedImage(format=suffix[1:], data=array("B", data.tobytes()[: int(keep * data.size)]))
        msg.header.stamp = peer.stamp()
        return msg

    for suffix in (".png", ".jpg"):
        _, answer = peer.ask(inbox, lambda: compressed(suffix=suffix), topic)  # noqa: B023
        assert answer.detections[0].bbox.size_x == pytest.approx(41.0, abs=2)
    for suffix in (".jpg", ".png"):
        bad = compressed(0.6, suffix)
        logged = lambda: "dropped a frame (decode)" in node.log  # noqa: E731
        send_until(logged, peer.publisher(CompressedImage, topic), bad, wait_for)
        peer.ask(inbox, compressed, topic)
        assert inbox.with_stamp(bad.header.stamp) is None
    assert node.says_once_a_minute("dropped a frame (decode)")
