"""The detector as a method of every command: classes, scores, and files that are refused without a trace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import miniature as mini
import pytest
from detector_making import make_detector

from objloc_ros.backbones.registry import find_entry
from objloc_ros.cli.main import main
from objloc_ros.evaluation.held_out_scenes import make_scenes
from objloc_ros.io.media import write_image

CLASSES = ("crate", "hand")
MODES = ("frame by frame", "temporal")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_detector(tmp_path_factory.mktemp("detectors") / "detector.safetensors", classes=CLASSES)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("images")
    for number, scene in enumerate(make_scenes(2, seed=21)):
        write_image(folder / f"{number}.png", scene.image)
    return folder


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def check_document(document: dict[str, Any], count: int) -> None:
    assert [category["name"] for category in document["categories"]] == list(CLASSES)
    assert len(document["images"]) == 2
    assert 0 < len(document["annotations"]) <= 2 * count
    assert {annotation["category_id"] for annotation in document["annotations"]} <= {1, 2}
    assert all(0.2 < annotation["score"] <= 1 for annotation in document["annotations"])


def test_detect(file: Path, images: Path, tmp_path: Path) -> None:
    options = ("--threshold", "0.2", "--max-detections", "5", "--head-weights", str(file), "--out", str(tmp_path))
    assert main(["detect", str(images), "--method", "detector", *options]) == 0
    document = read(tmp_path / "detections.json")
    check_document(document, 5)
    assert document["info"]["options"] == {"threshold": 0.2, "max_detections": 5, "post": "none"}
    assert (tmp_path / "0_instances.png").is_file()


def test_prelabel(file: Path, images: Path, tmp_path: Path) -> None:
    options = ("--threshold", "0.2", "--head-weights", str(file), "--out", str(tmp_path))
    assert main(["prelabel", str(images), "--method", "detector", *options]) == 0
    document = read(tmp_path / "annotations" / "instances_default.json")
    check_document(document, 30)
    assert document["info"]["head_weights"] == str(file)


def test_evaluate(file: Path, tmp_path: Path) -> None:
    root = str(mini.make_voc(tmp_path / "voc", count=3))
    options = ("--head-weights", str(file), "--out", str(tmp_path / "out"))
    assert main(["evaluate", "voc07", "--root", root, "--method", "detector", *options]) == 0
    result = read(tmp_path / "out" / "result.json")
    assert (result["method"], result["images"], result["failed"]) == ("detector", 3, [])
    assert {"ap", "ap50", "ar100", "corloc"} <= result["metrics"].keys()


def test_evaluate_videos(file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("objloc_ros.cli.evaluate.PATCH_METHODS", {"lost": None})
    assert main(["evaluate", "scenes", "--video", "--scenes", "1", "--head-weights", str(file), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["scores"]
    assert list(rows) == [f"{method}, {mode}" for method in ("lost", "detector") for mode in MODES]


def test_bag(file: Path, square: Path, tmp_path: Path) -> None:
    options = ("--method", "detector", "--head-weights", str(file), "--max-objects", "2", "--out", str(tmp_path))
    assert main(["bag", str(square), "--topics", "/front/image", *options]) == 0
    assert read(tmp_path / "square" / "lockstep.json")["settings"]["methods"].keys() == {"detector"}
    assert (tmp_path / "square" / "outputs").is_dir()


@pytest.mark.parametrize("command", ["detect", "prelabel"])
@pytest.mark.parametrize(
    ("kind", "named"),
    [
        ("other", "was trained on other weights of tiny: their fingerprint is 000000000000"),
        ("found", "is not a token detector: its metadata says format None"),
        ("torn", "cannot be read as weights"),
        ("absent", "no weights file"),
    ],
)
def test_what_is_no_detector_for_the_backbone_is_refused(
    command: str, kind: str, named: str, file: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if kind == "other":
        make_detector(tmp_path / kind, of="0" * 64)
    elif kind == "found":
        (tmp_path / kind).write_bytes(find_entry("tiny_found_head").path.read_bytes())
    elif kind == "torn":
        (tmp_path / kind).write_bytes(file.read_bytes()[:-100])
    options = ("--head-weights", str(tmp_path / kind), "--out", str(tmp_path / "out"))
    assert main([command, str(images), "--method", "detector", *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("objloc: error: ")
    assert named in error
    assert "Traceback" not in error


def test_one_file_is_not_two_heads(file: Path, images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detect", str(images), "--method", "detector,found", "--head-weights", str(file)]) == 2
    assert (
        "head_weights would be those of FOUND's head, which found read, and of the detector" in capsys.readouterr().err
    )
