"""Several cameras in one process: everyone's own topics, shared passes, honest accounts, nobody disturbed by others."""

import signal
import threading
import time
from pathlib import Path

import pytest
import yaml

pytest.importorskip("vision_msgs")

from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import Image
from std_msgs.msg import Float32
from vision_msgs.msg import Detection2DArray

PROCESS = str(Path(__file__).with_name("perception_process.py"))
PASS_MS, HEAD_MS = 60, 150
MARGIN_MS = 250
"""For a busy machine; a queue of ten frames would be far beyond."""


@pytest.fixture(scope="module")
def configured(tmp_path_factory):
    """ROS arguments for cameras that all have the same methods, but for `others`: parameters by node."""

    def configured(*cameras, methods=("found",), **others):
        tree = {
            "/perception": {"cameras": list(cameras), "methods": list(methods), **others.pop("perception", {})},
            "/**/discovery": {"temporal": False},
            **{f"/{node.replace('__', '/')}": values for node, values in others.items()},
        }
        path = tmp_path_factory.mktemp("parameters") / "parameters.yaml"
        path.write_text(yaml.safe_dump({node: {"ros__parameters": values} for node, values in tree.items()}))
        return "--params-file", str(path)

    return configured


@pytest.fixture(scope="module")
def process(start, configured):
    options = configured("front", "rear", "side", perception={"front.methods": ["found", "discovery"]})
    return start(*options, command=[PROCESS, str(PASS_MS), str(HEAD_MS)])


@pytest.fixture(scope="module")
def accounts(peer):
    """The latest diagnostics of a node, as `accounts("/front/found")`; earlier ones as `accounts(name, -2)`..."""
    inbox = peer.subscribe(DiagnosticArray, "/diagnostics", depth=200)

    def latest(name, number=-1):
        statuses = [status for msg in list(inbox.messages) for status in msg.status if status.name.startswith(name)]
        if len(statuses) < abs(number):
            return {}
        status = statuses[number]
        return {"level": status.level, "message": status.message} | {pair.key: pair.value for pair in status.values}

    return latest


@pytest.fixture(scope="module")
def found(process, peer):
    """FOUND's answers by camera."""
    return {name: peer.subscribe(Detection2DArray, f"/{name}/found/detections") for name in ("front", "rear", "side")}


class Camera:
    """Publishes a picture at a steady rate in a thread, until it is left."""

    def __init__(self, peer, name, rate, picture):
        self.peer, self.topic, self.period, self.picture = peer, f"/{name}/image_raw", 1 / rate, picture
        self.publisher = peer.publisher(Image, self.topic)
        self.stamps, self.end = [], threading.Event()
        self.thread = threading.Thread(target=self.film)

    def film(self):
        while not self.end.is_set():
            msg = self.peer.image(self.picture())
            self.stamps.append((msg.header.stamp.sec, msg.header.stamp.nanosec))
            self.publisher.publish(msg)
            time.sleep(self.period)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.end.set()
        self.thread.join()


def stamps(inbox):
    return [(msg.header.stamp.sec, msg.header.stamp.nanosec) for msg in list(inbox.messages)]


def conserved(account):
    return int(account["received"]) == int(account["published"]) + int(account["dropped"]) + int(account["in_flight"])


def test_each_camera_gets_its_own_answers(process, peer, found, disc):
    small, large = disc(radius=16), disc(radius=40)
    for name, picture in (("front", small), ("rear", large)):
        asked, answer = peer.ask(found[name], lambda picture=picture: peer.image(picture), f"/{name}/image_raw")
        assert answer.header == asked.header
        (box,) = answer.detections
        assert box.bbox.size_x == pytest.approx(32 if name == "front" else 80, abs=12)


def test_topics_are_those_of_separate_processes(process, peer, found, wait_for):
    topics = wait_for(lambda: dict(peer.node.get_topic_names_and_types()))
    for node in ("/front/found", "/rear/found", "/front/discovery"):
        assert {f"{node}/detections", f"{node}/overlay", f"{node}/debug/age_ms"} <= set(topics)
    services = dict(peer.node.get_service_names_and_types())
    assert {"/rear/found/enable", "/rear/found/change_state", "/rear/found/set_parameters"} <= set(services)
    assert peer.state("/front/discovery") == "active"


def test_parameters_are_each_nodes_own(process, peer):
    assert peer.set_parameters("/front/found", threshold=0.7) == (True, "")
    assert peer.get_parameters("threshold", node="/rear/found") == [0.5]
    assert peer.set_parameters("/front/found", threshold=0.5) == (True, "")


def test_under_overload_frames_are_fresh_and_all_accounted_for(process, peer, found, disc, accounts, wait_for):
    ages = {name: peer.subscribe(Float32, f"/{name}/found/debug/age_ms") for name in found}
    slow = peer.subscribe(Detection2DArray, "/front/discovery/detections")
    pictures = {"front": disc(), "rear": disc(), "side": disc(size=(96, 96))}  # the last one needs a pass of its own
    cameras = [Camera(peer, name, 40, lambda picture=picture: picture) for name, picture in pictures.items()]
    peer.ask(slow, lambda: peer.image(disc()), "/front/image_raw")
    for name, inbox in found.items():
        peer.ask(inbox, lambda name=name: peer.image(pictures[name]), f"/{name}/image_raw")
        inbox.messages.clear()
    for inbox in ages.values():
        inbox.messages.clear()
    with cameras[0], cameras[1], cameras[2]:
        time.sleep(5)
    nodes = ("/front/found", "/rear/found", "/side/found", "/front/discovery")
    for node in nodes:
        wait_for(lambda node=node: accounts(node)["in_flight"] == "0", f"the last frame of {node}")
        assert conserved(accounts(node)), node
        assert int(accounts(node)["dropped.superseded"]) > 0
    received = {node: int(accounts(node)["received"]) for node in nodes}
    assert received["/front/discovery"] <= received["/front/found"]
    assert received["/front/discovery"] > 0.9 * received["/front/found"] - 5  # skipped frames are received, too
    for name, inbox in ages.items():
        # Two kinds of pass take turns: a frame waits for both and then takes its own.
        assert max(age.data for age in inbox.messages) < 3 * PASS_MS + 1000 / 40 + MARGIN_MS, name
        assert len(inbox.messages) > 5000 / (2 * PASS_MS) / 2
    answered = set(stamps(found["front"]))
    followed = set(stamps(slow)) & set(cameras[0].stamps)
    assert followed
    assert followed <= answered, "discovery saw a frame that FOUND had skipped"
    for inbox in (*ages.values(), slow):
        peer.unsubscribe(inbox)


def test_bursts_pauses_and_a_stop_in_mid_frame_lose_no_account(process, peer, found, disc, accounts, wait_for):
    nodes = ("/front/found", "/front/discovery", "/rear/found")
    slow = peer.subscribe(Detection2DArray, "/front/discovery/detections")
    peer.ask(slow, lambda: peer.image(disc()), "/front/image_raw")
    publishers = [peer.publisher(Image, f"/{name}/image_raw") for name in ("front", "rear")]
    for number in range(6):
        for _ in range(15):
            for publisher in publishers:
                publisher.publish(peer.image(disc()))
        time.sleep(0.05)
        if number % 2:
            assert peer.change_state("deactivate", "/front/found")
            assert peer.change_state("activate", "/front/found")
        time.sleep(0.4)
    for node in nodes:
        wait_for(lambda node=node: accounts(node)["in_flight"] == "0", f"the last frame of {node}")
        assert conserved(accounts(node)), node
    peer.unsubscribe(slow)


def test_frames_of_several_cameras_share_passes(process, peer, found, disc):
    before = process.log.count("pass of 2")
    with Camera(peer, "front", 30, disc), Camera(peer, "rear", 30, disc):
        time.sleep(2)
    assert process.log.count("pass of 2") - before >= 8  # of 16 that there is time for


def test_a_fast_camera_does_not_starve_a_slow_one(process, peer, found, disc, wait_for):
    found["side"].messages.clear()
    with Camera(peer, "front", 60, disc), Camera(peer, "side", 4, lambda: disc(size=(96, 96))) as side:
        time.sleep(4)
    wait_for(
        lambda: set(stamps(found["side"])) >= set(side.stamps[2:]), what="an answer to every frame of the slow camera"
    )


def test_a_camera_that_stops_returns_and_changes_size(process, peer, found, disc, accounts, wait_for):
    with Camera(peer, "front", 15, disc):
        peer.ask(found["rear"], lambda: peer.image(disc()), "/rear/image_raw")
        wait_for(lambda: "no " in accounts("/rear/found")["message"], "a word about the silent camera")
        for size in ((64, 200), (120, 160), (33, 47)):
            _, answer = peer.ask(found["rear"], lambda size=size: peer.image(disc(10, size=size)), "/rear/image_raw")
            (box,) = answer.detections
            assert box.bbox.center.position.x == pytest.approx(size[1] / 2, abs=5)
    assert conserved(accounts("/rear/found"))


def test_a_failing_head_leaves_the_others_alone(process, peer, found, disc, accounts, wait_for):
    slow = peer.subscribe(Detection2DArray, "/front/discovery/detections")
    marked = disc()
    marked[0, 0] = (1, 2, 3)
    peer.ask(slow, lambda: peer.image(disc()), "/front/image_raw")
    found["front"].messages.clear()
    with Camera(peer, "front", 10, lambda: marked) as camera:
        wait_for(lambda: accounts("/front/discovery")["level"] == b"\x02", "an error of discovery")
        assert "does not like this frame" in accounts("/front/discovery")["message"]
        assert accounts("/front/found")["level"] == b"\x00"
        time.sleep(1)
    wait_for(lambda: len(set(stamps(found["front"])) & set(camera.stamps)) > 0.8 * len(camera.stamps))
    peer.ask(slow, lambda: peer.image(disc()), "/front/image_raw")  # it retries with every frame
    wait_for(lambda: accounts("/front/discovery")["level"] == b"\x00", "discovery's recovery")
    peer.unsubscribe(slow)


def test_cameras_come_and_go_without_disturbing_others(process, peer, found, disc, accounts, wait_for):
    peer.ask(found["rear"], lambda: peer.image(disc()), "/rear/image_raw")
    found["front"].messages.clear()
    with Camera(peer, "front", 10, disc) as camera:
        time.sleep(0.5)
        for transition in ("deactivate", "cleanup"):
            assert peer.change_state(transition, "/rear/found")
        assert peer.state("/rear/found") == "unconfigured"
        time.sleep(0.5)
        for transition in ("configure", "activate"):
            assert peer.change_state(transition, "/rear/found")
        peer.ask(found["rear"], lambda: peer.image(disc()), "/rear/image_raw")
        time.sleep(0.5)
    states = [accounts("/rear/found", number).get("state", "") for number in range(-20, 0)]
    assert [step for step in states if "ing " in step] == ["loading tiny", "warming up on cpu"]
    missed = wait_for(lambda: (n := len(set(camera.stamps[3:]) - set(stamps(found["front"])))) <= 1 and [n])
    assert missed[0] <= 1


def test_a_deactivated_leader_leaves_the_camera_to_the_others(process, peer, disc):
    slow = peer.subscribe(Detection2DArray, "/front/discovery/detections")
    assert peer.change_state("deactivate", "/front/found")
    peer.ask(slow, lambda: peer.image(disc()), "/front/image_raw")
    assert peer.change_state("activate", "/front/found")
    peer.ask(slow, lambda: peer.image(disc()), "/front/image_raw")
    peer.unsubscribe(slow)


@pytest.mark.parametrize(
    ("cameras", "methods", "message"),
    [
        (["front", "front"], ["found"], "different names, which are their namespaces; twice: front"),
        (["front", "2nd"], ["found"], "names of letters, digits and _, got '2nd'"),
        (["front"], ["fund"], "methods must be different ones of found, discovery, segmentation"),
        (["front"], ["found", "found"], "methods must be different ones"),
    ],
)
def test_what_cannot_be_started_is_said(spawn, configured, cameras, methods, message):
    node = spawn(*configured(*cameras, methods=methods), command=[PROCESS, "1", "1"])
    assert node.process.wait(30) == 1
    assert message in node.log


def test_a_camera_that_cannot_start_leaves_the_others_alone(spawn, configured, peer, disc):
    node = spawn(*configured("good", "bad", bad__found={"backbone": "missing"}), command=[PROCESS, "1", "1"])
    inbox = peer.subscribe(Detection2DArray, "/good/found/detections")
    peer.ask(inbox, lambda: peer.image(disc()), "/good/image_raw")
    assert "this backbone cannot be loaded" in node.log
    assert peer.state("/bad/found") == "unconfigured"
    assert node.end() == 0


def test_a_process_without_a_working_camera_ends(spawn, configured):
    node = spawn(*configured("bad", bad__found={"backbone": "missing"}), command=[PROCESS, "1", "1"])
    assert node.process.wait(30) == 1


def test_two_signals_in_mid_frame_end_it_in_order(spawn, configured, peer, disc):
    options = configured("left", "right", methods=["found", "discovery"])
    node = spawn(*options, command=[PROCESS, "100", "100"])
    inbox = peer.subscribe(Detection2DArray, "/left/found/detections")
    peer.ask(inbox, lambda: peer.image(disc()), "/left/image_raw")
    with Camera(peer, "left", 30, disc), Camera(peer, "right", 30, disc):
        time.sleep(0.5)
        assert node.end((signal.SIGINT, signal.SIGINT)) == 0
    assert "Traceback" not in node.log
