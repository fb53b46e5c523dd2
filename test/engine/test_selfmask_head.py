"""SelfMask in a pipeline: a saliency method with a network of its own."""

import numpy as np
import pytest
import torch

from objloc_ros.backbones.specs import SPECS
from objloc_ros.engine.pipeline import load_pipeline
from objloc_ros.engine.results import SaliencyResult
from objloc_ros.errors import ParameterError, WeightsError
from objloc_ros.methods.selfmask import SelfMask, load_selfmask, save_selfmask, upsample
from objloc_ros.ops.geometry import plan
from objloc_ros.ops.inputs import to_input


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A network with random weights around the embedded backbone's architecture."""
    torch.manual_seed(1)
    model = SelfMask(SPECS["tiny"], queries=3, layers=1)
    path = tmp_path_factory.mktemp("weights") / "selfmask.safetensors"
    save_selfmask(path, model, "tiny")
    return path


@pytest.fixture(scope="module")
def pipeline(weights):
    return load_pipeline(("selfmask",), device="cpu", weights=weights)


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_the_saliency_is_the_networks(pipeline, weights):
    image = picture(100, 120)
    found = pipeline.run(image)["selfmask"]
    assert isinstance(found, SaliencyResult)
    network = load_selfmask(path=weights)
    geometry = plan((100, 120), patch=8, short_side=192)
    assert found.geometry == geometry
    with torch.no_grad():
        logits = network.predict(to_input(image, geometry, network.mean, network.std))
    expected = upsample(logits, 8)[0, :100, :120].numpy()
    np.testing.assert_array_equal(found.saliency, expected)
    np.testing.assert_array_equal(found.mask_u8() > 0, found.mask)
    assert found.logits.shape == (26, 30)  # two to a patch's side
    assert set(found.maps()) == {"mask", "confidence"}


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (300, 7), (500, 400)])
def test_images_of_every_size_are_answered_at_their_size(pipeline, size):
    found = pipeline.run(picture(*size))["selfmask"]
    assert found.mask_u8().shape == found.saliency_u8().shape == size
    boxes, (height, width) = found.detections.boxes, size
    assert ((boxes >= 0) & (boxes <= [width, height, width, height])).all()
    assert len(found.main_box()) <= 1


def test_options_are_founds(pipeline):
    image = picture(100, 120)
    pipeline.configure("selfmask", threshold=1.0)
    assert len(pipeline.run(image)["selfmask"].detections) == 0
    pipeline.configure("selfmask", threshold=0.0, mode="single", post="bilateral")
    assert len(pipeline.run(image)["selfmask"].detections) <= 1
    pipeline.configure("selfmask", threshold=0.5, mode="multi", post="none")


def test_beside_found_on_the_backbone_it_finds_what_it_finds_alone(weights, monkeypatch, tmp_path):
    both = load_pipeline(("lost", "found"), device="cpu")
    assert both.run(picture(64, 64))["found"].mask.shape == (64, 64)
    with pytest.raises(ParameterError, match="weights would be those of selfmask's network and of the backbone"):
        load_pipeline(("selfmask", "found"), device="cpu", weights=weights)
    monkeypatch.setenv("OBJLOC_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match="objloc weights fetch selfmask_nq10"):
        load_pipeline(("selfmask",), device="cpu", network="selfmask_nq10")


def test_the_box_for_corloc_is_read_at_the_resolution_of_the_masks(pipeline):
    found = pipeline.run(picture(96, 128))["selfmask"]
    found.logits[:] = -1
    found.logits[4:9, 6:11] = 1
    np.testing.assert_array_equal(found.main_box(), [[6 * 4, 4 * 4, 11 * 4, 9 * 4]])
