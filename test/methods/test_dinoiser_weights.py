from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from objloc_ros.backbones.clip import clip_spec
from objloc_ros.backbones.registry import REGISTRY
from objloc_ros.errors import ParameterError, WeightsError
from objloc_ros.methods.clip_dinoiser import DinoiserHead, load_dinoiser_head, save_dinoiser_head


def released(seed: int = 0, width: int = 768) -> dict[str, torch.Tensor]:
    """Keys and shapes of the released head, random numbers inside."""
    shapes = {
        "obj_proj.bias": (256,),
        "obj_proj.weight": (256, width, 3, 3),
        "bkg_decoder.bias": (1,),
        "bkg_decoder.weight": (1, width, 1, 1),
    }
    generator = torch.Generator().manual_seed(seed)
    return {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}


def saved(path: Path, state: object) -> Path:
    torch.save(state, path)
    return path


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"epoch": 99, "model_state_dict": s},
        lambda s: {"epoch": 99, "model_state_dict": {"clip_backbone.backbone.logit_scale": torch.ones(()), **s}},
        lambda s: {"vit_encoder.cls_token": torch.zeros(1, 1, 768), **s},
    ],
    ids=["flat", "released", "released with a frozen network", "flat with a frozen network"],
)
def test_released_layout_loads(wrap, tmp_path: Path) -> None:
    state = released()
    head = load_dinoiser_head("clip_vitb16", path=saved(tmp_path / "last.pt", wrap(state)))
    for key, value in head.state_dict().items():
        assert torch.equal(value, state[key]), key
    assert sum(p.numel() for p in head.parameters()) == 1_769_728 + 769
    assert not head.training
    assert not any(p.requires_grad for p in head.parameters())


def test_a_saved_head_loads_again(tmp_path: Path) -> None:
    width = clip_spec("tiny_clip").width
    head = DinoiserHead(width)
    save_dinoiser_head(tmp_path / "head.safetensors", head)
    again = load_dinoiser_head(path=tmp_path / "head.safetensors")
    assert (again.width, again.obj_proj.weight.dtype) == (width, torch.float32)
    for one, other in zip(head.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one.detach(), other, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda s: s.pop("obj_proj.bias"), r"1 missing \(obj_proj.bias\)"),
        (lambda s: s.clear(), r"4 missing"),
        (
            lambda s: s.update({"bkg_decoder.weight": torch.zeros(1, 512, 1, 1)}),
            r"1 mis-shaped \(bkg_decoder.weight \[1, 512, 1, 1\] for \[1, 768, 1, 1\]\)",
        ),
        (lambda s: s.update({"obj_proj.weight": torch.zeros(256, 768, 1, 1)}), r"obj_proj.weight \[256, 768, 1, 1\]"),
        (lambda s: s.update({"obj_proj.bias": 3}), r"1 not a tensor \(obj_proj.bias\)"),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_another_layout_is_refused_by_name(change, named: str, wrapped: bool, tmp_path: Path) -> None:
    state = released()
    change(state)
    path = saved(tmp_path / "last.pt", {"model_state_dict": state} if wrapped else state)
    with pytest.raises(WeightsError, match=rf"not a CLIP-DINOiser head for clip_vitb16: .*{named}"):
        load_dinoiser_head("clip_vitb16", path=path)


def test_heads_of_other_towers_and_other_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "small.safetensors"
    save_file(released(width=160), path)
    with pytest.raises(WeightsError, match="not a CLIP-DINOiser head for clip_vitb16: 2 mis-shaped"):
        load_dinoiser_head("clip_vitb16", path=path)
    with pytest.raises(WeightsError, match="it holds a Tensor where a dictionary"):
        load_dinoiser_head("clip_vitb16", path=saved(tmp_path / "t.pt", {"model_state_dict": torch.ones(1)}))
    with pytest.raises(ParameterError, match="unknown CLIP model 'resnet'"):
        load_dinoiser_head("resnet")
    with pytest.raises(WeightsError, match="no CLIP-DINOiser head is released for 'clip_vitb32'; train one"):
        load_dinoiser_head("clip_vitb32")
    monkeypatch.setenv("OBJLOC_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match="objloc weights fetch clip_vitb16_dinoiser_head"):
        load_dinoiser_head("clip_vitb16")


def test_the_registry_knows_the_heads() -> None:
    assert REGISTRY["clip_vitb16_dinoiser_head"].layout == REGISTRY["tiny_clip_dinoiser_head"].layout == "dinoiser_head"
    assert REGISTRY["tiny_clip_dinoiser_head"].embedded
