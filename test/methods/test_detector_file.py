"""Files of token detectors: what is written is read again, and whatever else a file may be is refused by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from objloc_ros.backbones.store import record_hash
from objloc_ros.backbones.vit import ViT, build_vit
from objloc_ros.backbones.weights import fingerprint
from objloc_ros.errors import WeightsError
from objloc_ros.methods.detector_file import DetectorInfo, find_detector, load_detector, save_detector
from objloc_ros.methods.token_detector import TokenDetector

CLASSES = ("crate", "hand")


@pytest.fixture(scope="module")
def backbone() -> ViT:
    torch.manual_seed(0)
    return build_vit("tiny").eval()


@pytest.fixture
def info(backbone) -> DetectorInfo:
    return DetectorInfo(
        backbone="tiny", fingerprint=fingerprint(backbone), patch=8, classes=CLASSES, trained_on={"images": 3}
    )


def make_detector() -> TokenDetector:
    torch.manual_seed(3)
    detector = TokenDetector(12, CLASSES, width=8, embedding=2)
    detector.mean.normal_()
    return detector


@pytest.fixture
def file(info, tmp_path) -> Path:
    save_detector(tmp_path / "detector.safetensors", make_detector(), info)
    return tmp_path / "detector.safetensors"


def test_a_saved_detector_loads_again_in_half_precision(file, info):
    again, read = load_detector(file)
    assert read == info
    assert again.classes == CLASSES
    assert not again.training
    state = again.state_dict()
    for key, value in make_detector().state_dict().items():
        assert torch.equal(state[key], value.half().float()), key
        assert not state[key].requires_grad
    assert all(value.dtype == torch.float16 for value in load_file(file).values())
    x = torch.randn(1, 12, 3, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(again(x).objectness, make_detector()(x).objectness, rtol=1e-2, atol=1e-2)


def test_the_real_size_is_small_enough_to_ship(tmp_path, info):
    path = tmp_path / "real.safetensors"
    save_detector(path, TokenDetector(160), replace(info, classes=("object",)))
    assert path.stat().st_size < 1_200_000


def rewrite(file: Path, *, metadata: dict[str, str | None] | None = None, drop: str = "", **tensors) -> None:
    """Write a file again with other metadata (None for none at all) or tensors, or without one."""
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        written = opened.metadata()
    state = {key: value for key, value in load_file(file).items() if key != drop}
    changed = {key: value for key, value in {**written, **(metadata or {})}.items() if value is not None}
    save_file({**state, **{key.replace("__", "."): value for key, value in tensors.items()}}, file, metadata=changed)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"metadata": {"format": None}}, "is not a token detector: its metadata says format None"),
        ({"metadata": {"format": "objloc token detector 7"}}, "format 'objloc token detector 7'"),
        ({"metadata": {"backbone": None}}, "of which backbone it is"),
        ({"metadata": {"fingerprint": ""}}, "of which fingerprint it is"),
        ({"metadata": {"patch": "eight"}}, "'patch' = 'eight', expected JSON"),
        ({"metadata": {"patch": "-8"}}, "patch -8"),
        ({"metadata": {"classes": "[]"}}, r"classes \[\]"),
        ({"metadata": {"classes": '["crate", 4]'}}, "classes"),
        ({"metadata": {"classes": '["hand", "hand"]'}}, "different names"),
        ({"metadata": {"classes": '["hand"]'}}, "2 unexpected"),
        ({"metadata": {"classes": '["a", "b", "c"]'}}, r"mis-shaped \(categories.weight \[2, 8, 1, 1\] for \[3,"),
        ({"drop": "mean"}, "lacks mean"),
        ({"drop": "std"}, r"1 missing \(std\)"),
        ({"drop": "trunk.3.weight"}, r"1 missing \(trunk.3.weight\)"),
        ({"std": torch.zeros(12)}, "not positive: std"),
        ({"boxes__bias": torch.full((4,), torch.nan)}, "no numbers, or not positive: boxes.bias"),
        ({"std": torch.ones(13)}, r"std \[13\] for \[12\]"),
        ({"mean": torch.zeros(0)}, "lacks mean"),
        ({"trunk__0__weight": torch.zeros(9, 14, 1, 1)}, "multiple of 8"),
        ({"extra": torch.zeros(1)}, r"1 unexpected \(extra\)"),
    ],
)
def test_other_files_are_refused_by_name(file, change, named):
    rewrite(file, **change)
    with pytest.raises(WeightsError, match=named) as error:
        load_detector(file)
    assert str(file) in str(error.value)


def test_files_that_are_none_are_refused(tmp_path, file):
    with pytest.raises(WeightsError, match="no weights file"):
        load_detector(tmp_path / "absent.safetensors")
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(file.read_bytes()[:200])
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        load_detector(torn)
    torch.save({"weight": torch.zeros(1)}, tmp_path / "pickle.pt")
    with pytest.raises(WeightsError, match="cannot be read as weights"):
        load_detector(tmp_path / "pickle.pt")


def test_a_damaged_file_is_told_by_its_hash(file):
    record_hash(file)
    load_detector(file)
    rewrite(file, mean=torch.ones(12))
    with pytest.raises(WeightsError, match=r"expected .* damaged"):
        load_detector(file)


def test_the_backbone_it_was_trained_on_is_accepted_and_no_other(info, backbone):
    info.check_backbone("tiny", backbone)
    with pytest.raises(WeightsError, match=r"reads the tokens of tiny, not of dino_vits16: .*--backbone dino_vits16"):
        info.check_backbone("dino_vits16", build_vit("tiny"))
    torch.manual_seed(1)
    with pytest.raises(WeightsError, match=f"other weights of tiny: their fingerprint is {info.fingerprint[:12]}"):
        info.check_backbone("tiny", build_vit("tiny"))
    with pytest.raises(WeightsError, match="patches of 16 pixels, expected keys of patches of 8"):
        replace(info, patch=16).check_backbone("tiny", backbone)
    with pytest.raises(WeightsError, match="reads the values of"):
        replace(info, facet="values").check_backbone("tiny", backbone)


def test_a_backbone_without_a_detector_says_how_to_make_one():
    with pytest.raises(WeightsError, match="no detector for dino_vitb8; train one with `objloc train detector"):
        find_detector("dino_vitb8")


def test_a_given_file_comes_first(file):
    assert find_detector("tiny", file) == file
    with pytest.raises(WeightsError, match="no weights file"):
        find_detector("tiny", file.with_name("absent"))
