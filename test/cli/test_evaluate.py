"""`objloc evaluate scenes` end to end at toy size."""

import json

import pytest
import torch

from objloc_ros.backbones.vit import build_vit
from objloc_ros.cli.main import main
from objloc_ros.evaluation.held_out_prompts import VARIANTS
from objloc_ros.scenes.attributes import AttributeBank
from objloc_ros.scenes.compose import Bank
from objloc_ros.training.found_head import save_head
from objloc_ros.training.tiny import save_backbone


@pytest.fixture(autouse=True)
def small_bank(monkeypatch):
    """Few pictures: drawing those for thousands of scenes would take most of the time."""
    bank = lambda seed, **numbers: Bank(seed, backgrounds=30, sprites=80)  # noqa: E731
    monkeypatch.setattr("objloc_ros.evaluation.held_out_scenes.Bank", bank)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Options that choose random weights, a small input and the CPU."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    vit, head = folder / "vit.safetensors", folder / "head.safetensors"
    save_backbone(vit, build_vit("tiny"))
    save_head(head, torch.randn(1, 160, 1, 1), torch.zeros(1))
    return ["--weights", str(vit), "--head-weights", str(head), "--short-side", "64", "--device", "cpu"]


def test_scenes_are_printed_as_a_table_or_json(model, capsys):
    arguments = ["evaluate", "scenes", "--scenes", "3", *model]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["tiny", "random ViT", "colour patches"]
    assert main([*arguments, "--json", "--no-baselines"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["scenes"] == 3
    assert set(report["scores"]) == {"tiny"}
    assert {"lost", "maskcut_ap50", "background", "found"} <= set(report["scores"]["tiny"])


def test_videos_are_printed_as_a_table_or_json(model, capsys, monkeypatch):
    monkeypatch.setattr("objloc_ros.evaluation.held_out_scenes.VIDEO_FRAMES", 3)
    head = model.index("--head-weights")  # FOUND's; here it would be the detector's
    arguments = ["evaluate", "scenes", "--video", "--scenes", "1", *model[:head], *model[head + 2 :]]
    assert main(arguments) == 0
    header, _, *rows = capsys.readouterr().out.splitlines()
    assert [cell.strip() for cell in header.split("|")[2:5]] == ["objects found", "boxes right", "flicker"]
    names = [row.split("|")[1].strip() for row in rows]
    assert names[:3] == ["lost, frame by frame", "lost, temporal", "tokencut, frame by frame"]
    assert main([*arguments, "--json"]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    assert list(scores) == names
    assert set(scores["maskcut, temporal"]) == {"recall", "precision", "flicker", "switches", "lag"}


def test_prompts_are_printed_as_tables_or_json(model, capsys, monkeypatch):
    monkeypatch.setattr("objloc_ros.cli.evaluate.make_bank", lambda seed: AttributeBank(seed, backgrounds=3, copies=1))
    rows = {name: VARIANTS[name] for name in ("CLIP-DIY", "MaskCLIP without FOUND")}
    monkeypatch.setattr("objloc_ros.cli.evaluate.VARIANTS", rows)
    arguments = ["evaluate", "scenes", "--prompts", "--scenes", "2", *model[:4], "--device", "cpu"]
    assert main(arguments) == 0
    lines = [line.split("|")[1].strip() for line in capsys.readouterr().out.splitlines() if line]
    assert lines == ["", "---", "pairs of the training", "pairs kept out of it", "", "---", *rows]
    assert main([*arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["scenes"] == 2
    assert set(report["maps"]) == set(rows)
    assert {"colour", "unseen_pair"} <= set(report["crops"])


@pytest.mark.parametrize("kind", [(), ("--video",), ("--prompts",)])
def test_no_scenes_are_refused(kind, capsys):
    assert main(["evaluate", "scenes", *kind, "--scenes", "0"]) == 2
    assert "scenes must be at least 1, got 0" in capsys.readouterr().err
