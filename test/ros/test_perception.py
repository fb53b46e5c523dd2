"""Several cameras in one process: everyone's own topics, shared passes, honest accounts, nobody disturbed by others."""

import signal
import threading
import time
from pathlib import Path

import pytest
import yaml
from waiting import PATIENCE_S

pytest.importorskip("vision_msgs")

from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

PROCESS = str(Path(__file__).with_name("perception_process.py"))


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
    return start(*options, command=[PROCESS])


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


def send(peer, name, picture):
    """Publish a frame of a camera; returns its stamp."""
    msg = peer.image(picture)
    peer.publisher(Image, f"/{name}/image_raw").publish(msg)
    return msg.header.stamp.sec, msg.header.stamp.nanosec


def test_under_overload_frames_are_fresh_and_all_accounted_for(process, peer, found, disc, accounts, wait_for):
    slow = peer.subscribe(Detection2DArray, "/front/discovery/detections")
    pictures = {"front": disc(), "rear": disc(), "side": disc(size=(96, 96))}  # the last one needs a pass of its own
    nodes = {f"/{name}/found": name for name in pictures}
    peer.ask(slow, lambda: peer.image(disc()), "/front/image_raw")
    for name, inbox in found.items():
        peer.ask(inbox, lambda name=name: peer.image(pictures[name]), f"/{name}/image_raw")
    before = {node: accounts.settle(node) for node in (*nodes, "/front/discovery")}
    for inbox in (*found.values(), slow):
        inbox.messages.clear()

    def change(node, what):
        return accounts.count(what, node) - int(before[node].get(what, 0))

    sent = {name: [] for name in pictures}
    with process.held_up("pass") as reached:
        for number in range(1, 5):
            for node, name in nodes.items():
                sent[name].append(send(peer, name, pictures[name]))
                wait_for(lambda node=node, number=number: change(node, "received") == number, f"a frame of {node}")
        reached()
    for node, name in nodes.items():
        wait_for(lambda name=name: sent[name][-1] in stamps(found[name]), f"the newest frame of {name}")
        assert stamps(found[name]) == [sent[name][0], sent[name][-1]], "a frame waits for the one before it, no longer"
        accounts.settle(node)
        assert (change(node, "published"), change(node, "dropped.superseded")) == (2, 2)
        assert accounts.conserved(node)
    accounts.settle("/front/discovery")
    assert change("/front/discovery", "received") == 4, "those that were skipped, too"
    assert accounts.conserved("/front/discovery")
    wait_for(lambda: sent["front"][-1] in stamps(slow), "discovery's newest frame")
    assert set(stamps(slow)) <= set(stamps(found["front"])), "discovery saw a frame that FOUND had skipped"
    peer.unsubscribe(slow)


def test_a_slow_head_holds_up_no_other(process, peer, found, disc, accounts, wait_for):
    slow = peer.subscribe(Detection2DArray, "/front/discovery/detections")
    peer.ask(slow, lambda: peer.image(disc()), "/front/image_raw")
    accounts.settle("/front/discovery")
    slow.messages.clear()
    sent = []
    with process.held_up("discovery") as reached:
        for _ in range(5):
            sent.append(send(peer, "front", disc()))
            wait_for(lambda: sent[-1] in stamps(found["front"]), "FOUND's answer")
            reached()
        assert not slow.messages
    wait_for(lambda: sent[-1] in stamps(slow), "discovery's newest frame")
    assert stamps(slow) == [sent[0], sent[-1]]
    accounts.settle("/front/discovery")
    assert accounts.conserved("/front/discovery")
    peer.unsubscribe(slow)


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
        time.sleep(0.1)
    for node in nodes:
        accounts.settle(node)
        assert accounts.conserved(node)
    peer.unsubscribe(slow)


def test_frames_of_several_cameras_share_passes(process, peer, found, disc, wait_for):
    before = process.log.count("pass of 2")
    with Camera(peer, "front", 30, disc), Camera(peer, "rear", 30, disc):
        wait_for(lambda: process.log.count("pass of 2") - before >= 8, "passes of two frames")


def test_a_fast_camera_does_not_starve_a_slow_one(process, peer, found, disc):
    with Camera(peer, "front", 60, disc):
        for _ in range(8):
            peer.ask(found["side"], lambda: peer.image(disc(size=(96, 96))), "/side/image_raw")


def test_a_camera_that_stops_returns_and_changes_size(process, peer, found, disc, accounts, wait_for):
    with Camera(peer, "front", 15, disc):
        peer.ask(found["rear"], lambda: peer.image(disc()), "/rear/image_raw")
        wait_for(lambda: "no " in accounts("/rear/found")["message"], "a word about the silent camera")
        for size in ((64, 200), (120, 160), (33, 47)):
            _, answer = peer.ask(found["rear"], lambda size=size: peer.image(disc(10, size=size)), "/rear/image_raw")
            (box,) = answer.detections
            assert box.bbox.center.position.x == pytest.approx(size[1] / 2, abs=5)
    accounts.settle("/rear/found")
    assert accounts.conserved("/rear/found")


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
        seen = len(camera.stamps)
        wait_for(lambda: len(set(stamps(found["front"])) & set(camera.stamps[seen:])) > 5, "FOUND's answers")
    peer.ask(slow, lambda: peer.image(disc()), "/front/image_raw")  # it retries with every frame
    wait_for(lambda: accounts("/front/discovery")["level"] == b"\x00", "discovery's recovery")
    peer.unsubscribe(slow)


def test_cameras_come_and_go_without_disturbing_others(process, peer, found, disc, accounts, wait_for):
    peer.ask(found["rear"], lambda: peer.image(disc()), "/rear/image_raw")
    said = len(accounts.states["/rear/found"])
    with Camera(peer, "front", 10, disc) as camera:

        def goes_on():
            """Frames of the other camera that come from now on are answered."""
            seen = len(camera.stamps)
            wait_for(lambda: len(set(stamps(found["front"])) & set(camera.stamps[seen:])) > 1, "answers of the other")

        for transition in ("deactivate", "cleanup"):
            assert peer.change_state(transition, "/rear/found")
            goes_on()
        assert peer.state("/rear/found") == "unconfigured"
        for transition in ("configure", "activate"):
            assert peer.change_state(transition, "/rear/found")
            goes_on()
        peer.ask(found["rear"], lambda: peer.image(disc()), "/rear/image_raw")
        goes_on()
    states = accounts.states["/rear/found"][said:]
    assert [step for step in states if "ing " in step] == ["loading tiny", "warming up on cpu"]


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
    node = spawn(*configured(*cameras, methods=methods), command=[PROCESS])
    assert node.process.wait(PATIENCE_S) == 1
    assert message in node.log


def test_a_camera_that_cannot_start_leaves_the_others_alone(spawn, configured, peer, disc):
    node = spawn(*configured("good", "bad", bad__found={"backbone": "missing"}), command=[PROCESS])
    inbox = peer.subscribe(Detection2DArray, "/good/found/detections")
    peer.ask(inbox, lambda: peer.image(disc()), "/good/image_raw")
    assert "this backbone cannot be loaded" in node.log
    assert peer.state("/bad/found") == "unconfigured"
    assert node.end() == 0


def test_a_process_without_a_working_camera_ends(spawn, configured):
    node = spawn(*configured("bad", bad__found={"backbone": "missing"}), command=[PROCESS])
    assert node.process.wait(PATIENCE_S) == 1


def test_two_signals_in_mid_frame_end_it_in_order(spawn, configured, peer, disc, wait_for):
    options = configured("left", "right", methods=["found", "discovery"])
    node = spawn(*options, command=[PROCESS])
    inbox = peer.subscribe(Detection2DArray, "/left/found/detections")
    peer.ask(inbox, lambda: peer.image(disc()), "/left/image_raw")
    with Camera(peer, "left", 30, disc), Camera(peer, "right", 30, disc):
        inbox.messages.clear()
        wait_for(lambda: len(inbox.messages) > 5)
        assert node.end((signal.SIGINT, signal.SIGINT)) == 0
    assert "Traceback" not in node.log
