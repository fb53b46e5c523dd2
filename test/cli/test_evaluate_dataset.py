"""`objloc evaluate NAME`: resumed, refused, the same numbers on a cluster that loses a node."""

from __future__ import annotations

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import miniature as mini
import pytest
from detector_making import make_detector
from waiting import wait_for

from objloc_ros.cli.main import main


def evaluate(name: str, root: Path, out: Path, *more: str) -> int:
    return main(["evaluate", name, "--root", str(root), "--out", str(out), *more])


def result(out: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((out / "result.json").read_text())
    return {name: value for name, value in document.items() if name not in ("seconds", "machine")}


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root: Path = mini.make_voc(tmp_path_factory.mktemp("voc"), count=45, scale=3)
    return root


def test_boxes(voc: Path, tmp_path: Path, capsys: Any) -> None:
    assert evaluate("voc07", voc, tmp_path, "--limit", "3", "--method", "lost", "--fail-under", "corloc=0.9") == 0
    assert ["corloc", "1.0000"] in map(str.split, capsys.readouterr().out.splitlines())
    got = result(tmp_path)
    assert (got["dataset"], got["method"], got["images"], got["failed"]) == ("voc07", "lost", 3, [])
    images = [json.loads(line) for line in (tmp_path / "images.jsonl").read_text().splitlines()]
    assert [one["key"] for one in images] == ["000045", "000044", "000043"]
    assert all(one["score"] > 0.5 for one in images)
    assert "<img" in (tmp_path / "report.html").read_text()
    assert evaluate("voc07", voc, tmp_path, "--limit", "3", "--method", "lost", "--fail-under", "ap=0.99") == 4


def test_saliency_and_class_maps(tmp_path: Path) -> None:
    assert evaluate("ecssd", mini.make_ecssd(tmp_path / "ecssd", scale=3), tmp_path / "a", "--post", "bilateral") == 0
    assert result(tmp_path / "a")["metrics"]["iou"] > 0.7
    assert "Precision, recall and F" in (tmp_path / "a/report.html").read_text()
    root = mini.make_voc(tmp_path / "voc", 2012, 2)
    assert evaluate("voc_seg", root, tmp_path / "b", "--method", "maskclip") == 0
    got = result(tmp_path / "b")
    assert 0 < got["metrics"]["miou"] < 1
    assert len(got["metrics"]["per_class"]) == len(got["class_names"]) == 21


def test_an_image_that_cannot_be_read_is_named_and_the_others_count(tmp_path: Path) -> None:
    root = mini.make_ecssd(tmp_path / "ecssd")
    (root / "images/0002.jpg").write_bytes(b"")
    assert evaluate("ecssd", root, tmp_path / "out") == 1
    got = result(tmp_path / "out")
    assert got["images"] == 4
    assert [one["key"] for one in got["failed"]] == ["0002"]
    assert "not a whole image" in got["failed"][0]["reason"]


def test_a_killed_run_goes_on_and_counts_nothing_twice(voc: Path, tmp_path: Path, start_objloc: Any) -> None:
    blocks = tmp_path / "killed" / "blocks"
    words = ("evaluate", "voc07", "--root", voc, "--method", "tokencut", "--out", tmp_path / "killed")
    child = start_objloc(*words)
    wait_for(lambda: list(blocks.glob("0*.jsonl")), "the first block")
    child.send_signal(signal.SIGKILL)
    child.end()
    before = {path.name: path.stat().st_mtime_ns for path in blocks.iterdir() if path.is_file()}
    assert evaluate("voc07", voc, tmp_path / "killed", "--method", "tokencut") == 0
    assert {name: (blocks / name).stat().st_mtime_ns for name in before} == before, "what was done stays"
    assert evaluate("voc07", voc, tmp_path / "whole", "--method", "tokencut") == 0
    assert result(tmp_path / "killed") == result(tmp_path / "whole")
    assert result(tmp_path / "whole")["images"] == 45


def test_a_cluster_that_loses_a_node_gives_the_same_numbers(cluster: Any, voc: Path, tmp_path: Path) -> None:
    doomed = cluster.list_all_nodes()[-1]

    def lose_a_node() -> None:
        wait_for(lambda: list((tmp_path / "ray" / "blocks").glob("*")), "the first block, begun or done")
        cluster.remove_node(doomed, allow_graceful=False)

    with ThreadPoolExecutor(1) as threads:
        losing = threads.submit(lose_a_node)
        assert evaluate("voc07", voc, tmp_path / "ray", "--engine", "ray", "--address", cluster.address) == 0
        losing.result()
    assert evaluate("voc07", voc, tmp_path / "here") == 0
    for name in ("images.jsonl", "blocks/00000000.jsonl", "blocks/00000040.jsonl"):
        assert (tmp_path / "ray" / name).read_bytes() == (tmp_path / "here" / name).read_bytes()
    assert result(tmp_path / "ray") == result(tmp_path / "here")


def test_the_folder_of_another_run_is_refused(voc: Path, tmp_path: Path, capsys: Any) -> None:
    assert evaluate("voc07", voc, tmp_path, "--limit", "1", "--method", "lost") == 0
    assert evaluate("voc07", voc, tmp_path, "--limit", "1", "--method", "lost", "--k-patches", "50") == 2
    assert "holds a run with options" in capsys.readouterr().err
    assert evaluate("voc07", voc, tmp_path, "--limit", "2", "--method", "lost") == 2
    assert "limit 1, this one has 2" in capsys.readouterr().err


def test_a_run_that_is_repeated_keeps_its_duration(voc: Path, tmp_path: Path) -> None:
    assert evaluate("voc07", voc, tmp_path, "--limit", "1", "--method", "lost") == 0
    document = json.loads((tmp_path / "result.json").read_text())
    (tmp_path / "result.json").write_text(json.dumps({**document, "seconds": 1234.5}))
    assert evaluate("voc07", voc, tmp_path, "--limit", "1", "--method", "lost") == 0
    assert json.loads((tmp_path / "result.json").read_text()) == {**document, "seconds": 1234.5}


def test_another_document_of_truth_is_another_run(tmp_path: Path, capsys: Any) -> None:
    root = mini.make_voc(tmp_path / "voc", count=1)
    document, out = tmp_path / "truth.json", tmp_path / "out"
    (image,) = root.rglob("*.jpg")
    truth = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9]}
    images = [{"id": 1, "file_name": image.name}]
    document.write_text(json.dumps({"images": images, "annotations": [truth]}))
    more = ("--annotations", str(document), "--method", "lost")
    assert evaluate("coco_json", image.parent, out, *more) == 0
    assert evaluate("coco_json", image.parent, out, *more) == 0
    document.write_text(json.dumps({"images": images, "annotations": [{**truth, "bbox": [0, 0, 10, 10]}]}))
    assert evaluate("coco_json", image.parent, out, *more) == 2
    assert "holds a run with annotations as of" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["", "{", '{"key": "x"}\n'])
def test_a_damaged_block_is_named(voc: Path, tmp_path: Path, capsys: Any, damage: str) -> None:
    assert evaluate("voc07", voc, tmp_path, "--limit", "2") == 0
    (tmp_path / "blocks/00000000.jsonl").write_text(damage)
    assert evaluate("voc07", voc, tmp_path, "--limit", "2") == 2
    assert "remove it, and the same command makes it anew" in capsys.readouterr().err


def test_a_data_set_that_is_not_whole_is_refused_before_the_run(tmp_path: Path, capsys: Any) -> None:
    root = mini.make_ecssd(tmp_path / "ecssd")
    os.remove(root / "ground_truth_mask/0001.png")
    assert evaluate("ecssd", root, tmp_path / "out") == 2
    assert "1 of 10 files are missing" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--method", "clip_diy"), "voc07 needs found or a discovery method, got 'clip_diy'"),
        (("--prompts", "cat"), "--prompts cannot be given"),
        (("--limit", "0"), "limit must be at least 1, got 0"),
        (("--threads", "0"), "threads must be at least 1, got 0"),
        (("--workers", "2"), "are for --engine ray"),
        (("--engine", "ray", "--workers", "0"), "at least 1 Ray task, got 0"),
        (("--fail-under", "corloc"), "must be of the form metric=number"),
    ],
)
def test_bad_options(voc: Path, tmp_path: Path, capsys: Any, options: tuple[str, ...], message: str) -> None:
    assert evaluate("voc07", voc, tmp_path, *options) == 2
    assert message in capsys.readouterr().err


def test_a_detector_is_judged_as_a_discovery_method_is(tmp_path: Path, capsys: Any) -> None:
    """CorLoc of its best box, AP and AR of boxes and masks, from its own run and from the files of others alike."""
    root = mini.make_coco(tmp_path / "coco")
    detector = make_detector(tmp_path / "detector.safetensors")
    options = ("--method", "detector", "--head-weights", str(detector), "--threshold", "0.01")
    assert evaluate("coco_val2017", root, tmp_path / "out", *options) == 0
    got = result(tmp_path / "out")
    figures = ("ap", "ap50", "ap75", "ar1", "ar10", "ar100")
    expected = {"corloc", "rank_ap", "rank_ap50", *figures, *(f"mask_{name}" for name in figures)}
    assert got["metrics"].keys() == expected
    assert (got["method"], got["backbone"], got["images"]) == ("detector", "tiny", 3)
    assert got["precision"] in ("float32", "bfloat16")
    capsys.readouterr()
    detected = ["detect", str(root / "val2017"), "--out", str(tmp_path / "found"), *options]
    assert main(detected) == 0
    files = ["--predictions", str(tmp_path / "found" / "detections.json")]
    files += ["--ground-truth", str(root / "annotations/instances_val2017.json")]
    for what, names in (("corloc", ("corloc",)), ("coco", figures)):
        capsys.readouterr()
        assert main(["evaluate", what, *files, "--json"]) == 0
        measured = json.loads(capsys.readouterr().out)
        for name in names:
            assert measured[name] == pytest.approx(got["metrics"][name], abs=1e-6)
