"""The pipeline: one pass for many images, options that change atomically, errors that name the value."""

import numpy as np
import pytest
import torch

import objloc_ros
from objloc_ros.backbones.vit import build_vit
from objloc_ros.engine.backbone import Backbone, resolve_device
from objloc_ros.engine.heads.found import load_found
from objloc_ros.engine.pipeline import Pipeline
from objloc_ros.errors import InputError, ParameterError, WeightsError
from objloc_ros.evaluation.held_out_scenes import make_scenes
from objloc_ros.training.found_head import save_head
from objloc_ros.training.tiny import save_backbone


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Random weights of the embedded model's layout; the head tells bright keys from dark ones."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    save_backbone(folder / "vit.safetensors", build_vit("tiny"))
    save_head(folder / "head.safetensors", torch.randn(1, 160, 1, 1), torch.zeros(1))
    return {"weights": folder / "vit.safetensors", "head_weights": folder / "head.safetensors"}


@pytest.fixture(scope="module")
def pipeline(files):
    return objloc_ros.load_pipeline(backbone="tiny", device="cpu", short_side=64, **files)


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_results_are_in_source_pixels(pipeline):
    result = pipeline.run(picture(96, 160))
    found = result["found"]
    assert result.source == (96, 160)
    assert found.geometry.resized == (64, 107)
    assert found.saliency.shape == found.mask.shape == (64, 107)
    assert found.mask_u8().shape == found.saliency_u8().shape == (96, 160)
    assert set(np.unique(found.mask_u8())) <= {0, 255}
    assert {"pre", "vit", "found"} == set(result.timings_ms)
    boxes = found.detections.boxes
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= [160, 96]).all()
    assert found.detections.labels == ("object",) * len(boxes)


def test_a_list_gives_what_each_image_gives_alone(pipeline):
    images = [picture(96, 160, 1), picture(50, 50, 2), picture(96, 160, 3)]
    for image, together in zip(images, pipeline.run(images), strict=True):
        alone = pipeline.run(image)["found"]
        np.testing.assert_allclose(together["found"].saliency, alone.saliency, atol=5e-2)  # bfloat16
        assert together.source == image.shape[:2]


def test_no_image_gives_no_result(pipeline):
    assert pipeline.run([]) == []


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (480, 640)])
def test_any_size_works(pipeline, size):
    assert pipeline.run(picture(*size))["found"].mask_u8().shape == size


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4), np.uint8), "RGB uint8"),
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((0, 4, 3), np.uint8), "non-empty"),
    ],
)
def test_what_is_not_an_image_is_refused(pipeline, image, message):
    with pytest.raises(InputError, match=message):
        pipeline.run(image)
    with pytest.raises(InputError, match=message):
        pipeline.run([image])


def test_options_change_together_or_not_at_all(files):
    pipeline = objloc_ros.load_pipeline(device="cpu", **files)
    pipeline.configure("found", threshold=0.3, mode="single")
    assert (pipeline.options["found"].threshold, pipeline.options["found"].mode) == (0.3, "single")
    with pytest.raises(ParameterError, match=r"threshold .* 1\.5"):
        pipeline.configure("found", mode="multi", threshold=1.5)
    with pytest.raises(ParameterError, match="no such option"):
        pipeline.configure("found", colour="red")
    with pytest.raises(ParameterError, match="not 'lost'"):
        pipeline.configure("lost", threshold=0.5)
    assert (pipeline.options["found"].threshold, pipeline.options["found"].mode) == (0.3, "single")


def test_the_threshold_decides_what_is_foreground():
    pipeline = objloc_ros.load_pipeline(device="cpu")
    image = next(make_scenes(1, seed=5)).image
    areas = []
    for threshold in (0.05, 0.5, 0.95):
        pipeline.configure("found", threshold=threshold, min_area=0.0)
        areas.append(int(pipeline.run(image)["found"].mask.sum()))
    assert areas == sorted(areas, reverse=True)
    assert areas[0] > areas[-1]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"methods": ("fund",)}, ParameterError, "methods must be one or more of found"),
        ({"methods": ()}, ParameterError, "methods must be"),
        ({"backbone": "resnet"}, ParameterError, "unknown backbone 'resnet'"),
        ({"device": "tpu"}, ParameterError, "device must be"),
        ({"device": "cuda:99"}, ParameterError, "not there"),
        ({"weights": "/nowhere/vit.safetensors"}, WeightsError, "nowhere"),
    ],
)
def test_what_cannot_be_loaded_is_named(arguments, error, message):
    with pytest.raises(error, match=message):
        objloc_ros.load_pipeline(**{"device": "cpu", **arguments})


def test_device_auto_is_there():
    assert resolve_device("auto").type in ("cpu", "cuda")
    assert resolve_device("cpu") == torch.device("cpu")


def test_native_resolution_is_the_default_of_dino(files, tmp_path):
    save_head(tmp_path / "head.safetensors", torch.randn(1, 384, 1, 1), torch.zeros(1))
    head = load_found("dino_vits16", path=tmp_path / "head.safetensors", device=torch.device("cpu"))
    vit = build_vit("dino_vits16").eval()
    backbone = Backbone(vit, name="dino_vits16", device=torch.device("cpu"), short_side=vit.spec.short_side)
    pipeline = Pipeline(backbone, {"found": head})
    geometry = pipeline.geometry((50, 70))
    assert (geometry.resized, geometry.padded, geometry.grid) == ((50, 70), (64, 80), (4, 5))


def test_bfloat16_changes_next_to_nothing(monkeypatch):
    """The embedded model's module with and without it, on a scene: the masks agree, whatever this CPU prefers."""
    monkeypatch.setattr("objloc_ros.backbones.onnx_graph.find_spec", lambda name: None)
    scene = next(make_scenes(1, seed=5)).image
    masks = []
    for units in (False, True):
        monkeypatch.setattr("objloc_ros.engine.backbone.has_bfloat16_units", lambda device, units=units: units)
        masks.append(objloc_ros.load_pipeline(device="cpu").run(scene)["found"].mask)
    assert masks[0].any()
    assert (masks[0] & masks[1]).sum() > 0.97 * (masks[0] | masks[1]).sum()
