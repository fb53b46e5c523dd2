"""DINOv2, DINOv2 with registers and DINOv3, held against timm's implementations; Meta's and timm's layouts."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from objloc_ros.backbones.onnx_export import export_backbone
from objloc_ros.backbones.onnx_positions import open_pos_embed
from objloc_ros.backbones.onnx_runtime import load_exported
from objloc_ros.backbones.positions import antialiased_pos_embed, dino_pos_embed
from objloc_ros.backbones.specs import SPECS
from objloc_ros.backbones.vit import ViT, build_vit
from objloc_ros.backbones.weights import fingerprint, load_backbone, load_found_head
from objloc_ros.errors import WeightsError

TIMM = {
    "dinov2_vits14": "vit_small_patch14_dinov2",
    "dinov2_vitb14": "vit_base_patch14_dinov2",
    "dinov2_vits14_reg": "vit_small_patch14_reg4_dinov2",
    "dinov2_vitb14_reg": "vit_base_patch14_reg4_dinov2",
    "dinov3_vits16": "vit_small_patch16_dinov3_qkvb",
    "dinov3_vitb16": "vit_base_patch16_dinov3_qkvb",
}
KINDS = ("dinov2_vits14", "dinov2_vits14_reg", "dinov3_vits16")


def randomise(module: nn.Module) -> nn.Module:
    """Fill every parameter with numbers large enough that each of them changes the result."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.05 if parameter.ndim > 1 else 0.3, generator=generator)
    return module.requires_grad_(False).eval()


def shorten(name: str, monkeypatch: pytest.MonkeyPatch, depth: int = 2) -> None:
    """Leave an architecture only some of its blocks; their shapes stay."""
    monkeypatch.setitem(SPECS, name, dataclasses.replace(SPECS[name], depth=depth))


def timm_model(name: str, depth: int, **options: object) -> nn.Module:
    if not name.startswith("dinov2"):
        options["dynamic_img_size"] = True
    model = timm.create_model(TIMM[name], pretrained=False, num_classes=0, depth=depth, **options)
    return randomise(model)


def load_from(state: dict[str, Tensor], name: str, path: Path) -> ViT:
    """Load a backbone from a file that does not stay: it has up to 88 MB, which pytest would keep."""
    write = torch.save if path.suffix == ".pth" else save_file
    write({key: value.contiguous() for key, value in state.items()}, path)
    model = load_backbone(name, path=path)
    path.unlink()
    return model


class TimmFacets:
    """What timm's transformer computes on its way: the last block's projection and attention, and its output."""

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        attention = model.blocks[-1].attn
        attention.fused_attn = False
        attention.register_forward_pre_hook(lambda module, inputs: setattr(self, "entered", inputs[0]))
        attention.attn_drop.register_forward_hook(lambda module, inputs, output: setattr(self, "attention", output))
        self.output = model.forward_features(images)
        bias = attention.qkv.bias
        if getattr(attention, "q_bias", None) is not None:
            bias = torch.cat([attention.q_bias, torch.zeros_like(attention.q_bias), attention.v_bias])
        self.queries, self.keys, self.values = F.linear(self.entered, attention.qkv.weight, bias).chunk(3, dim=-1)


def assert_near(found: Tensor, wanted: Tensor) -> None:
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()


@torch.inference_mode()
def assert_same(ours: ViT, theirs: nn.Module, images: Tensor) -> None:
    """Compare every facet, the attention of CLS, and CLS after all blocks."""
    wanted, found, leads = TimmFacets(theirs, images), ours(images), ours.spec.leads
    for name in ("keys", "queries", "values"):
        assert_near(getattr(found, name), getattr(wanted, name)[:, leads:])
    assert_near(found.cls_attention, wanted.attention[:, :, 0, leads:])
    assert_near(ours.encode_cls(images), wanted.output[:, 0])


@pytest.mark.parametrize("name", KINDS)
def test_a_whole_small_backbone_equals_timms(name: str, tmp_path: Path) -> None:
    patch = SPECS[name].patch
    # without registers timm resamples otherwise than Meta, but not at the learned size
    size = (518, 518) if name == "dinov2_vits14" else (5 * patch, 7 * patch)
    theirs = timm_model(name, 12, **({"dynamic_img_size": True} if "reg" in name else {}))
    ours = load_from(theirs.state_dict(), name, tmp_path / "timm.safetensors")
    assert_same(ours, theirs, torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize(
    ("name", "grid"),
    [
        *itertools.product(KINDS, [(1, 3), (5, 8), (40, 2), (38, 37)]),
        *((name, (6, 4)) for name in TIMM if name not in KINDS),
    ],
)
def test_other_sizes_equal_timms(
    name: str, grid: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shorten(name, monkeypatch)
    patch = SPECS[name].patch
    size = (patch * grid[0], patch * grid[1])
    options = {"dynamic_img_size": True} if "reg" in name else {"img_size": size} if "dinov2" in name else {}
    theirs = timm_model(name, 2, **options)
    state = theirs.state_dict()
    if options.get("img_size"):  # Meta's rule without registers is DINO's, which timm does not know
        state["pos_embed"] = torch.randn(1, 1 + 37 * 37, SPECS[name].embed_dim)
        theirs.pos_embed.copy_(dino_pos_embed(state["pos_embed"], grid))
    ours = load_from(state, name, tmp_path / "timm.safetensors")
    assert_same(ours, theirs, torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1)))


def test_dinov3_without_biases_as_timm_publishes_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "dinov3_vits16"
    shorten(name, monkeypatch)
    theirs = randomise(timm.create_model(TIMM[name].removesuffix("_qkvb"), pretrained=False, num_classes=0, depth=2))
    ours = load_from(theirs.state_dict(), name, tmp_path / "timm.safetensors")
    assert_same(ours, theirs, torch.randn(1, 3, 48, 80))


def meta_layout(name: str) -> dict[str, Tensor]:
    """A file with exactly the keys and shapes of Meta's, random numbers inside."""
    width, patch = (384 if "vits" in name else 768), int(name[11:13])
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "mask_token": (1, width),
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    if "dinov2" in name:
        shapes["pos_embed"] = (1, 1370, width)
    if "reg" in name:
        shapes["register_tokens"] = (1, 4, width)
    if "dinov3" in name:
        shapes |= {"storage_tokens": (1, 4, width), "rope_embed.periods": (16,)}
    for block in range(SPECS[name].depth):
        for key, shape in {
            "norm1.weight": (width,),
            "norm1.bias": (width,),
            "attn.qkv.weight": (3 * width, width),
            "attn.qkv.bias": (3 * width,),
            "attn.proj.weight": (width, width),
            "attn.proj.bias": (width,),
            "ls1.gamma": (width,),
            "norm2.weight": (width,),
            "norm2.bias": (width,),
            "mlp.fc1.weight": (4 * width, width),
            "mlp.fc1.bias": (4 * width,),
            "mlp.fc2.weight": (width, 4 * width),
            "mlp.fc2.bias": (width,),
            "ls2.gamma": (width,),
        }.items():
            shapes[f"blocks.{block}.{key}"] = shape
        if "dinov3" in name:
            shapes[f"blocks.{block}.attn.qkv.bias_mask"] = (3 * width,)
    generator = torch.Generator().manual_seed(0)
    return {key: torch.empty(shape).uniform_(-0.05, 0.05, generator=generator) for key, shape in shapes.items()}


@pytest.mark.parametrize("name", TIMM)
def test_metas_layout_loads(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if name not in KINDS:
        shorten(name, monkeypatch)
    state = meta_layout(name)
    loaded = load_from(state, name, tmp_path / "meta.pth").vit.state_dict()
    if "reg" in name:  # CLS has its position added once and for all
        torch.testing.assert_close(loaded.pop("cls_token"), state["cls_token"] + state["pos_embed"][:, :1])
        assert torch.equal(loaded.pop("pos_embed"), state["pos_embed"][:, 1:])
        assert torch.equal(loaded.pop("reg_token"), state["register_tokens"])
    if "dinov3" in name:
        assert torch.equal(loaded.pop("reg_token"), state["storage_tokens"])
        for key in [key for key in loaded if key.endswith("qkv.bias")]:
            of_queries, _, of_values = state[key].chunk(3)
            assert torch.equal(loaded.pop(key), torch.cat([of_queries, torch.zeros_like(of_queries), of_values]))
    assert {key.rpartition(".")[2] for key in loaded} <= {
        "weight",
        "bias",
        "gamma",
        "cls_token",
        "pos_embed",
        "periods",
    }
    for key, value in loaded.items():
        assert torch.equal(value, state[key]), key


def transformers_layout(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Meta's tensors of DINOv3 under the names, and in the parts, of the repositories that Meta keeps on the hub."""
    written = {
        "embeddings.cls_token": state["cls_token"],
        "embeddings.mask_token": state["mask_token"][None],
        "embeddings.register_tokens": state["storage_tokens"],
        "embeddings.patch_embeddings.weight": state["patch_embed.proj.weight"],
        "embeddings.patch_embeddings.bias": state["patch_embed.proj.bias"],
        "norm.weight": state["norm.weight"],
        "norm.bias": state["norm.bias"],
    }
    for block in range(SPECS["dinov3_vits16"].depth):
        theirs, ours = f"layer.{block}.", f"blocks.{block}."
        for part, weight, bias in zip(
            "qkv", state[ours + "attn.qkv.weight"].chunk(3), state[ours + "attn.qkv.bias"].chunk(3), strict=True
        ):
            written[f"{theirs}attention.{part}_proj.weight"] = weight
            if part != "k":
                written[f"{theirs}attention.{part}_proj.bias"] = bias
        for kind in ("weight", "bias"):
            written[f"{theirs}attention.o_proj.{kind}"] = state[f"{ours}attn.proj.{kind}"]
            written[f"{theirs}mlp.up_proj.{kind}"] = state[f"{ours}mlp.fc1.{kind}"]
            written[f"{theirs}mlp.down_proj.{kind}"] = state[f"{ours}mlp.fc2.{kind}"]
            written[f"{theirs}norm1.{kind}"] = state[f"{ours}norm1.{kind}"]
            written[f"{theirs}norm2.{kind}"] = state[f"{ours}norm2.{kind}"]
        written[f"{theirs}layer_scale1.lambda1"] = state[f"{ours}ls1.gamma"]
        written[f"{theirs}layer_scale2.lambda1"] = state[f"{ours}ls2.gamma"]
    return written


def test_dinov3_as_transformers_keeps_it(tmp_path: Path) -> None:
    state = meta_layout("dinov3_vits16")
    del state["rope_embed.periods"]  # which transformers computes
    theirs = load_from(transformers_layout(state), "dinov3_vits16", tmp_path / "hub.safetensors")
    ours = load_from(state, "dinov3_vits16", tmp_path / "meta.safetensors")
    assert fingerprint(theirs) == fingerprint(ours)


@pytest.mark.parametrize(
    ("name", "damage", "complaint"),
    [
        ("dinov2_vits14", lambda state: state.pop("blocks.0.ls1.gamma"), "missing (blocks.0.ls1.gamma)"),
        ("dinov2_vits14_reg", lambda state: state.pop("register_tokens"), "missing (reg_token)"),
        ("dinov2_vits14", lambda state: state.update(register_tokens=torch.zeros(1, 4, 384)), "unexpected (reg_token)"),
        ("dinov2_vits14_reg", lambda state: state.update(pos_embed=torch.zeros(7)), "mis-shaped (pos_embed [7] for"),
        ("dinov2_vits14_reg", lambda state: state.update(cls_token="none"), "not a tensor (cls_token)"),
        ("dinov3_vits16", lambda state: state.pop("storage_tokens"), "missing (reg_token)"),
        (
            "dinov3_vits16",
            lambda state: (
                state.update({"blocks.1.attn.q_bias": torch.zeros(3, 3)}) or state.pop("blocks.1.attn.qkv.bias")
            ),
            "missing (blocks.1.attn.qkv.bias)",
        ),
    ],
)
def test_what_does_not_fit_is_named(name, damage, complaint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(name, monkeypatch)
    state = meta_layout(name)
    damage(state)
    torch.save(state, tmp_path / "meta.pth")
    with pytest.raises(WeightsError) as refused:
        load_backbone(name, path=tmp_path / "meta.pth")
    assert complaint in str(refused.value)


@torch.inference_mode()
def test_keys_of_dinov3_do_not_know_where_a_patch_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten("dinov3_vits16", monkeypatch, depth=1)
    features = randomise(build_vit("dinov3_vits16"))(torch.full((1, 3, 64, 96), 0.7))
    torch.testing.assert_close(features.keys, features.keys[:, :1].expand_as(features.keys))
    assert features.cls_attention.std(dim=2).min() > 0  # but attention does


@pytest.mark.parametrize("name", TIMM)
def test_no_found_head_is_released_for_them(name: str) -> None:
    with pytest.raises(WeightsError, match=f"train one with `objloc train found --backbone {name}`"):
        load_found_head(name)


@pytest.mark.parametrize("grid", [(37, 37), (30, 40), (7, 9), (1, 1), (74, 36), (135, 240)])
def test_antialiased_positions_of_an_open_size_are_those_of_a_known_one(grid: tuple[int, int]) -> None:
    table = torch.randn(1, 37 * 37, 8, generator=torch.Generator().manual_seed(0))
    found = open_pos_embed(table, grid, rule="antialias")
    torch.testing.assert_close(found, antialiased_pos_embed(table, grid), atol=5e-5, rtol=0)


@pytest.mark.parametrize(("name", "size"), [("dinov2_vits14_reg", (42, 140)), ("dinov3_vits16", None)])
def test_they_export(name: str, size: tuple[int, int] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(name, monkeypatch)
    model = randomise(build_vit(name))
    differences = export_backbone(model, tmp_path / "out.onnx", backbone=name, weights_sha256="0" * 64, size=size)
    assert max(max(difference.outputs.values()) for difference in differences) < 1e-5
    exported = load_exported(tmp_path / "out.onnx", "cpu", backbone=name)
    assert fingerprint(exported) == fingerprint(model)
    images = torch.randn(1, 3, *(size or (48, 160)))
    assert_near(exported(images).keys, model(images).keys)
