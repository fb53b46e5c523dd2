"""SelfMask and the vote from the command line: trained from labels, and then a method like any other."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import miniature as mini
import numpy as np
import pytest
import torch

from objloc_ros.cli.main import main
from objloc_ros.io.files import read_json
from objloc_ros.io.media import read_image
from objloc_ros.methods.selfmask import load_selfmask

SMALL = ("--steps", "2", "--batch", "2", "--size", "48", "--queries", "2", "--layers", "1", "--device", "cpu")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures of a bright square on noise."""
    folder = tmp_path_factory.mktemp("pictures") / "images"
    folder.mkdir()
    for number in range(3):
        picture = np.random.default_rng(number).integers(0, 90, (96, 128, 3), np.uint8)
        picture[24:64, 8 * number + 24 : 8 * number + 72] += 120
        cv2.imwrite(str(folder / f"{number}.png"), picture)
    return folder


def train(images: Path, out: Path, *more: str) -> int:
    return main(["train", "selfmask", "--teacher", "vote", "--images", str(images), "--out", str(out), *SMALL, *more])


@pytest.fixture(scope="module")
def weights(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("selfmask")
    assert train(images, out) == 0
    return out / "tiny_selfmask.safetensors"


def test_the_vote_teaches_and_the_file_says_how(
    weights: Path, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = read_json(weights.parent / "labels" / "vote" / "annotations" / "instances_default.json")
    assert document["info"]["method"] == "vote"
    assert all(0 < annotation["score"] <= 1 for annotation in document["annotations"])
    model = load_selfmask(path=weights)
    assert (model.spec.embed_dim, len(model.query_embed), len(model.decoder.layers)) == (160, 2, 1)
    assert train(images, weights.parent) == 0  # nothing is left to do
    again = load_selfmask(path=weights).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in model.state_dict().items())
    assert train(images, weights.parent, "--seed", "1") == 2
    assert "is of another run: seed 0, now 1. Give the same options" in capsys.readouterr().err


def test_it_detects_labels_and_is_evaluated(weights: Path, images: Path, tmp_path: Path) -> None:
    method = ("--method", "selfmask", "--weights", str(weights), "--device", "cpu")
    assert main(["detect", str(images / "0.png"), "--out", str(tmp_path / "detect"), "--compare", *method]) == 0
    info = read_json(tmp_path / "detect" / "detections.json")["info"]
    assert (info["method"], info["backbone"]) == ("selfmask", "tiny_selfmask")
    assert read_image(tmp_path / "detect" / "0_mask.png").shape == (96, 128, 3)
    assert main(["prelabel", str(images), "--out", str(tmp_path / "labels"), *method]) == 0
    root = mini.make_ecssd(tmp_path / "ecssd")
    assert main(["evaluate", "ecssd", "--root", str(root), "--out", str(tmp_path / "scores"), *method]) == 0
    result = json.loads((tmp_path / "scores" / "result.json").read_text())
    assert result["method"] == "selfmask"
    assert 0 <= result["metrics"]["iou"] <= 1
    assert result["metrics"]["maxf_selfmask"] > 0


def test_it_runs_over_bags(weights: Path, square: Path, tmp_path: Path) -> None:
    command = ["bag", str(square), "--out", str(tmp_path), "--topics", "/front/image", "--method", "selfmask"]
    assert main([*command, "--weights", str(weights), "--device", "cpu"]) == 0
    report = read_json(tmp_path / "square" / "lockstep.json")
    assert list(report["cameras"]["/front/image"]["methods"]) == ["selfmask"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--method", "selfmask"), "objloc weights fetch selfmask_nq20"),
        (("--method", "selfmask", "--network", "selfmask_nq10"), "objloc weights fetch selfmask_nq10"),
        (("--method", "selfmask", "--network", "tiny"), "is not a SelfMask with the encoder dino_vits8"),
        (("--method", "selfmask,found", "--weights", "X"), "weights would be those of selfmask's network and of the"),
        (("--method", "vote", "--candidates", "none"), "invalid choice: 'none'"),
    ],
)
def test_what_is_wrong_is_said(
    arguments: tuple[str, ...],
    message: str,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("OBJLOC_CACHE", str(tmp_path))
    try:
        status = main(["detect", str(images / "0.png"), "--out", str(tmp_path / "out"), "--device", "cpu", *arguments])
    except SystemExit as error:  # argparse's
        status = int(str(error.code))
    assert status == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--teacher", "nobody"), "teacher must be different ones of"),
        (("--labels", "X"), "X"),
        (("--teacher", "vote", "--size", "50"), "size must be a multiple of the patch size 8, got 50"),
        (("--teacher", "vote", "--rate", "0"), "rate must be above 0, got 0"),
        (("--teacher", "vote", "--steps", "0"), "steps must be at least 1, got 0"),
    ],
)
def test_trainings_that_cannot_be_are_refused(
    arguments: tuple[str, ...], message: str, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--images", str(images), "--out", str(tmp_path / "out"), "--device", "cpu")
    assert main(["train", "selfmask", *where, *arguments]) == 2
    assert message in capsys.readouterr().err


def test_several_processes_are_refused(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert train(images, tmp_path / "out") == 2
    assert "trains in one process: start it without torchrun" in capsys.readouterr().err
