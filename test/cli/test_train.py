"""`objloc train` end to end at toy size."""

from functools import partial

import cv2
import numpy as np
import pytest
import torch

from objloc_ros.backbones.vit import build_vit
from objloc_ros.backbones.weights import load_backbone, load_clip_image, load_found_head
from objloc_ros.cli import train
from objloc_ros.cli.main import main
from objloc_ros.training.found_head import save_head
from objloc_ros.training.tiny import TinyTraining, save_backbone
from objloc_ros.training.tiny_clip import ClipTraining
from objloc_ros.training.views import Schedule


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    save_backbone(folder / "vit.safetensors", build_vit("tiny"))
    save_head(folder / "head.safetensors", torch.randn(1, 160, 1, 1), torch.zeros(1))
    return folder


def test_train_tiny_writes_weights_that_load_and_resumes(tmp_path, monkeypatch, capsys):
    small = partial(Schedule, side=32, scenes=1, final_side=32, final_scenes=1)
    monkeypatch.setattr(train, "Schedule", small)
    monkeypatch.setattr(train, "TinyTraining", partial(TinyTraining, bank=(3, 5)))
    arguments = ["train", "tiny", "--out", str(tmp_path), "--workers", "0"]
    assert main([*arguments, "--steps", "2"]) == 0
    first = load_backbone("tiny", path=tmp_path / "tiny_vit.safetensors")
    assert main([*arguments, "--steps", "2"]) == 0  # nothing left to do: the same weights again
    again = load_backbone("tiny", path=tmp_path / "tiny_vit.safetensors")
    for one, other in zip(first.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(one, other)
    assert main([*arguments, "--steps", "1"]) == 2
    assert "beyond the wanted 1" in capsys.readouterr().err


def test_train_clip_writes_towers_that_load_and_goes_on_from_them(tmp_path, monkeypatch):
    small = partial(ClipTraining, crops=4, scenes=1, bank=(3, 1))
    monkeypatch.setattr(train, "ClipTraining", small)
    arguments = ["train", "clip", "--steps", "1", "--workers", "0"]
    assert main([*arguments, "--out", str(tmp_path / "a")]) == 0
    first = tmp_path / "a" / "tiny_clip.safetensors"
    assert main([*arguments, "--out", str(tmp_path / "b"), "--start", str(first), "--rate", "1e-9"]) == 0
    one, other = (load_clip_image(path=tmp_path / name / "tiny_clip.safetensors") for name in ("a", "b"))
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=2e-3, rtol=1e-2)


def test_train_found_on_a_folder_of_pictures(tmp_path, weights):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for i in range(3):
        noise = np.random.default_rng(i).integers(0, 256, (40, 60, 3), np.uint8)
        cv2.imwrite(str(pictures / f"{i}.png"), noise)
    arguments = ["--steps", "2", "--batch", "2", "--size", "64", "--workers", "0", "--device", "cpu"]
    folders = ["--weights", str(weights / "vit.safetensors"), "--images", str(pictures), "--out", str(tmp_path / "out")]
    assert main(["train", "found", *arguments, *folders]) == 0
    weight, bias = load_found_head("tiny", path=tmp_path / "out" / "tiny_found_head.safetensors")
    assert weight.shape == (1, 160, 1, 1)
    assert torch.isfinite(weight).all()
    assert torch.isfinite(bias).all()


@pytest.mark.parametrize("option", ["--steps", "--batch", "--size"])
def test_senseless_numbers_are_refused(option, tmp_path, capsys):
    assert main(["train", "found", option, "0", "--out", str(tmp_path)]) == 2
    assert f"{option.strip('-')} must be at least 1, got 0" in capsys.readouterr().err
