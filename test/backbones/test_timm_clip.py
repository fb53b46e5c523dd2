"""SigLIP 2 and MobileCLIP2 are what open_clip makes of the same files: sizes, preprocessing, embeddings."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from open_clip.transform import image_transform
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from tower_making import OPEN_CLIP, SCALE, Made, build_reference, make_towers, write_tokens

from objloc_ros.backbones.clip import CLIP_NAMES, find_clip_spec, find_tower_spec
from objloc_ros.backbones.clip_text import check_lengths
from objloc_ros.backbones.gemma_tokens import GemmaTokenizer
from objloc_ros.backbones.registry import REGISTRY, SIGLIP2_TOKENS
from objloc_ros.backbones.store import fetch
from objloc_ros.backbones.timm_clip import TIMM_CLIP_SPECS, TimmImage, build_timm_image, build_timm_text
from objloc_ros.backbones.weights import load_clip_image, load_clip_text, load_tokenizer
from objloc_ros.errors import InputError, ParameterError, WeightsError
from objloc_ros.methods.clip_diy import resized_windows

NAMES = list(TIMM_CLIP_SPECS)
needs_tokenizers = pytest.mark.skipif(importlib.util.find_spec("tokenizers") is None, reason="reads SigLIP 2's tokens")


@pytest.fixture(scope="module", params=["siglip2_vitb32", "mobileclip2_s0"])
def made(request, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    with make_towers(request.param, tmp_path_factory.mktemp(request.param)) as made:
        yield made


@pytest.fixture(scope="module")
def tower(made: Made) -> TimmImage:
    tower = load_clip_image(made.name, path=made.path)
    assert isinstance(tower, TimmImage)
    return tower


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_has_the_shape_that_open_clip_reads(name: str) -> None:
    with torch.device("meta"):
        theirs = {key: value.shape for key, value in build_reference(name).state_dict().items()}
        ours = {f"visual.{key}": value.shape for key, value in build_timm_image(name).visual.state_dict().items()}
        ours |= {f"text.{key}": value.shape for key, value in build_timm_text(name).state_dict().items()}
    for key in ("logit_scale", "logit_bias"):
        theirs.pop(key, None)
    assert ours == theirs


@pytest.mark.parametrize("name", NAMES)
def test_sizes_and_preprocessing_are_those_of_open_clip(name: str) -> None:
    spec = find_tower_spec(name)
    config, weights = open_clip.get_model_config(OPEN_CLIP[name][0]), open_clip.get_pretrained_cfg(*OPEN_CLIP[name])
    assert (spec.mean, spec.std, spec.interpolation) == (weights["mean"], weights["std"], weights["interpolation"])
    assert (spec.side, spec.embed_dim) == (config["vision_cfg"]["image_size"], config["embed_dim"])
    text = config["text_cfg"]
    assert (spec.context, spec.vocabulary) == (text["context_length"], text["vocab_size"])
    if spec.gemma:
        assert text["tokenizer_kwargs"] == {"clean": "canonicalize"}
    repository = weights["hf_hub"].strip("/")
    assert REGISTRY[name].url == f"https://huggingface.co/{repository}/resolve/main/open_clip_model.safetensors"


@pytest.mark.parametrize("name", NAMES)
def test_licences(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    entry = REGISTRY[name]
    assert entry.layout == "clip"
    assert entry.non_commercial == name.startswith("mobileclip2")
    assert entry.licence == ("LicenseRef-apple-amlr" if entry.non_commercial else "Apache-2.0")
    monkeypatch.setenv("OBJLOC_CACHE", str(tmp_path))
    if entry.non_commercial:
        with pytest.raises(WeightsError, match=r"NON-COMMERCIAL use only: if yours is, add --non-commercial"):
            fetch(name)
        with pytest.raises(WeightsError, match=f"`objloc weights fetch {name} --non-commercial`"):
            load_clip_image(name)


def test_embeddings_of_images_are_those_of_open_clip(made: Made, tower: TimmImage) -> None:
    images = draw(3, 3, tower.side, tower.side)
    with torch.inference_mode():
        ours, theirs = F.normalize(tower(images), dim=1), made.model.encode_image(images, normalize=True)
    assert ours.shape == (3, tower.embed_dim)
    assert theirs[0] @ theirs[1] < 0.99  # they depend on the images
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)
    assert tower.logit_scale == pytest.approx(SCALE)


def test_windows_are_prepared_as_open_clip_does(tower: TimmImage) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    prepare = image_transform(
        tower.side, is_train=False, mean=tower.mean, std=tower.std, interpolation=tower.interpolation
    )
    pixels = torch.from_numpy(rgb).permute(2, 0, 1)[None]
    windows = resized_windows(pixels, tower.side, (64,), interpolation=tower.interpolation)
    mean, std = (torch.tensor(values)[:, None, None] for values in (tower.mean, tower.std))
    difference = ((windows[0] / 255 - mean) / std - prepare(Image.fromarray(rgb))).abs() * std * 255
    assert difference.max() <= 2.01  # grey levels, of rounding
    assert difference.mean() < 0.02


def test_dense_features_are_the_pooling_of_one_patch_at_a_time(made: Made, tower: TimmImage) -> None:
    images = draw(2, 3, tower.side, tower.side)
    trunk = made.model.visual.trunk
    with torch.inference_mode():
        dense, grid = tower.dense(images)
        features = trunk.forward_features(images)
        if tower.spec.pool == "map":  # of one patch, attention can only choose that
            alone = [trunk.attn_pool(features[:, i : i + 1]) for i in range(features.shape[1])]
        else:
            alone = [trunk.head(features[:, :, i : i + 1, j : j + 1]) for i, j in np.ndindex(*grid)]
            whole = made.model.encode_image(images, normalize=True)
            torch.testing.assert_close(F.normalize(dense.mean(1), dim=1), whole, rtol=0, atol=1e-4)
    assert grid == (tower.side // tower.patch,) * 2
    units, theirs = (F.normalize(vectors, dim=2) for vectors in (dense, torch.stack(alone, 1)))
    assert (theirs[:, 0] * theirs[:, -1]).sum(1).max() < 0.99  # places differ
    torch.testing.assert_close(units, theirs, rtol=0, atol=1e-4)


def test_dense_features_of_any_size(tower: TimmImage) -> None:
    with torch.inference_mode():
        dense, grid = tower.dense(draw(1, 3, 3 * tower.patch, 11 * tower.patch))
    assert (grid, dense.shape) == ((3, 11), (1, 33, tower.embed_dim))
    with pytest.raises(InputError):
        tower.dense(draw(1, 3, tower.patch, tower.patch + 1))


def test_embeddings_of_texts_are_those_of_open_clip(made: Made) -> None:
    if made.name.startswith("siglip2"):
        pytest.importorskip("tokenizers")
    text = load_clip_text(made.name, path=made.path)
    prompts = ["red circle", "Traffic Cone!", "a blue object"]
    ids = text.tokenizer(prompts)
    assert ids.shape == (3, TIMM_CLIP_SPECS[made.name].context)
    with torch.inference_mode():
        theirs = made.model.encode_text(ids, normalize=True)
    torch.testing.assert_close(text.encode(prompts, ["{}"]), theirs, rtol=1e-4, atol=1e-4)
    if made.name.startswith("mobileclip2"):
        assert torch.equal(ids, open_clip.get_tokenizer("MobileCLIP2-S0")(prompts))


def test_the_limit_of_tokens_is_the_towers_own(made: Made) -> None:
    if made.name.startswith("siglip2"):
        pytest.importorskip("tokenizers")
    limit = {"siglip2_vitb32": 64, "mobileclip2_s0": 77}[made.name]
    tokenizer = load_tokenizer(made.name, path=made.path)
    step = tokenizer.length("red red") - tokenizer.length("red")  # SigLIP's space is a token
    count = 1 + (limit - tokenizer.length("red")) // step
    check_lengths(tokenizer, [" ".join(["red"] * count)])
    with pytest.raises(ParameterError, match=f"tokens, at most {limit} are read"):
        check_lengths(tokenizer, [" ".join(["red"] * (count + 1))])


@needs_tokenizers
def test_siglip_reads_lower_case_without_punctuation_to_the_end(tmp_path: Path) -> None:
    write_tokens(tmp_path / "tokens.json")
    tokenizer = GemmaTokenizer(tmp_path / "tokens.json", 8)
    plain, shouted, foreign = tokenizer(["red circle", "RED,  circle!", "é"])
    assert plain.tolist()[3:] == [1, 0, 0, 0, 0]  # red, a space, circle; the end; padding
    assert torch.equal(plain, shouted)
    assert 3 not in foreign  # bytes, not the unknown
    assert tokenizer.unknown_words("é") == []
    cut = tokenizer(["red circle red circle red circle"])[0]
    assert (cut[-1], tokenizer.length("red circle red circle red circle")) == (1, 12)


def test_without_the_tokens_or_their_library_the_cure_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBJLOC_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match=f"`objloc weights fetch {SIGLIP2_TOKENS}`"):
        load_tokenizer("siglip2_vitb16")
    write_tokens(REGISTRY[SIGLIP2_TOKENS].path)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(WeightsError, match="pip install tokenizers"):
        load_tokenizer("siglip2_vitb16")


@needs_tokenizers
@pytest.mark.parametrize("content", ["{", '{"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}}'])
def test_a_file_that_holds_no_tokens_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(WeightsError, match=r"tokenizer.json (cannot be read as tokens|does not hold SigLIP 2's)"):
        load_tokenizer("siglip2_vitb16", path=tmp_path / "weights.safetensors")


def test_a_file_of_other_towers_is_refused(made: Made, tmp_path: Path) -> None:
    state = load_file(made.path)
    del state["logit_scale"]
    save_file({key: value for key, value in state.items() if "trunk" in key}, path := tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match=rf"image tower of {made.name}: 1 missing \(logit_scale\)"):
        load_clip_image(made.name, path=path)
    path.unlink()


@pytest.mark.parametrize("name", NAMES)
def test_they_are_named_among_the_models_but_are_no_transformers_of_clips(name: str) -> None:
    assert name in CLIP_NAMES
    with pytest.raises(ParameterError, match=f"{name} is no transformer of CLIP's own"):
        find_clip_spec(name)
