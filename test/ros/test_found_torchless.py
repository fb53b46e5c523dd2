"""The found node in a process in which torch cannot be imported, on an exported backbone with FOUND's head."""

import numpy as np
import pytest
import torchless

pytest.importorskip("vision_msgs")

from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from objloc_ros.cli.main import main
from objloc_ros.engine.pipeline import load_pipeline
from objloc_ros.scenes.video import drive_video

SCENE = next(frame for frame, _ in drive_video(seed=3, size=(240, 320), frames=1))
NODE = [torchless.__file__, "objloc_ros.nodes.found"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    file = tmp_path_factory.mktemp("exported") / "found.onnx"
    assert main(["export", "--size", "192x256", "--batch", "1", "--out", str(file)]) == 0
    return file


@pytest.fixture(scope="module")
def node(exported, start):
    return start("-p", f"weights:={exported}", "-p", "device:=cpu", command=NODE, fresh=True)


@pytest.fixture(scope="module")
def inboxes(peer):
    return [
        peer.subscribe(Detection2DArray, "/found/detections"),
        peer.subscribe(Image, "/found/mask"),
        peer.subscribe(Image, "/found/confidence"),
    ]


def test_it_publishes_what_torch_finds(node, inboxes, peer):
    pipeline = load_pipeline(device="cpu")
    pipeline.backbone.bfloat16 = False
    expected = pipeline.run(SCENE)["found"]
    assert len(expected.detections) > 0
    _, (answer, mask, confidence) = peer.ask_all(inboxes, lambda: peer.image(SCENE))
    scores = [d.results[0].hypothesis.score for d in answer.detections]
    np.testing.assert_allclose(scores, expected.detections.scores, atol=1e-4)
    found = np.frombuffer(mask.data, np.uint8).reshape(240, 320)
    assert (found != expected.mask_u8() // 255).mean() < 1e-3
    saliency = np.frombuffer(confidence.data, np.uint8).reshape(240, 320).astype(int)
    assert np.abs(saliency - expected.saliency_u8()).max() <= 1


def test_an_image_of_another_size_is_dropped_and_counted(node, inboxes, peer, facts, wait_for):
    wide = np.full((100, 400, 3), 90, np.uint8)
    publisher = peer.publisher(Image)

    def counted():
        publisher.publish(peer.image(wide))
        return int(facts().get("dropped.bad_input", 0)) > 0

    wait_for(counted)
    peer.ask_all(inboxes, lambda: peer.image(SCENE))
    assert "was exported for inputs of height 192 and width 256" in node.log


@pytest.mark.parametrize(("name", "value"), [("track", True), ("post", "bilateral")])
def test_what_needs_scipy_is_refused_and_changes_nothing(node, peer, name, value):
    assert peer.set_parameters(**{name: value}) == (
        False,
        f"{'track' if name == 'track' else 'post: bilateral'} needs SciPy, which is not installed: pip install scipy",
    )
    assert peer.get_parameters(name) != [value]


def test_weights_that_need_torch_leave_the_node_unconfigured(spawn):
    node = spawn("-p", "device:=cpu", command=NODE, fresh=True)
    assert node.end(signals=()) != 0
    assert "without the Python module 'torch', which is not installed, found alone runs" in node.log
    assert "Traceback" not in node.log
