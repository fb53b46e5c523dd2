"""`objloc bag` cut short, done again, and done by others: nothing is lost, nothing is different."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from waiting import wait_for

pytest.importorskip("rclpy")
import bag_making as making
from lockstep_making import TRUTH_OPTIONS, bag, report

from objloc_ros.bags.reader import read_bag


def test_what_is_done_is_not_done_again(square: Path, tmp_path: Path, capsys: Any) -> None:
    mine = making.write(tmp_path / "mine", making.square(2))
    assert bag(mine, out=tmp_path / "out") == 0
    before = making.fingerprint(tmp_path / "out" / "mine")
    assert bag(mine, square, out=tmp_path / "out") == 0
    assert making.fingerprint(tmp_path / "out" / "mine") == before
    assert bag(mine, out=tmp_path / "out", more=(*TRUTH_OPTIONS, "--threshold", "0.6")) == 2
    assert "holds a run with lockstep" in capsys.readouterr().err
    making.write(tmp_path / "new", making.square(5)).rename(tmp_path / "elsewhere")
    for file in mine.iterdir():
        file.unlink()
    mine.rmdir()
    making.write(mine, making.square(5))
    assert bag(mine, out=tmp_path / "out") == 2
    assert "holds results of" in capsys.readouterr().err


def test_a_bag_rewritten_at_equal_size_is_another(tmp_path: Path, capsys: Any) -> None:
    mine = making.write(tmp_path / "mine", making.square(2), "sqlite3")
    assert bag(mine, out=tmp_path / "out") == 0
    file = mine / "mine.db3"
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    assert bag(mine, out=tmp_path / "out") == 2
    assert "holds results of" in capsys.readouterr().err


def test_results_belong_to_the_truth_as_it_was(square: Path, tmp_path: Path, capsys: Any) -> None:
    image = {"id": 1, "stamp_ns": making.START, "topic": "/front/image"}
    objects = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9]}]
    document = {"images": [image], "annotations": objects, "categories": [{"id": 1, "name": "object"}]}
    truth = tmp_path / "truth.json"
    truth.write_text(json.dumps(document))
    more = ("--topics", "/front/image", "--ground-truth", str(truth))
    assert bag(square, out=tmp_path / "out", more=more) == 0
    assert bag(square, out=tmp_path / "out", more=more) == 0
    truth.write_text(json.dumps(document | {"annotations": []}))
    assert bag(square, out=tmp_path / "out", more=more) == 2
    assert "holds a run with ground_truth" in capsys.readouterr().err


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A longer bag, for runs that are cut short."""
    path: Path = making.write(tmp_path_factory.mktemp("bags") / "film", making.square(150, truth=None), "sqlite3")
    return path


def test_a_killed_run_leaves_no_half_and_goes_on(film: Path, tmp_path: Path, start_objloc: Any) -> None:
    out = tmp_path / "out"
    child = start_objloc("bag", film, "--device", "cpu", "--out", out)
    wait_for(lambda: list(out.glob(".film.*/**/outputs")), "the first outputs")
    child.send_signal(signal.SIGKILL)
    child.end()
    assert not (out / "film").exists()
    assert bag(film, out=out, more=()) == 0
    assert report(out, "film")["cameras"]["/front/image"]["frames"]["processed"] == 150
    assert len(list(read_bag(out / "film" / "outputs", ["/front/found/detections"]))) == 150


def test_a_full_disk_leaves_no_half(film: Path, tmp_path: Path, start_objloc: Any) -> None:
    words = ("bag", film, "--out", tmp_path / "out", "--device", "cpu")
    code, said = start_objloc(*words, most_bytes=20_000).end()
    assert code == 2, said
    assert "File too large" in said
    assert [path.name for path in (tmp_path / "out").iterdir() if path.name != ".source.json"] == ["run.json"]


def test_a_cluster_gives_the_same_bytes(square: Path, tmp_path: Path) -> None:
    other = making.write(tmp_path / "drive", making.drive(5))
    for engine in ("local", "ray"):
        assert bag(square, other, out=tmp_path / engine, more=(*TRUTH_OPTIONS, "--engine", engine)) == 0
    for name in ("square", "drive"):
        both = [(tmp_path / engine / name / "lockstep.json").read_bytes() for engine in ("local", "ray")]
        assert both[0] == both[1]
