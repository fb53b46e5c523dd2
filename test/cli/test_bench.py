"""`objloc bench` end to end at toy size; nothing is asserted about how long anything takes."""

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import cv2
import pytest
import torch
from waiting import PATIENCE_S

from objloc_ros.benchmark.results import read_run
from objloc_ros.benchmark.run import ROUND_FRAMES, Measurements
from objloc_ros.cli import bench
from objloc_ros.cli.main import main
from objloc_ros.errors import ObjlocError

SMALL = ["bench", "--smoke", "--methods", "found", "--batches", "1", "--cameras", "1", "--threads", "1"]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """Folder of a smoke run of all methods, one of them skipped."""
    out = tmp_path_factory.mktemp("bench")
    methods = "found,maskcut,clip_diy,maskclip,clip_dinoiser"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("objloc_ros.benchmark.ros.ARRIVAL_LIMIT_S", PATIENCE_S)
        assert main(["bench", "--smoke", "--methods", methods, "--threads", "1", "--out", str(out)]) == 0
    return out


@pytest.fixture
def stored(smoke, monkeypatch):
    """Whatever is to be measured, it is one row of the smoke run, with rounds of which all took equally long."""
    row = read_run(smoke / "bench.json").rows[0]
    row = replace(row, rounds={stage: [5.0 if stage == "frame" else 0.5] * 3 for stage in row.rounds})
    measured = Measurements([row], [], SimpleNamespace(to_json=list))
    monkeypatch.setattr(bench, "measure", lambda cells, ends, **options: measured)


def document(folder):
    return json.loads((folder / "bench.json").read_text())


def test_smoke_run_measures_the_matrix(smoke):
    done = document(smoke)
    assert done["machine"]["threads"] == 1
    assert done["date"].endswith("+00:00")
    assert done["command"].startswith("objloc bench --methods found,maskcut,")
    assert " --precision auto " in done["command"]
    assert all(row["precision"] for row in done["rows"])
    cases = [(row["method"], row["batch"], row["cameras"]) for row in done["rows"]]
    assert cases[:3] == [("found", 1, 1), ("found", 1, 2), ("found", 2, 1)]
    assert len(cases) == 15
    assert {(one["cell"]["batch"], one["cell"]["cameras"]) for one in done["skipped"]} == {(2, 2)}
    assert {rate["dtype"] for rate in done["rates"] if "dtype" in rate} == {"float32", "bfloat16"}


def test_rows_hold_every_stage_and_round(smoke):
    done = document(smoke)
    published = not any(text.startswith("publish") for text in done["left_out"])
    for row in done["rows"]:
        wanted = {"decode", "head", "post", "message", "frame"}
        wanted |= {"upload", "pre", "vit"} if row["method"] != "clip_dinoiser" else set()
        wanted |= {"publish"} if published and row["cameras"] == 1 else set()
        assert set(row["stages"]) == wanted
        assert all(len(stage["rounds_ms"]) == 3 for stage in row["stages"].values())
        assert all(ms >= 0 for stage in row["stages"].values() for ms in stage["rounds_ms"])
        if row["cameras"] == 1:  # the stages are the frame, but for what lies between them
            stages = {name: stage["rounds_ms"] for name, stage in row["stages"].items() if name != "frame"}
            whole = row["stages"]["frame"]["rounds_ms"]
            assert all(sum(parts) <= ms for parts, ms in zip(zip(*stages.values(), strict=True), whole, strict=True))


def test_rooflines_are_counted_per_stage(smoke):
    rooflines = {(row["method"], row["batch"], row["cameras"]): row["floors"] for row in document(smoke)["rows"]}
    found, cameras = rooflines["found", 1, 1]["vit"], rooflines["found", 1, 2]["vit"]
    assert found["flops"] == pytest.approx(0.15e9, rel=0.01)
    assert found["ratio"] > 0
    assert cameras["ratio"] is None
    assert rooflines["found", 2, 1]["vit"]["bytes"] < found["bytes"]
    assert set(rooflines["found", 1, 1]) == {"vit"}
    assert set(rooflines["maskcut", 1, 1]) == set(rooflines["clip_diy", 1, 1]) == {"vit", "head"}
    assert set(rooflines["clip_dinoiser", 1, 1]) == {"head"}  # its trained head needs no backbone


def test_picture_and_markdown_are_there(smoke):
    picture = cv2.imread(str(smoke / "bench.png"))
    assert picture is not None
    assert picture.shape[1] == 1280
    assert 300 < picture.shape[0] < 2000
    assert (smoke / "bench.md").read_text().count("\n| found | tiny | 96x64 |") == 3


def test_table_json_and_markdown_on_stdout(stored, tmp_path, capsys):
    assert main([*SMALL, "--out", str(tmp_path)]) == 0
    table = capsys.readouterr().out
    assert max(map(len, table.splitlines())) <= 120
    assert "tiny, 96x64, cpu" in table.splitlines()
    assert main([*SMALL, "--out", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == document(tmp_path)
    assert main([*SMALL, "--out", str(tmp_path), "--markdown"]) == 0
    assert capsys.readouterr().out == (tmp_path / "bench.md").read_text()


def test_random_weights_stand_in_for_missing_ones(tmp_path, monkeypatch):
    monkeypatch.setenv("OBJLOC_CACHE", str(tmp_path / "none"))
    arguments = [
        *SMALL,
        "--backbones",
        "dino_vits16,random:dino_vits16",
        "--methods",
        "found,lost",
        "--out",
        str(tmp_path),
    ]
    assert main(arguments) == 0
    done = document(tmp_path)
    assert [(row["backbone"], row["method"]) for row in done["rows"]] == [
        ("random:dino_vits16", "found"),
        ("random:dino_vits16", "lost"),
    ]
    assert {one["cell"]["backbone"] for one in done["skipped"]} == {"dino_vits16"}
    assert all("objloc weights fetch" in one["reason"] for one in done["skipped"])


def planted(folder, name, factor, **machine):
    """A copy of a run whose rounds took this many times as long."""
    saved = document(folder)
    for row in saved["rows"]:
        for stage in row["stages"].values():
            stage["rounds_ms"] = [factor * ms for ms in stage["rounds_ms"]]
    saved["machine"] |= machine
    path = folder / name
    path.write_text(json.dumps(saved))
    return str(path)


def test_a_planted_regression_gives_status_3(stored, tmp_path, capsys):
    assert main([*SMALL, "--out", str(tmp_path)]) == 0
    fast, slow = planted(tmp_path, "fast.json", 0.9), planted(tmp_path, "slow.json", 1.1)
    capsys.readouterr()
    assert main([*SMALL, "--out", str(tmp_path / "new"), "--compare", fast]) == 3
    assert "slower: found, tiny, 96x64, batch 1, 1 camera, cpu" in capsys.readouterr().out
    assert len(document(tmp_path / "new")["comparison"]["slower"]) == 1
    assert main([*SMALL, "--out", str(tmp_path / "new"), "--compare", slow]) == 0
    assert "0 of 1 slower" in capsys.readouterr().out
    assert main([*SMALL, "--out", str(tmp_path), "--compare", planted(tmp_path, "same.json", 1.0)]) == 0
    assert main([*SMALL, "--out", str(tmp_path), "--compare", fast, "--margin-floor", "0.2"]) == 0


def test_another_machine_is_refused_before_anything_runs(tmp_path, capsys, smoke, stored):
    other = planted(smoke, "other.json", 1.0, cpu="abacus")
    assert main([*SMALL, "--out", str(tmp_path), "--compare", other]) == 2
    assert "cpu was 'abacus' and is " in capsys.readouterr().err
    assert not (tmp_path / "bench.json").exists()
    assert main([*SMALL, "--out", str(tmp_path), "--compare", other, "--any-machine", "--margin-floor", "1e9"]) == 0
    out = capsys.readouterr().out
    assert "other machine: cpu was 'abacus'" in out
    assert "only in the saved run: maskcut, tiny, 96x64, batch 1, 1 camera, cpu" in out


def test_where_ros_does_not_start_publishing_is_left_out(tmp_path, monkeypatch):
    def refuse():
        raise ObjlocError("ROS does not start: no middleware")

    monkeypatch.setattr("objloc_ros.benchmark.ros.Loopback", refuse)
    assert main([*SMALL, "--out", str(tmp_path)]) == 0
    done = document(tmp_path)
    assert done["left_out"] == ["publish: ROS does not start: no middleware"]
    assert "message" in done["rows"][0]["stages"]
    assert "publish" not in done["rows"][0]["stages"]


def test_without_ros_the_engine_is_measured(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "objloc_ros.benchmark.ros", None)
    assert main([*SMALL, "--cameras", "2", "--out", str(tmp_path)]) == 0
    done = document(tmp_path)
    assert [text.partition(":")[0] for text in done["left_out"]] == ["decode, message and publish"]
    assert set(done["rows"][0]["stages"]) == {"frame", "upload", "pre", "vit", "head", "post"}


def test_without_matplotlib_there_is_no_picture(stored, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main([*SMALL, "--out", str(tmp_path)]) == 0
    assert "objloc: no bench.png: " in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bench.json", "bench.md"]


def test_threads_are_given_back(stored, tmp_path):
    before = torch.get_num_threads(), cv2.getNumThreads()
    assert main([*SMALL, "--threads", "2", "--out", str(tmp_path)]) == 0
    assert document(tmp_path)["machine"]["threads"] == 2
    assert (torch.get_num_threads(), cv2.getNumThreads()) == before


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--methods", "found,magic"], "unknown method 'magic'; known: found, lost"),
        (["--methods", "found,found"], "methods must be different"),
        (["--backbones", "random:magic"], "unknown backbone 'random:magic'; known: dino_vits16"),
        (["--sizes", "640"], "sizes must look like 640x480"),
        (["--sizes", "9999x480"], "with sides from 1 to 4096, got '9999x480'"),
        (["--batches", "0"], "batches must be numbers from 1 to 4096, got '0'"),
        (["--cameras", "two"], "cameras must be numbers from 1 to 4096, got 'two'"),
        (["--rounds", "2,3"], "rounds must be one number"),
        (["--devices", "tpu"], "got 'tpu'; this machine has cpu"),
        (["--devices", "cuda:99"], "'cuda:99' is not there"),
        (["--threads", "0"], "threads must lie in 1..4096, got 0"),
        (["--margin-floor", "-1"], "the margin must be at least 0, got -1.0"),
        (["--clip", "magic", "--methods", "maskclip"], "unknown CLIP model 'magic'"),
        (["--batches", "2", "--cameras", "2"], "there is nothing to measure"),
        (["--compare", "nowhere.json"], "nowhere.json cannot be read"),
    ],
)
def test_bad_usage_is_one_line(arguments, complaint, tmp_path, capsys):
    assert main(["bench", "--smoke", "--out", str(tmp_path), *arguments]) == 2
    error = capsys.readouterr().err
    assert complaint in error.replace("\r", "\n").splitlines()[-1]


def test_output_that_cannot_be_written_is_said(stored, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main([*SMALL, "--out", str(tmp_path / "file")]) == 2
    assert "cannot write to" in capsys.readouterr().err


def test_smoke_only_changes_what_was_not_given():
    axes = bench.FULL.keys()
    assert bench.SMOKE.keys() == axes == bench.HELP.keys()
    assert ROUND_FRAMES > 1  # so that cameras meet in a batch
