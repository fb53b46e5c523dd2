"""The found node as users start it, with the real engine: same answers as the pipeline gives directly."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

pytest.importorskip("vision_msgs")

from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from objloc_ros.backbones.specs import SPECS
from objloc_ros.backbones.vit import build_vit
from objloc_ros.engine.pipeline import load_pipeline
from objloc_ros.methods.selfmask import SelfMask, save_selfmask


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random numbers in the layout of the embedded weights, the head without a bias."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    vit = build_vit("tiny")
    save_file({key: value.contiguous() for key, value in vit.vit.state_dict().items()}, folder / "vit.safetensors")
    weight = -torch.randn(1, vit.embed_dim, 1, 1)
    save_file({"weight": weight, "bias": torch.zeros(1)}, folder / "head.safetensors")
    torch.manual_seed(0)
    save_selfmask(folder / "selfmask.safetensors", SelfMask(SPECS["tiny"], queries=2, layers=1), "tiny")
    return {
        "found": {"weights": str(folder / "vit.safetensors"), "head_weights": str(folder / "head.safetensors")},
        "selfmask": {"weights": str(folder / "selfmask.safetensors")},
    }


@pytest.mark.parametrize("method", ["found", "selfmask"])
def test_the_node_publishes_what_the_pipeline_finds(weights, start, peer, method):
    options = {"threshold": 0.5, "max_detections": 3}
    pipeline = load_pipeline((method,), device="cpu", **weights[method])
    pipeline.configure(method, **options)
    rgb = np.random.default_rng(4).integers(0, 256, (90, 131, 3), np.uint8)
    rgb[30:60, 40:90] = (220, 30, 40)
    expected = pipeline.run(rgb)[method]
    assert len(expected.detections) > 0

    values = {"method": method, "device": "cpu", **weights[method], **options}
    arguments = [word for name, value in values.items() for word in ("-p", f"{name}:={value}")]
    node = start(*arguments, command=["-m", "objloc_ros.nodes.found"])
    inboxes = [
        peer.subscribe(Detection2DArray, "/found/detections"),
        peer.subscribe(Image, "/found/mask"),
        peer.subscribe(Image, "/found/confidence"),
    ]
    _, (answer, *images) = peer.ask_all(inboxes, lambda: peer.image(rgb))

    boxes = [
        (d.bbox.center.position.x, d.bbox.center.position.y, d.bbox.size_x, d.bbox.size_y) for d in answer.detections
    ]
    x1, y1, x2, y2 = expected.detections.boxes.T
    np.testing.assert_allclose(boxes, np.stack([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1], 1), atol=1e-3)
    scores = [d.results[0].hypothesis.score for d in answer.detections]
    np.testing.assert_allclose(scores, expected.detections.scores, atol=1e-5)
    for image, pixels in zip(images, (expected.mask_u8() // 255, expected.saliency_u8()), strict=True):
        assert (image.height, image.width) == (90, 131)
        np.testing.assert_array_equal(np.frombuffer(image.data, np.uint8).reshape(90, 131), pixels)
    assert node.end() == 0, node.log
