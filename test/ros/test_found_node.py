"""The found node at work: what it publishes, what it leaves undone, and how its parameters and states behave."""

import numpy as np
import pytest

pytest.importorskip("vision_msgs")

from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Float32
from std_srvs.srv import SetBool
from vision_msgs.msg import Detection2DArray


@pytest.fixture(scope="module")
def node(start):
    node = start()
    yield node
    assert node.process.poll() is None, node.log


@pytest.fixture
def listen(peer):
    """Subscriptions that end with the test."""
    inboxes = []

    def listen(msg_type, topic):
        inboxes.append(peer.subscribe(msg_type, topic))
        return inboxes[-1]

    yield listen
    peer.unsubscribe(*inboxes)


@pytest.fixture
def detections(node, listen):
    return listen(Detection2DArray, "/found/detections")


def pixels(msg, channels):
    return np.frombuffer(msg.data, np.uint8).reshape(msg.height, msg.width, channels).squeeze()


def test_every_output_describes_the_same_frame(peer, node, detections, listen, disc, wait_for):
    images = {"mask": Image, "confidence": Image, "overlay": Image, "overlay/compressed": CompressedImage}
    inboxes = [listen(msg_type, f"/found/{name}") for name, msg_type in images.items()]
    debug = [listen(Float32, f"/found/debug/{name}") for name in ("age_ms", "processing_ms")]
    peer.ask(detections, lambda: peer.image(disc()))
    asked, (answer, *rest) = peer.ask_all([detections, *inboxes], lambda: peer.image(disc(20, 204)))
    got = dict(zip(images, rest, strict=True))
    assert answer.header == asked.header
    assert all(msg.header == asked.header for msg in got.values())

    (detection,) = answer.detections
    assert detection.header == asked.header
    assert detection.id == ""
    assert (detection.bbox.center.position.x, detection.bbox.center.position.y) == (80.5, 60.5)
    assert (detection.bbox.size_x, detection.bbox.size_y) == (41.0, 41.0)
    (result,) = detection.results
    assert result.hypothesis.class_id == "object"
    assert result.hypothesis.score == pytest.approx(0.8)
    assert result.pose == type(result.pose)()

    assert (got["mask"].encoding, got["confidence"].encoding, got["overlay"].encoding) == ("mono8", "mono8", "bgr8")
    np.testing.assert_array_equal(pixels(got["mask"], 1), np.where(disc(20)[:, :, 0] == 255, 1, 0))
    np.testing.assert_array_equal(pixels(got["confidence"], 1), disc(20, 204)[:, :, 0])
    assert pixels(got["overlay"], 3).shape == (120, 160, 3)
    assert (pixels(got["overlay"], 3)[60, 80] != 204).any()
    assert got["overlay/compressed"].format.endswith("jpeg compressed bgr8")
    wait_for(lambda: all(inbox.messages for inbox in debug))
    age, processing = (inbox.messages[-1].data for inbox in debug)
    assert 0 < processing <= age


def camera_subscribers(peer):
    return peer.node.count_subscribers("/image")


def test_nobody_listening_means_no_camera_subscription(peer, node, listen, facts, disc, wait_for):
    peer.publisher(Image)
    wait_for(lambda: camera_subscribers(peer) == 0 and facts().get("state") == "idle: nobody subscribes")
    for topic, msg_type in (("mask", Image), ("debug/age_ms", Float32)):
        inbox = peer.subscribe(msg_type, f"/found/{topic}")
        wait_for(lambda: camera_subscribers(peer) == 1)
        peer.unsubscribe(inbox)
        wait_for(lambda: camera_subscribers(peer) == 0)


def test_enable_releases_and_takes_the_camera_again(peer, node, detections, facts, disc, wait_for):
    peer.ask(detections, lambda: peer.image(disc()))
    response = peer.call(SetBool, "/found/enable", SetBool.Request(data=False))
    assert (response.success, response.message) == (True, "disabled: the camera subscription is released")
    wait_for(lambda: camera_subscribers(peer) == 0)
    wait_for(lambda: facts()["state"] == "disabled")
    assert peer.call(SetBool, "/found/enable", SetBool.Request(data=True)).success
    peer.ask(detections, lambda: peer.image(disc()))


def test_a_live_parameter_holds_from_the_next_frame_on(peer, node, detections, disc):
    for threshold, objects in ((0.9, 0), (0.3, 1), (0.5, 1)):
        assert peer.set_parameters(threshold=threshold) == (True, "")
        msg = peer.image(disc(20, 204))
        _, answer = peer.ask(detections, lambda: msg)  # noqa: B023
        assert len(answer.detections) == objects


def ids(answer):
    return [detection.id for detection in answer.detections]


@pytest.fixture
def ask_at(peer, detections):
    """Have a scene at a time of the camera, in seconds, answered."""

    def ask_at(seconds, rgb):
        msg = peer.image(rgb)
        msg.header.stamp.sec = seconds
        return peer.ask(detections, lambda: msg)[1]

    return ask_at


def shifted(rgb, pixels):
    return np.roll(rgb, pixels, axis=1)


def test_objects_have_ids_on_demand_that_last_from_frame_to_frame(peer, node, ask_at, disc):
    assert ids(ask_at(1000, disc())) == [""], "off by default"
    assert peer.set_parameters(track=True) == (True, "")
    seen = [ids(ask_at(1001 + step, shifted(disc(), 5 * step))) for step in range(5)]
    assert seen == [["1"]] * 5
    assert ids(ask_at(1006, np.zeros_like(disc()))) == []
    assert ids(ask_at(1007, shifted(disc(), 30))) == ["1"], "a frame's gap"
    assert peer.set_parameters(track=False) == (True, "")
    assert ids(ask_at(1008, shifted(disc(), 30))) == [""]
    assert peer.set_parameters(track=True) == (True, "")
    assert ids(ask_at(1009, shifted(disc(), 30))) == ["2"], "no id is used again"
    assert peer.set_parameters(track=False) == (True, "")


@pytest.mark.parametrize(("jump_s", "same"), [(3, True), (-3, False), (8, False)])
def test_ids_end_where_the_cameras_time_jumps(jump_s, same, peer, node, ask_at, disc):
    assert peer.set_parameters(track=True) == (True, "")
    before, after = ids(ask_at(2000, disc())), ids(ask_at(2000 + jump_s, disc()))
    assert (before == after) == same
    assert peer.set_parameters(track=False) == (True, "")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"threshold": 1.5}, ("threshold", "1.5", "1")),
        ({"threshold": float("nan")}, ("threshold", "nan")),
        ({"threshold": "high"}, ("DOUBLE", "STRING")),
        ({"mode": "several"}, ("mode", "several", "multi, single")),
        ({"max_detections": 0}, ("max_detections", "0", "1")),
        ({"backbone": "dino_vits8"}, ("backbone", "read-only")),
        ({"image_transport": "compressed"}, ("image_transport", "read-only")),
        ({"threshold": 0.2, "mode": "several"}, ("mode", "several")),  # all or nothing
        ({"threshold": 0.2, "backbone": "dino_vits8"}, ("backbone", "read-only")),
    ],
)
def test_a_bad_set_is_refused_with_its_reason_and_changes_nothing(values, words, peer, node, detections, disc):
    names = ("threshold", "mode", "max_detections", "backbone", "image_transport")
    before = peer.get_parameters(*names)
    successful, reason = peer.set_parameters(**values)
    assert not successful
    assert all(word in reason for word in words), reason
    assert peer.get_parameters(*names) == before
    _, answer = peer.ask(detections, lambda: peer.image(disc(20, 100)))  # 0.39: found at 0.2, not at 0.5
    assert answer.detections == []


def test_several_parameters_are_set_at_once(peer, node, detections, disc):
    assert peer.set_parameters(threshold=0.3, min_area=0.5, max_age_ms=60_000.0) == (True, "")
    _, answer = peer.ask(detections, lambda: peer.image(disc(20, 204)))
    assert answer.detections == []
    assert peer.set_parameters(threshold=0.5, min_area=0.001, max_age_ms=0.0) == (True, "")
    _, answer = peer.ask(detections, lambda: peer.image(disc(20, 204)))
    assert len(answer.detections) == 1


def test_diagnostics_say_what_matters(peer, node, detections, facts, disc, wait_for):
    peer.ask(detections, lambda: peer.image(disc()))
    wait_for(lambda: facts().get("state") == "running" and int(facts()["published"]) > 0)
    latest = facts()
    assert latest["name"] == "/found: perception"
    assert latest["hardware_id"] == "cpu"
    assert float(latest["device_memory_mb"]) > 10
    assert float(latest["age_ms_p50"]) <= float(latest["age_ms_p95"]) <= float(latest["age_ms_p99"])
    assert latest["precision"]
    assert {"rate_in_hz", "rate_out_hz", "backbone", "weights", "last_error", "dropped", "in_flight"} <= set(latest)
    assert facts.conserved()


def test_life_cycle_by_a_manager(start, peer, listen, disc, wait_for):
    managed = start(
        "-r", "__node:=managed", "-p", "autostart:=false", "-p", "backbone:=flaky", "-r", "image:=managed_image",
        "-r", "/diagnostics:=/diagnostics_managed",
    )  # fmt: skip
    inbox = listen(Detection2DArray, "/managed/detections")
    peer.publisher(Image, "managed_image")

    def subscribers():
        return peer.node.count_subscribers("/managed_image")

    assert peer.state("/managed") == "unconfigured"
    assert not peer.change_state("configure", "/managed")
    assert peer.state("/managed") == "unconfigured"
    assert "weights are not there yet" in managed.log
    for _ in range(2):
        assert peer.change_state("configure", "/managed")
        assert peer.state("/managed") == "inactive"
        assert subscribers() == 0
        assert peer.change_state("activate", "/managed")
        peer.ask(inbox, lambda: peer.image(disc()), "managed_image")
        assert peer.change_state("deactivate", "/managed")
        wait_for(lambda: subscribers() == 0)
        assert peer.change_state("activate", "/managed")
        peer.ask(inbox, lambda: peer.image(disc()), "managed_image")
        assert peer.change_state("deactivate", "/managed")
        assert peer.change_state("cleanup", "/managed")
        assert peer.state("/managed") == "unconfigured"
    assert not peer.change_state("activate", "/managed")
    assert peer.change_state("shutdown", "/managed")
    assert peer.state("/managed") == "finalized"
    assert managed.process.poll() is None
