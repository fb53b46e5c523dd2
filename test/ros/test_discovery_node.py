"""The discovery node at work: boxes, ids and instance masks, live parameters, and its place behind found."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("vision_msgs")

from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2DArray

from objloc_ros.engine.pipeline import load_pipeline
from objloc_ros.engine.temporal import Memory
from objloc_ros.scenes.video import drive_video

SCRIPT = str(Path(__file__).with_name("discovery_process.py"))


def spots(*places, size=(120, 160)):
    """A dark scene with squares (x, y, brightness) of 20 pixels: RGB uint8 [H, W, 3]."""
    rgb = np.full((*size, 3), 40, np.uint8)
    for x, y, brightness in places:
        rgb[y : y + 20, x : x + 20] = brightness
    return rgb


@pytest.fixture(scope="module")
def node(start):
    node = start(command=[SCRIPT])
    yield node
    assert node.process.poll() is None, node.log


@pytest.fixture
def listen(peer):
    inboxes = []

    def listen(msg_type, name):
        inboxes.append(peer.subscribe(msg_type, f"/discovery/{name}"))
        return inboxes[-1]

    yield listen
    peer.unsubscribe(*inboxes)


@pytest.fixture
def detections(node, listen):
    return listen(Detection2DArray, "detections")


@pytest.fixture(autouse=True)
def defaults(peer, node):
    yield
    assert peer.set_parameters("/discovery", method="maskcut", max_objects=3, min_score=0.0, temporal=True) == (
        True,
        "",
    )


def boxes(msg):
    return [
        (d.bbox.center.position.x - d.bbox.size_x / 2, d.bbox.center.position.y - d.bbox.size_y / 2)
        for d in msg.detections
    ]


def scores(msg):
    return [round(d.results[0].hypothesis.score, 2) for d in msg.detections]


def test_every_output_describes_the_same_objects(peer, node, detections, listen):
    others = [listen(Image, "instance_mask"), listen(Image, "overlay"), listen(CompressedImage, "overlay/compressed")]
    scene = spots((10, 20, 153), (100, 60, 255))
    peer.ask(detections, lambda: peer.image(scene))
    asked, (answer, mask, overlay, compressed) = peer.ask_all([detections, *others], lambda: peer.image(scene))
    assert all(msg.header == asked.header for msg in (answer, mask, overlay, compressed))
    assert boxes(answer) == [(100, 60), (10, 20)]  # the best first
    assert scores(answer) == [0.9, 0.54]
    assert {d.results[0].hypothesis.class_id for d in answer.detections} == {"object"}
    assert all(d.header == asked.header and d.id for d in answer.detections)
    assert (mask.encoding, mask.step) == ("mono16", 320)
    instances = np.frombuffer(mask.data, np.uint16).reshape(120, 160)
    assert (instances[70, 110], instances[30, 20], instances[0, 0]) == (1, 2, 0)
    assert np.bincount(instances.ravel()).tolist() == [120 * 160 - 800, 400, 400]
    assert (overlay.encoding, overlay.width) == ("bgr8", 160)


def test_ids_follow_the_objects_and_not_their_order(peer, node, detections):
    peer.ask(detections, lambda: peer.image(spots()))
    seen = {}
    for step in range(8):
        left, right = (255, 200) if step % 2 else (200, 255)
        scene = spots((10 + 3 * step, 20, left), (110 - 3 * step, 60, right))
        msg = peer.image(scene)
        msg.header.stamp.sec = 2000 + step  # one video, however long it takes
        _, answer = peer.ask(detections, lambda: msg)  # noqa: B023
        for (_, y), detection in zip(boxes(answer), answer.detections, strict=True):
            seen.setdefault(y, set()).add(detection.id)
    assert {y: len(ids) for y, ids in seen.items()} == {20: 1, 60: 1}
    assert seen[20] != seen[60]


@pytest.mark.parametrize(("jump_s", "same"), [(3, True), (-3, False), (8, False)])
def test_a_jump_of_the_cameras_time_begins_another_video(jump_s, same, peer, node, detections, wait_for):
    first, second = (peer.image(spots((10, 20, 255))) for _ in range(2))
    first.header.stamp.sec, second.header.stamp.sec = 1000, 1000 + jump_s
    _, before = peer.ask(detections, lambda: first)
    peer.publisher(Image).publish(second)
    after = wait_for(lambda: detections.with_stamp(second.header.stamp))
    assert (before.detections[0].id == after.detections[0].id) == same


def test_live_parameters_hold_from_the_next_frame_on(peer, node, detections):
    scene = spots((10, 20, 153), (100, 60, 255), (60, 90, 204), (10, 80, 179))
    for values, found in (
        ({"max_objects": 3}, [0.9, 0.72, 0.63]),
        ({"max_objects": 10}, [0.9, 0.72, 0.63, 0.54]),
        ({"max_objects": 1}, [0.9]),
        ({"max_objects": 10, "min_score": 0.6}, [0.9, 0.72, 0.63]),
        ({"temporal": False}, [1.0, 0.8, 0.7, 0.6]),  # this engine's scores tell whether it was given a memory
        ({"temporal": True, "method": "lost"}, [0.9]),
    ):
        assert peer.set_parameters("/discovery", **values) == (True, "")
        msg = peer.image(scene)
        _, answer = peer.ask(detections, lambda: msg)  # noqa: B023
        assert scores(answer) == found, values


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"method": "found"}, ("method", "found", "lost, tokencut, deep_spectral, maskcut, dino_seg, vote")),
        ({"max_objects": 0}, ("max_objects", "0", "1")),
        ({"max_objects": 21}, ("max_objects", "21", "20")),
        ({"min_score": 1.5}, ("min_score", "1.5")),
        ({"post": "median"}, ("post", "median", "none, bilateral, crf")),
        ({"temporal": "yes"}, ("BOOL", "STRING")),
        ({"idle_priority": False}, ("idle_priority", "read-only")),
        ({"max_objects": 2, "method": "found"}, ("method", "found")),  # all or nothing
    ],
)
def test_a_bad_set_is_refused_with_its_reason_and_changes_nothing(values, words, peer, node, detections):
    names = ("method", "max_objects", "min_score", "post", "temporal", "idle_priority")
    before = peer.get_parameters(*names, node="/discovery")
    successful, reason = peer.set_parameters("/discovery", **values)
    assert not successful
    assert all(word in reason for word in words), reason
    assert peer.get_parameters(*names, node="/discovery") == before
    peer.ask(detections, lambda: peer.image(spots((10, 20, 255))))


def test_a_frame_that_fails_is_counted_and_the_next_one_answered(peer, node, detections, wait_for):
    bad = spots()
    bad[0, 0] = (1, 2, 3)
    peer.ask(detections, lambda: peer.image(spots()))
    peer.publisher(Image).publish(peer.image(bad))
    wait_for(lambda: "the engine does not like this frame" in node.log)
    _, answer = peer.ask(detections, lambda: peer.image(spots((10, 20, 255))))
    assert len(answer.detections) == 1
    _, answer = peer.ask(detections, lambda: peer.image(spots()))
    assert answer.detections == []


@pytest.mark.skipif(sys.platform != "linux", reason="priorities per thread are Linux's")
def test_it_gives_way_to_other_processes_unless_told_otherwise(node, spawn, wait_for):
    willing = spawn("-r", "__node:=willing", "-p", "autostart:=false", command=[SCRIPT], patient=False)

    def policies(process):
        return {os.sched_getscheduler(int(task.name)) for task in Path(f"/proc/{process.pid}/task").iterdir()}

    assert os.SCHED_IDLE not in policies(node.process)
    wait_for(lambda: policies(willing.process) == {os.SCHED_IDLE})


def test_under_overload_it_answers_the_newest_frames_and_found_answers_all(start, node, detections, peer, wait_for):
    """A camera too fast for it on one topic with found: discovery skips frames, found next to it does not."""
    start("-r", "__node:=swift", "-r", "/diagnostics:=/diagnostics_swift")
    prompt = peer.subscribe(Detection2DArray, "/swift/detections")
    scene = spots((10, 20, 255))
    peer.ask_all([detections, prompt], lambda: peer.image(scene))
    detections.messages.clear()
    said = node.log
    with node.held_up("engine") as reached:
        sent = []
        for _ in range(10):
            sent.append(peer.image(scene))
            peer.publisher(Image).publish(sent[-1])
            wait_for(lambda: prompt.with_stamp(sent[-1].header.stamp), "found's answer")
            reached()
        assert not detections.messages
    wait_for(lambda: detections.with_stamp(sent[-1].header.stamp), "the newest frame")
    assert [msg.header.stamp for msg in detections.messages] == [sent[0].header.stamp, sent[-1].header.stamp]
    assert "Traceback" not in node.log.removeprefix(said)
    peer.unsubscribe(prompt)


def test_the_node_publishes_what_the_pipeline_finds(start, peer):
    """With the real engine and the embedded weights, from the first frame on."""
    (frame, _), *_ = drive_video(seed=3, size=(240, 320), frames=1)
    pipeline = load_pipeline(("maskcut",), device="cpu")
    pipeline.configure("maskcut", post="none")
    memory = {"maskcut": Memory()}
    expected = pipeline.run(frame, memories=memory)["maskcut"]
    assert len(expected.detections) > 0

    remap = ("-r", "__node:=real", "-r", "image:=real_image", "-r", "/diagnostics:=/diagnostics_real")
    start(*remap, "-p", "device:=cpu", command=["-m", "objloc_ros.nodes.discovery"])
    inboxes = [peer.subscribe(Detection2DArray, "/real/detections"), peer.subscribe(Image, "/real/instance_mask")]
    msg = peer.image(frame)
    _, (answer, mask) = peer.ask_all(inboxes, lambda: msg, "real_image")
    corners = np.array(boxes(answer))
    np.testing.assert_allclose(corners, expected.detections.boxes[:, :2], atol=1e-3)
    np.testing.assert_allclose(
        [d.results[0].hypothesis.score for d in answer.detections], expected.detections.scores, atol=1e-3
    )
    assert [d.id for d in answer.detections] == [str(i + 1) for i in range(len(corners))]
    np.testing.assert_array_equal(
        np.frombuffer(mask.data, np.uint16).reshape(mask.height, mask.width), expected.instances_u16()
    )
    peer.unsubscribe(*inboxes)
