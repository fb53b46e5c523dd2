"""`objloc convert`, and the same metrics from its file as from the data set itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import miniature as mini
import numpy as np
import pytest

from objloc_ros.cli.main import main


def result(out: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((out / "result.json").read_text())
    return document


def make_stuff(root: Path) -> Path:
    made: Path = mini.make_stuff(root, np.kron(np.array([[0, 2], [255, 91]], np.uint8), np.ones((24, 32), np.uint8)))
    return made


def make_instances(root: Path) -> Path:
    """Objects large enough for CLIP-DIY's evaluation."""
    mini.make_coco(root)
    path = root / "annotations/instances_val2017.json"
    document = json.loads(path.read_text())
    document["annotations"].append(mini.annotation(901, 10, 62, (0, 0, 60, 44)))
    path.write_text(json.dumps(document))
    return root


@pytest.mark.parametrize(
    ("name", "make", "method"),
    [
        ("voc07", mini.make_voc, "lost"),
        ("coco20k", mini.make_coco20k, "found"),
        ("coco_val2017", mini.make_coco, "maskcut"),
        ("kitti", mini.make_kitti, "tokencut"),
        ("ecssd", mini.make_ecssd, "found"),
        ("voc_seg", lambda root: mini.make_voc(root, 2012), "clip_dinoiser"),
        ("voc_seg", lambda root: mini.make_voc(root, 2012), "clip_diy"),
        ("coco_object_stuff", make_stuff, "maskclip"),
        ("coco_object_instances", make_instances, "clip_diy"),
    ],
)
def test_metrics_from_the_file_are_those_of_the_data_set(
    tmp_path: Path, capsys: Any, name: str, make: Callable[[Path], Path], method: str
) -> None:
    root = make(tmp_path / "data")
    assert main(["convert", name, "--root", str(root), "--out", str(tmp_path / "all.json")]) == 0
    out = capsys.readouterr().out
    assert f"objloc evaluate coco_json --root {root} --annotations {tmp_path}/all.json" in out
    runs = {name: (), "coco_json": ("--annotations", str(tmp_path / "all.json"))}
    for which, options in runs.items():
        line = ["evaluate", which, "--root", str(root), "--method", method, "--out", str(tmp_path / which)]
        assert main([*line, *options]) == 0
    direct, through = result(tmp_path / name), result(tmp_path / "coco_json")
    assert direct["images"] > 0
    assert (direct["failed"], through["failed"]) == ([], [])
    assert through["metrics"] == direct["metrics"]
    assert through["protocol"].get("convention") == direct["protocol"].get("convention")
    assert through["class_names"] == direct["class_names"]
    assert (through["dataset"], through["split"]) == ("coco_json", "all")


def test_objects_of_coco_have_metrics_of_masks(tmp_path: Path, capsys: Any) -> None:
    root = mini.make_coco(tmp_path / "coco", scale=3)
    line = ["evaluate", "coco_val2017", "--root", str(root), "--method", "maskcut", "--out", str(tmp_path / "run")]
    assert main(line) == 0
    assert "COCO val2017 has 5000 images, there are 3 here" in capsys.readouterr().err
    metrics = result(tmp_path / "run")["metrics"]
    boxes = ["ap", "ap50", "ap75", "ar1", "ar10", "ar100"]
    assert list(metrics) == ["corloc", *boxes, "rank_ap50", "rank_ap", *(f"mask_{name}" for name in boxes)]
    assert metrics["corloc"] == 1
    assert metrics["mask_ap50"] > 0.3
    page = (tmp_path / "run/report.html").read_text()
    assert "AP50 of masks" in page


def test_clip_diys_numbers_are_by_its_convention(tmp_path: Path) -> None:
    root = mini.make_voc(tmp_path / "voc", 2012, 2)
    for method, given, convention in (
        ("clip_diy", (), {"convention": "clip_diy"}),
        ("clip_diy", ("--convention", "mmseg"), {"convention": "mmseg"}),
        ("maskclip", (), {"convention": "mmseg"}),
    ):
        out = tmp_path / f"{method}{len(given)}"
        assert main(["evaluate", "voc_seg", "--root", str(root), "--method", method, "--out", str(out), *given]) == 0
        assert result(out)["protocol"] == convention
    by_paper, by_mmseg = (result(tmp_path / f"clip_diy{n}")["metrics"] for n in (0, 2))
    present = [v for v in by_mmseg["per_class"] if v is not None]
    assert by_mmseg["miou"] == pytest.approx(sum(present) / len(present))
    assert by_paper["miou"] == pytest.approx(sum(by_paper["per_class"]) / 21), "absent classes count as 0"


def test_an_image_of_another_size_is_named_and_the_others_count(tmp_path: Path) -> None:
    root = mini.make_coco(tmp_path / "coco")
    mini.write(root / "val2017/000000000010.jpg", mini.picture(1, (50, 64)))
    line = ["evaluate", "coco_val2017", "--root", str(root), "--method", "lost", "--out", str(tmp_path / "run")]
    assert main(line) == 1
    got = result(tmp_path / "run")
    assert got["images"] == 2
    assert [one["key"] for one in got["failed"]] == ["000000000010.jpg"]
    assert "has 64x50 pixels, by" in got["failed"][0]["reason"]


def test_nothing_is_written_of_a_data_set_that_is_not_whole(tmp_path: Path, capsys: Any) -> None:
    root = mini.make_kitti(tmp_path / "kitti")
    out = tmp_path / "all.json"
    (root / "training/label_2/000001.txt").write_text("Car 0 0\n")
    assert main(["convert", "kitti", "--root", str(root), "--out", str(out)]) == 2
    assert "000001.txt, line 1: a label has 15 words" in capsys.readouterr().err
    (root / "training/image_2/000002.png").write_bytes(b"")
    assert main(["convert", "kitti", "--root", str(root), "--out", str(out)]) == 2
    (root / "training/image_2/000002.png").unlink()
    assert main(["convert", "kitti", "--root", str(root), "--out", str(out)]) == 2
    assert "kitti: 1 of 6 files are missing" in capsys.readouterr().err
    assert not out.exists()
    assert main(["convert", "kitti", "--root", str(root), "--out", str(out), "--limit", "1"]) == 0
    assert len(json.loads(out.read_text())["images"]) == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (("kitti", "--limit", "0"), "limit must be at least 1, got 0"),
        (("coco_json", "--annotations", "absent.json"), "cannot read"),
    ],
)
def test_bad_options(tmp_path: Path, capsys: Any, line: tuple[str, ...], message: str) -> None:
    root = str(mini.make_kitti(tmp_path))
    assert main(["convert", *line, "--root", root, "--out", str(tmp_path / "x.json")]) == 2
    assert message in capsys.readouterr().err
