"""SelfMask's network: against the original's outputs, and files that are read or refused."""

import dataclasses
import zlib

import numpy as np
import pytest
import torch
from golden_cases import DEVICE, find_cases, load_case, to_device
from safetensors.torch import load_file, save_file

from objloc_ros.backbones.specs import SPECS, ViTSpec
from objloc_ros.errors import InputError, WeightsError
from objloc_ros.methods.selfmask import SelfMask, keep_or_resample, load_selfmask, save_selfmask, upsample

SMALL = ViTSpec(patch=8, embed_dim=16, depth=1, n_heads=2)


def golden_value(name, shape):
    """The value of a parameter of the golden networks, from its name."""
    value = np.random.RandomState(zlib.crc32(name.encode()) & 0x7FFFFFFF).standard_normal(shape).astype(np.float32)
    if len(shape) >= 2:
        learned = name.rpartition(".")[2] in ("query_embed", "pos_embed", "cls_token")
        return 0.5 * value if learned else value / np.sqrt(np.float32(np.prod(shape[1:])))
    return 1 + 0.1 * value if name.endswith("weight") else 0.1 * value


def golden_network(case):
    """The network of a golden case, whose names and shapes must be the original's."""
    spec = ViTSpec(patch=8, embed_dim=int(case["dim"]), depth=int(case["depth"]), n_heads=int(case["heads"]))
    model = SelfMask(spec, queries=int(case["queries"]), layers=int(case["layers"])).eval()
    shapes = [tuple(int(side) for side in shape if side >= 0) for shape in case["shapes"]]
    expected = dict(zip(case["names"].tolist(), shapes, strict=True))
    assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == expected
    model.load_state_dict({name: torch.from_numpy(golden_value(name, shape)) for name, shape in expected.items()})
    return model.to(DEVICE)


@pytest.mark.parametrize("path", find_cases("selfmask_net"), ids=lambda path: path.stem)
@torch.no_grad()
def test_the_network_is_the_originals(path):
    case = load_case(path)
    model = golden_network(case)
    drawn = np.random.RandomState(int(case["image_seed"])).randn(*case["image_shape"]).astype(np.float16)
    image = to_device(case.get("image", drawn).astype(np.float32))
    masks, objectness = (answer.cpu() for answer in model(image))
    last = masks[0, -1]
    every = last.shape[1] // case["mask_last"].shape[1]
    np.testing.assert_allclose(last[:, ::every, ::every], case["mask_last"], atol=2e-5)
    np.testing.assert_allclose(masks[0].mean((2, 3)), case["mask_mean"], atol=2e-6)
    np.testing.assert_allclose(objectness[0, ..., 0], case["objectness"], atol=2e-6)
    best = last[objectness[0, -1, :, 0].argmax()]
    np.testing.assert_allclose(model.predict(image)[0].sigmoid().cpu(), best, atol=2e-5)


def test_positions_stay_for_as_many_patches_whatever_their_grid():
    learned = torch.randn(1, 1 + 16, 4)
    assert keep_or_resample(learned, (4, 4)) is learned
    assert keep_or_resample(learned, (2, 8)) is learned
    assert keep_or_resample(learned, (3, 5)).shape == (1, 1 + 15, 4)


@torch.no_grad()
def test_sides_are_filled_with_zeros_up_to_the_patch():
    model = SelfMask(SMALL, queries=2, layers=1).eval()
    image = torch.randn(2, 3, 19, 30)
    filled = torch.zeros(2, 3, 24, 32)
    filled[..., :19, :30] = image
    masks, objectness = (answer.cpu() for answer in model(image))
    assert (masks.shape, objectness.shape) == ((2, 1, 2, 6, 8), (2, 1, 2, 1))
    assert torch.equal(masks, model(filled).masks)


@torch.no_grad()
def test_one_pixel_is_an_image_and_none_is_not():
    model = SelfMask(SMALL, queries=2, layers=1).eval()
    assert model.predict(torch.zeros(1, 3, 1, 1)).shape == (1, 2, 2)
    with pytest.raises(InputError, match="non-empty image, got 5x0"):
        model(torch.zeros(1, 3, 0, 5))


def test_probabilities_are_interpolated_to_pixels():
    logits = torch.tensor([[[-4.0, 4.0], [-4.0, 4.0]]])
    saliency = upsample(logits, 8)
    assert saliency.shape == (1, 8, 8)
    np.testing.assert_allclose(saliency[0, 0, [0, 7]], torch.tensor([-4.0, 4.0]).sigmoid())
    assert saliency[0, 0, 3] + saliency[0, 0, 4] == pytest.approx(1)


def test_an_encoder_drops_nothing_in_training():
    model = SelfMask(SPECS["tiny"], queries=2, layers=1).train()
    images = torch.randn(1, 3, 128, 128)
    assert model.training
    assert torch.equal(model.encoder.patch_embed(images), model.encoder.patch_embed(images))


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    return SelfMask(SPECS["tiny"], queries=3, layers=2).eval()


def test_a_saved_network_is_the_same_and_names_its_encoder(tiny, tmp_path):
    save_selfmask(tmp_path / "a.safetensors", tiny, "tiny")
    loaded = load_selfmask(path=tmp_path / "a.safetensors")
    assert loaded.spec == SPECS["tiny"]
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    image = torch.randn(1, 3, 32, 40)
    with torch.no_grad():
        assert torch.equal(loaded.predict(image), tiny.predict(image))


@pytest.fixture
def released(monkeypatch):
    """A state dict like the released ones, but small."""
    spec = dataclasses.replace(SPECS["dino_vits8"], embed_dim=16, depth=1, n_heads=2)
    monkeypatch.setitem(SPECS, "dino_vits8", spec)
    return SelfMask(spec, queries=4, layers=2).state_dict()


def test_released_files_are_read_bare_and_as_checkpoints(released, tmp_path):
    parallel = {f"module.{name}": value for name, value in released.items()}
    for number, content in enumerate([released, {"model": released, "epoch": 3}, parallel]):
        path = tmp_path / f"{number}.pt"
        torch.save(content, path)
        loaded = load_selfmask(path=path)
        assert loaded.query_embed.shape == (4, 16)
        assert all(torch.equal(value, released[name]) for name, value in loaded.state_dict().items())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("decoder.norm.weight"), "is not a SelfMask .* 1 missing .decoder.norm.weight"),
        (lambda state: state.update(extra=torch.ones(1)), "1 unexpected .extra"),
        (lambda state: state.pop("query_embed"), "query_embed .* missing"),
        (lambda state: state.update(query_embed=torch.ones(4, 20)), r"mis-shaped .query_embed \[4, 20\] for \[4, 16\]"),
        (lambda state: [state.pop(key) for key in list(state) if "layers" in key], "decoder.layers are missing"),
    ],
)
def test_incomplete_and_foreign_files_are_refused(released, tmp_path, change, words):
    change(released)
    torch.save(released, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match=words):
        load_selfmask(path=tmp_path / "a.pt")


def test_the_network_of_another_encoder_is_refused(tiny, tmp_path):
    path = tmp_path / "a.safetensors"
    save_selfmask(path, tiny, "dino_vits16")
    with pytest.raises(WeightsError, match=r"is not a SelfMask with the encoder dino_vits16: .* mis-shaped"):
        load_selfmask(path=path)
    for metadata, words in (
        ({"format": "objloc selfmask 1", "encoder": "huge"}, "the encoder 'huge', which is none of dino_vits16"),
        (
            {"format": "objloc token detector 1"},
            "is not a SelfMask: its metadata says format 'objloc token detector 1'",
        ),
    ):
        save_file(load_file(path), path, metadata=metadata)
        with pytest.raises(WeightsError, match=words):
            load_selfmask(path=path)


def test_files_that_are_not_there_or_no_weights_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("OBJLOC_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match="objloc weights fetch selfmask_nq20"):
        load_selfmask()
    (tmp_path / "a.safetensors").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        load_selfmask(path=tmp_path / "a.safetensors")
