"""The open-vocabulary methods on SigLIP 2 and MobileCLIP2, from files to labels that open_clip agrees with."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import cv2
import numpy as np
import pytest
import torch
from open_clip.transform import image_transform
from PIL import Image
from segmentation_making import scene
from torch.nn import functional as F
from tower_making import SCALE, Made, make_towers

import objloc_ros
from objloc_ros.backbones.timm_clip import TIMM_CLIP_SPECS
from objloc_ros.backbones.weights import load_tokenizer
from objloc_ros.cli.main import main
from objloc_ros.engine.config import PipelineConfig
from objloc_ros.engine.pipeline import Pipeline, build_pipeline
from objloc_ros.engine.prompts import check_prompts
from objloc_ros.errors import ParameterError
from objloc_ros.io.media import write_image
from objloc_ros.methods.clip_diy import PATCH_SIZES, SIDE, similarity

PROMPTS = ("red circle", "traffic cone", "a blue object")
METHODS = ("clip_diy", "maskclip", "clip_dinoiser")


@pytest.fixture(scope="module", params=["siglip2_vitb32", "mobileclip2_s0"])
def made(request, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    if request.param.startswith("siglip2") and importlib.util.find_spec("tokenizers") is None:
        pytest.skip("reads SigLIP 2's tokens")
    with make_towers(request.param, tmp_path_factory.mktemp(request.param), side=64) as made:
        yield made


@pytest.fixture(scope="module")
def pipeline(made: Made) -> Pipeline:
    pipeline = objloc_ros.load_pipeline(METHODS, device="cpu", clip=made.name, clip_weights=made.path)
    for method in METHODS:
        pipeline.configure(method, background="none", min_area=0.0)
    return pipeline


@torch.inference_mode()
def compute_cosines(made: Made, rgb: np.ndarray, texts: torch.Tensor) -> torch.Tensor:
    """CLIP-DIY's maps [P, SIDE, SIDE] of windows that open_clip itself has prepared and embedded."""
    spec = TIMM_CLIP_SPECS[made.name]
    prepare = image_transform(spec.side, is_train=False, mean=spec.mean, std=spec.std, interpolation=spec.interpolation)
    square = cv2.resize(rgb, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    scales = []
    for size in PATCH_SIZES:
        starts = range(0, SIDE - size + 1, size // 2)
        crops = [Image.fromarray(square[y : y + size, x : x + size]) for y in starts for x in starts]
        embedded = made.model.encode_image(torch.stack([prepare(crop) for crop in crops]))
        scales.append(embedded.unflatten(0, (len(starts), len(starts)))[None])
    return similarity(scales, texts, size=SIDE, placement="centred")[0]


def test_clip_diy_labels_what_open_clip_sees(made: Made, pipeline: Pipeline) -> None:
    pipeline.set_prompts(PROMPTS, ("a photo of {}",))
    result = pipeline.run(scene(160, 240), ("clip_diy",))["clip_diy"]
    ids = load_tokenizer(made.name, path=made.path)([f"a photo of {prompt}" for prompt in PROMPTS])
    texts = made.model.encode_text(ids).detach()
    cosines = compute_cosines(made, scene(160, 240), texts)
    best = cosines.argmax(0).numpy()
    assert cosines.flatten(1).std(1).min() > 1e-3  # windows differ
    clear = (cosines.topk(2, dim=0).values.diff(dim=0)[0].abs() > 1e-4).numpy()  # rounding of grey levels aside
    assert clear.mean() > 0.5
    assert (result.classes == best)[clear].mean() > 0.99
    sure = (SCALE * cosines).softmax(0).amax(0).numpy()  # the file's temperature
    assert np.abs(result.confidence - sure)[clear].mean() < 0.01


@pytest.mark.parametrize("method", METHODS)
def test_prompts_change_between_two_images(pipeline: Pipeline, method: str) -> None:
    def label(*prompts: str) -> np.ndarray:
        pipeline.set_prompts(prompts)
        result = pipeline.run(scene(160, 240), (method,))[method]
        names = {**result.labels.names(), 255: ""}
        return np.vectorize(names.get)(result.classes)

    before = label(*PROMPTS)
    assert "" not in before
    assert np.array_equal(label(*reversed(PROMPTS)), before)
    assert np.unique(label("the cone")) == ["the cone"]


@pytest.mark.parametrize("background", ["found", "prompt"])
def test_backgrounds(pipeline: Pipeline, background: str) -> None:
    pipeline.set_prompts(PROMPTS)
    for method in ("clip_diy", "maskclip"):
        pipeline.configure(method, background=background)
        result = pipeline.run(scene(160, 240), (method,))[method]
        pipeline.configure(method, background="none")
        assert set(np.unique(result.classes)) <= {0, 1, 2, 255}
        assert ((result.confidence >= 0) & (result.confidence <= 1)).all()
        if background == "found":  # the saliency decides where there is something, though cosines are below zero
            assert (result.classes[2:10, 2:10] == 255).all()
            assert (result.classes != 255).any()


def test_the_command_runs_with_the_towers(made: Made, tmp_path, capsys) -> None:
    write_image(tmp_path / "a.png", scene(160, 240))
    towers = ["--clip", made.name, "--clip-weights", str(made.path), "--device", "cpu", "--out", str(tmp_path / "out")]
    prompts = ["--prompts", ", ".join(PROMPTS)]
    command = ["detect", str(tmp_path / "a.png"), *prompts, *towers, "--background", "none"]
    for method in METHODS:
        assert main([*command, "--method", method]) == 0
        labels = cv2.imread(str(tmp_path / "out" / "a_labels.png"), cv2.IMREAD_UNCHANGED)
        assert labels.shape == (160, 240)
        assert set(np.unique(labels)) <= {0, 1, 2}
    capsys.readouterr()
    assert main([*command, "--method", "clip_dinoiser", "--correlations", "head"]) != 0
    said = capsys.readouterr().err
    assert f"clip_dinoiser cannot run with correlations: head on {made.name}" in said
    assert "Traceback" not in said


def test_a_trained_head_of_another_tower_is_refused_before_anything_is_loaded(tmp_path) -> None:
    for name in TIMM_CLIP_SPECS:
        config = PipelineConfig(
            methods=("clip_dinoiser",), clip=name, device="cpu", dinoiser_weights=tmp_path / "no_such.pt"
        )
        with pytest.raises(ParameterError, match=f"clip_dinoiser cannot run with dinoiser_weights on {name}: its trai"):
            build_pipeline(config)


def test_prompts_that_are_too_long_name_the_limit_of_the_tower(made: Made) -> None:
    limit = {"siglip2_vitb32": 64, "mobileclip2_s0": 77}[made.name]
    with pytest.raises(ParameterError, match=f"at most {limit} are read"):
        check_prompts(made.name, ["red circle " * 40], ["{}"], path=made.path)


def test_embeddings_are_of_unit_length(made: Made, pipeline: Pipeline) -> None:
    encoded = pipeline.encode_prompts(PROMPTS, ("{}",), {})
    torch.testing.assert_close(F.normalize(encoded.texts, dim=1), encoded.texts)
    assert len(encoded.texts) == 1 + len(PROMPTS)
