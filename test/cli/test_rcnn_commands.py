"""Method rcnn from the command line: a checkpoint's way to pictures, labels and records, and its refusals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")
from lockstep_making import bag, report
from rcnn_making import CLUSTERS, PYRAMID, save_checkpoint

from objloc_ros.cli.main import main
from objloc_ros.io.media import read_image, write_image

OPTIONS = ("--device", "cpu", "--short-side", "32", "--max-detections", "4")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("rcnn") / "mrcnn.pth", PYRAMID)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    path = tmp_path / "images" / "a.png"
    write_image(path, np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))
    return path


def test_detect_writes_pictures_and_records(
    checkpoint: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["detect", str(image), "--method", "rcnn", "--weights", str(checkpoint), "--out", str(out), *OPTIONS]
    assert main([*command, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert len(document["annotations"]) == 4
    assert (document["info"]["backbone"], document["info"]["short_side"]) == ("mrcnn", 32)
    assert document["info"]["options"]["max_detections"] == 4
    assert {path.name for path in out.iterdir()} == {
        "a_mask.png",
        "a_instances.png",
        "a_overlay.png",
        "detections.json",
    }
    assert read_image(out / "a_overlay.png").shape == (40, 60, 3)


def test_prelabels_have_the_names_of_clusters(image: Path, tmp_path: Path) -> None:
    file, out = save_checkpoint(tmp_path / "od.pth", CLUSTERS), tmp_path / "prelabels"
    command = ["prelabel", str(image.parent), "--out", str(out), "--method", "rcnn", "--weights", str(file), *OPTIONS]
    assert main(command) == 0
    (document,) = (json.loads(path.read_text()) for path in out.rglob("*.json") if "annotations" in path.read_text())
    assert [category["name"] for category in document["categories"]] == [f"cluster_{i}" for i in range(20)]
    assert len(document["annotations"]) > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--method", "rcnn"), "objloc weights fetch cutler_cascade --non-commercial"),
        (("--method", "rcnn", "--network", "cutler_mrcnn"), "the weights 'cutler_mrcnn' are not on this machine"),
        (("--method", "rcnn", "--network", "yolo"), "unknown weights 'yolo'"),
        (("--method", "rcnn,lost", "--weights", "X"), "weights would be those of rcnn's network and of the backbone"),
        (("--method", "lost", "--network", "cutler_mrcnn"), "network is for methods that look at images themselves"),
        (("--method", "rcnn", "--weights", "X"), "no weights file"),
        (("--method", "rcnn", "--nms-iou", "2"), "nms_iou must lie in [0, 1]"),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: tuple[str, ...],
    message: str,
    image: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("OBJLOC_CACHE", str(tmp_path))
    assert main(["detect", str(image), "--out", str(tmp_path / "out"), "--device", "cpu", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1


def test_a_bag_is_followed_without_a_backbone(square: Path, checkpoint: Path, tmp_path: Path) -> None:
    more = ("--method", "rcnn", "--weights", str(checkpoint), "--no-outputs", *OPTIONS)
    assert bag(square, out=tmp_path / "out", more=more) == 0
    about = report(tmp_path / "out", "square")["settings"]["methods"]["rcnn"]
    assert (about["backbone"], about["weights"]) == ("mrcnn", str(checkpoint))


def test_a_folder_is_evaluated(checkpoint: Path, image: Path, tmp_path: Path) -> None:
    truth = {
        "images": [{"id": 1, "file_name": image.name, "width": 60, "height": 40}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 20], "iscrowd": 0}],
        "categories": [{"id": 1, "name": "object"}],
    }
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    where = ("--root", str(image.parent), "--annotations", str(tmp_path / "truth.json"), "--out", str(tmp_path / "run"))
    assert main(["evaluate", "coco_json", *where, "--method", "rcnn", "--weights", str(checkpoint), *OPTIONS]) == 0
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["method"], result["backbone"]) == ("rcnn", "mrcnn")
    assert 0 <= result["metrics"]["ap50"] <= 1
