"""Loading weights: the true layouts load, everything else is refused before it runs."""

from __future__ import annotations

import argparse
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from objloc_ros.backbones.registry import REGISTRY
from objloc_ros.backbones.specs import SPECS
from objloc_ros.backbones.store import record_hash
from objloc_ros.backbones.vit import build_vit
from objloc_ros.backbones.weights import load_backbone, load_found_head, read_state
from objloc_ros.errors import ParameterError, WeightsError

DINO = ("dino_vits16", "dino_vits8", "dino_vitb16", "dino_vitb8")


def dino_layout(name: str, seed: int = 0) -> dict[str, torch.Tensor]:
    """A checkpoint with exactly the keys and shapes of DINO's released backbones, random numbers inside."""
    width = 384 if "vits" in name else 768
    patch, n_patches = (16, 196) if name.endswith("16") else (8, 784)
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 1 + n_patches, width),
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    for block in range(12):
        for key, shape in {
            "norm1.weight": (width,),
            "norm1.bias": (width,),
            "attn.qkv.weight": (3 * width, width),
            "attn.qkv.bias": (3 * width,),
            "attn.proj.weight": (width, width),
            "attn.proj.bias": (width,),
            "norm2.weight": (width,),
            "norm2.bias": (width,),
            "mlp.fc1.weight": (4 * width, width),
            "mlp.fc1.bias": (4 * width,),
            "mlp.fc2.weight": (width, 4 * width),
            "mlp.fc2.bias": (width,),
        }.items():
            shapes[f"blocks.{block}.{key}"] = shape
    generator = torch.Generator().manual_seed(seed)
    return {key: torch.empty(shape).uniform_(-0.05, 0.05, generator=generator) for key, shape in shapes.items()}


def saved(path: Path, state: object) -> Path:
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def small() -> dict[str, torch.Tensor]:
    """A checkpoint of the smallest backbone, no value zero or one."""
    generator = torch.Generator().manual_seed(0)
    state = build_vit("tiny").vit.state_dict()
    return {key: torch.empty_like(v).random_(2, 99, generator=generator) for key, v in state.items()}


@pytest.mark.parametrize("name", DINO)
def test_dino_checkpoint_layout_loads(name: str, tmp_path: Path) -> None:
    state = dino_layout(name)
    path = saved(tmp_path / "dino.pth", state)
    model = load_backbone(name, path=path)
    path.unlink()  # up to 343 MB, which pytest would keep
    for key, value in model.vit.state_dict().items():
        assert torch.equal(value, state[key]), key
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: {f"module.{k}": v for k, v in s.items()},
        lambda s: {f"backbone.{k}": v for k, v in s.items()},
        lambda s: {"state_dict": {f"module.backbone.{k}": v for k, v in s.items()}},
        lambda s: {"model": s},
        lambda s: s | {"head.weight": torch.zeros(2, 2)},
        lambda s: {
            "student": {f"module.backbone.{k}": v + 1 for k, v in s.items()},
            "teacher": {f"backbone.{k}": v for k, v in s.items()} | {"head.mlp.0.weight": torch.zeros(3, 3)},
            "optimizer": {"state": {}, "param_groups": []},
            "epoch": 300,
            "args": argparse.Namespace(arch="vit_small", patch_size=16),
        },
    ],
    ids=["data parallel", "backbone prefix", "state_dict", "model", "classifier head", "full checkpoint"],
)
def test_wrapped_checkpoints_load(wrap, small, tmp_path: Path) -> None:
    model = load_backbone("tiny", path=saved(tmp_path / "c.pth", wrap(small)))
    assert torch.equal(model.vit.cls_token, small["cls_token"])
    assert torch.equal(model.vit.blocks[0].attn.qkv.weight, small["blocks.0.attn.qkv.weight"])


def test_half_precision_safetensors_is_upcast(tmp_path: Path) -> None:
    state = build_vit("tiny").vit.state_dict()
    halves = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    save_file({key: value.clone() for key, value in halves.items()}, tmp_path / "tiny.safetensors")
    model = load_backbone("tiny", path=tmp_path / "tiny.safetensors")
    for key, value in model.vit.state_dict().items():
        assert value.dtype == state[key].dtype, key
        assert torch.equal(value, halves[key].to(value.dtype)), key


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda s: s.pop("cls_token"), r"1 missing \(cls_token\)"),
        (lambda s: s.update(extra=torch.zeros(1)), r"1 unexpected \(extra\)"),
        (
            lambda s: s.update(pos_embed=torch.zeros(1, 5, 160)),
            r"1 mis-shaped \(pos_embed \[1, 5, 160\] for \[1, ",
        ),
        (lambda s: s.update(cls_token=[1.0]), r"1 not a tensor \(cls_token\)"),
        (
            lambda s: [s.pop(k) for k in list(s) if ".attn." in k],
            r"\d\d missing \(.*attn.qkv.weight, .*, \.\.\.\)",
        ),
    ],
    ids=["missing", "unexpected", "mis-shaped", "not a tensor", "many missing"],
)
def test_wrong_layout_names_the_keys(change, named: str, small, tmp_path: Path) -> None:
    state = dict(small)
    change(state)
    with pytest.raises(WeightsError, match=rf"not a tiny backbone: .*{named}"):
        load_backbone("tiny", path=saved(tmp_path / "wrong.pth", state))


class Evil:
    """A pickle that creates a file when a plain unpickler reads it."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
@pytest.mark.parametrize("bare", [False, True], ids=["torch archive", "bare pickle"])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_pickle_with_code_is_refused_and_never_runs(suffix: str, bare: bool, tmp_path: Path) -> None:
    trap = tmp_path / "executed"
    path = tmp_path / f"evil{suffix}"
    payload = {"cls_token": torch.zeros(1), "decoder": Evil(trap)}
    if bare:
        path.write_bytes(pickle.dumps(payload))
    else:
        torch.save(payload, path)
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        load_backbone("tiny", path=path)
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        load_found_head("dino_vits8", path=path)
    assert not trap.exists()


def test_the_trap_works_on_a_plain_unpickler(tmp_path: Path) -> None:
    trap = tmp_path / "executed"
    pickle.loads(pickle.dumps(Evil(trap)))
    assert trap.exists()


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".pth", b""),
        (".pth", b"not a checkpoint"),
        (".pth", b"PK\x03\x04" + b"\0" * 64),
        (".safetensors", b"\xff" * 64),
    ],
)
def test_damaged_file_is_refused(suffix: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        read_state(path)


def test_truncated_checkpoint_is_refused(small, tmp_path: Path) -> None:
    path = saved(tmp_path / "t.pth", small)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        load_backbone("tiny", path=path)


def test_checkpoint_that_is_no_dictionary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="holds a list"):
        load_backbone("tiny", path=saved(tmp_path / "list.pth", [torch.zeros(1)]))


@pytest.mark.parametrize("nested", [True, False], ids=["released", "flat"])
def test_found_head_layouts(nested: bool, tmp_path: Path) -> None:
    head = {"weight": torch.randn(1, 384, 1, 1), "bias": torch.randn(1)}
    weight, bias = load_found_head("dino_vits8", path=saved(tmp_path / "h.pt", {"decoder": head} if nested else head))
    assert torch.equal(weight, head["weight"])
    assert torch.equal(bias, head["bias"])


def test_found_head_from_half_precision_safetensors(tmp_path: Path) -> None:
    width = SPECS["tiny"].embed_dim
    head = {"weight": torch.randn(1, width, 1, 1).half(), "bias": torch.randn(1).half()}
    save_file(head, tmp_path / "h.safetensors")
    weight, bias = load_found_head("tiny", path=tmp_path / "h.safetensors")
    assert weight.dtype == bias.dtype == torch.float32
    assert torch.equal(weight, head["weight"].float())


@pytest.mark.parametrize(
    ("state", "named"),
    [
        ({"decoder": {"weight": torch.zeros(1, 768, 1, 1), "bias": torch.zeros(1)}}, r"weight \[1, 768, 1, 1\] for"),
        ({"decoder": {"weight": torch.zeros(1, 384, 1, 1)}}, r"1 missing \(bias\)"),
        ({"decoder": torch.zeros(3)}, "holds a Tensor"),
    ],
)
def test_wrong_head_is_refused(state, named: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=rf"not a FOUND head for dino_vits8: .*{named}"):
        load_found_head("dino_vits8", path=saved(tmp_path / "h.pt", state))


def test_recorded_hash_binds_an_explicit_path(small, tmp_path: Path) -> None:
    path = saved(tmp_path / "dino.pth", small)
    record_hash(path)
    load_backbone("tiny", path=path)
    saved(path, {key: value + 1 for key, value in small.items()})
    with pytest.raises(WeightsError, match="expected"):
        load_backbone("tiny", path=path)


def test_registry_hash_binds_the_cached_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBJLOC_CACHE", str(tmp_path))
    saved(REGISTRY["dino_vitb16"].path, {"cls_token": torch.zeros(1)})
    with pytest.raises(WeightsError, match=f"expected {REGISTRY['dino_vitb16'].sha256}"):
        load_backbone("dino_vitb16")


def test_missing_weights_name_the_command_and_nothing_is_downloaded(tmp_path: Path, monkeypatch) -> None:
    def refuse(*_args, **_kwargs):
        raise AssertionError("loading opened a URL")

    monkeypatch.setenv("OBJLOC_CACHE", str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(WeightsError, match=r"objloc weights fetch dino_vits8.*Apache-2.0.*https://"):
        load_backbone("dino_vits8")
    with pytest.raises(WeightsError, match="objloc weights fetch dino_vits8_found_head"):
        load_found_head("dino_vits8")
    with pytest.raises(WeightsError, match="no FOUND head is released for 'dino_vitb16'"):
        load_found_head("dino_vitb16")
    with pytest.raises(WeightsError, match="no weights file"):
        load_backbone("tiny", path=tmp_path / "nowhere.pth")


def test_unknown_backbone_lists_the_known() -> None:
    with pytest.raises(ParameterError, match="unknown backbone 'resnet'; known: dino_vits16"):
        load_backbone("resnet")
    with pytest.raises(ParameterError, match="unknown backbone"):
        load_found_head("resnet")
