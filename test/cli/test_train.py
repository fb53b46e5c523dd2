"""`objloc train` end to end at toy size."""

from functools import partial

import cv2
import numpy as np
import pytest
import torch

from objloc_ros.backbones.vit import build_vit
from objloc_ros.backbones.weights import load_backbone, load_clip_image, load_found_head
from objloc_ros.cli import train, train_found
from objloc_ros.cli.main import main
from objloc_ros.training import found_scenes
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


def test_train_found_learns_the_embedded_head_from_scenes(tmp_path, weights, monkeypatch):
    monkeypatch.setattr(train_found, "HEAD_BANK", (2, 3))
    monkeypatch.setattr(found_scenes, "SHORT_SIDES", (16, 24, 32))
    material = tmp_path / "material"
    for folder, name, channels in (("cutouts", "thing.png", 4), ("grounds", "ground.jpg", 3)):
        (material / folder / "source").mkdir(parents=True)
        cv2.imwrite(str(material / folder / "source" / name), np.full((40, 40, channels), 255, np.uint8))
    arguments = ["--scenes", "3", "--steps", "2", "--batch", "2", "--device", "cpu", "--material", str(material)]
    folders = ["--weights", str(weights / "vit.safetensors"), "--out", str(tmp_path / "out")]
    assert main(["train", "found", *arguments, *folders]) == 0
    weight, bias = load_found_head("tiny", path=tmp_path / "out" / "tiny_found_head.safetensors")
    assert weight.shape == (1, 160, 1, 1)
    assert torch.isfinite(weight).all()
    assert torch.isfinite(bias).all()


@pytest.mark.parametrize(
    ("arguments", "recipe"),
    [
        ([], "scenes"),
        (["--images", "pictures"], "paper"),
        (["--recipe", "paper"], "paper"),
        (["--backbone", "dino_vits8"], "paper"),
        (["--backbone", "dino_vits8", "--recipe", "scenes"], "scenes"),
    ],
)
def test_the_papers_recipe_is_for_all_but_the_embedded_backbone(arguments, recipe, tmp_path, monkeypatch):
    head = torch.randn(1, 4, 1, 1), torch.zeros(1)
    used = []
    monkeypatch.setattr(train_found, "load_backbone", lambda *args, **kwargs: None)
    monkeypatch.setattr(train_found, "_train_on_scenes", lambda *args: used.append("scenes") or head)
    monkeypatch.setattr(train_found, "_train_by_paper", lambda *args: used.append("paper") or head)
    assert main(["train", "found", "--out", str(tmp_path), *arguments]) == 0
    assert used == [recipe]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "scenes", "--images", "pictures"], "--images is for --recipe paper, got --recipe scenes"),
        (["--recipe", "scenes", "--size", "64"], "--size is for --recipe paper"),
        (["--recipe", "paper", "--scenes", "9"], "--scenes is for --recipe scenes, got --recipe paper"),
        (["--images", "pictures", "--material", "bank"], "give one of the two"),
        (["--scenes", "2"], "scenes must be at least 3, got 2"),
        (["--material", "nowhere"], "nowhere holds no"),
    ],
)
def test_options_of_the_other_recipe_are_refused(arguments, message, tmp_path, weights, capsys):
    common = ["--weights", str(weights / "vit.safetensors"), "--out", str(tmp_path), "--device", "cpu"]
    assert main(["train", "found", *common, *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--steps", "--batch", "--size"])
def test_senseless_numbers_are_refused(option, tmp_path, capsys):
    assert main(["train", "found", "--recipe", "paper", option, "0", "--out", str(tmp_path)]) == 2
    assert f"{option.strip('-')} must be at least 1, got 0" in capsys.readouterr().err
