"""`objloc bag` cut short, done again, and done by others: nothing is lost, nothing is different."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")
import bag_making as making
from lockstep_making import TRUTH_OPTIONS, bag, report

from objloc_ros.bags.writer import read_bag


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


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "objloc_ros.cli.main", "bag", "--device", "cpu", *arguments]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A longer bag, for runs that are cut short."""
    path: Path = making.write(tmp_path_factory.mktemp("bags") / "film", making.square(300, truth=None), "sqlite3")
    return path


def test_a_killed_run_leaves_no_half_and_goes_on(film: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    child = subprocess.Popen(command(str(film), "--out", str(out)), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (out.is_dir() and any(path.name.startswith(".film.") for path in out.iterdir())):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.3)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert not (out / "film").exists()
    assert bag(film, out=out, more=()) == 0
    assert report(out, "film")["cameras"]["/front/image"]["frames"]["processed"] == 300
    assert len(list(read_bag(out / "film" / "outputs", ["/front/found/detections"]))) == 300


def test_a_full_disk_leaves_no_half(film: Path, tmp_path: Path) -> None:
    """The kernel refuses the write in its middle, as on a full disk."""
    code = (
        "import resource, signal, sys; from objloc_ros.cli.main import main\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        f"sys.exit(main(['bag', {str(film)!r}, '--out', {str(tmp_path / 'out')!r}, '--device', 'cpu']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 2, done.stderr
    assert "File too large" in done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir() if path.name != ".source.json"] == ["run.json"]


@pytest.mark.timeout(240)
def test_a_cluster_gives_the_same_bytes(square: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    other = making.write(tmp_path / "drive", making.drive(5))
    for engine in ("local", "ray"):
        assert bag(square, other, out=tmp_path / engine, more=(*TRUTH_OPTIONS, "--engine", engine)) == 0
    for name in ("square", "drive"):
        both = [(tmp_path / engine / name / "lockstep.json").read_bytes() for engine in ("local", "ray")]
        assert both[0] == both[1]
