"""The command that will measure a GPU: its report, sections that break, what it carries along, and a run on the CPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from objloc_ros.backbones.clip import CLIP_SPECS, ClipSpec
from objloc_ros.benchmark.cases import Case, EngineOnly
from objloc_ros.benchmark.run import measure
from objloc_ros.scenes.video import drive_video

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
import gpu
import gpu_wheels
from gpu_correctness import Deadline, Settings, list_settings
from gpu_report import AIMS, Failure, LeftOut, Message, Outcome, Row, format_report, judge

ROOT = Path(__file__).resolve().parents[2]
CPU_RUN = {"command": "python bench/gpu.py", "date": "2026-12-01", "gpu": None}
SMOKE = Settings("cpu", smoke=True)


def speeds(*rows: Row) -> list[Outcome]:
    return [Outcome("speed", "Speed", "", [{"settings": "", "batch": 1, **row} for row in rows])]


def test_aims_are_judged_by_the_row_that_they_are_about() -> None:
    found = {"method": "found", "backbone": "random:dino_vits8"}
    rows = judge(
        speeds(
            found | {"frames/s": 900.0, "settings": "precision float16"},
            found | {"frames/s": 399.0},
            found | {"frames/s": 800.0, "batch": 8},
            {"method": "found", "backbone": "random:dino_vits16", "frames/s": 1000.0},
        )
    )
    assert [row["verdict"] for row in rows] == ["missed", "met", *["not measured"] * (len(AIMS) - 2)]
    assert [row["measured"] for row in rows] == [399.0, 1000.0, *[None] * (len(AIMS) - 2)]


@pytest.mark.parametrize(("age", "dropped", "verdicts"), [(49.0, 0, ("met", "met")), (50.0, 1, ("missed", "missed"))])
def test_cameras_are_judged_by_frames_and_ages(age: float, dropped: int, verdicts: tuple[str, str]) -> None:
    row = {"method": "found", "backbone": "random:dino_vits8", "cameras": 8, "dropped": dropped, "age p99 ms": age}
    assert tuple(row["verdict"] for row in judge([Outcome("cameras", "", "", [row])])[-2:]) == verdicts


def test_a_run_on_a_cpu_judges_nothing() -> None:
    outcome = speeds({"method": "found", "backbone": "random:dino_vits8", "frames/s": 900.0})
    text = format_report(CPU_RUN, outcome)
    assert "says nothing about any GPU" in text
    assert "met" not in text.replace("method", "")
    assert "| met |" in format_report(CPU_RUN | {"gpu": "one"}, outcome)


def test_a_report_says_what_broke_off_and_what_is_left_out() -> None:
    outcome = Outcome(
        "speed", "Speed", "Frames.", [{"a": 1.0}, {"b": None}], ["the rest"], ["a row"], "CUDA error", 2.0
    )
    text = format_report(CPU_RUN, [outcome])
    for expected in (
        "**Broke off:** CUDA error",
        "- **failed:** a row",
        "- left out: the rest",
        "| a | b |",
        "| 1 | – |",
        "| – | – |",
    ):
        assert expected in text


def test_precisions_are_tried_where_there_is_a_choice() -> None:
    assert list_settings("cpu", ("device",)) == [{}]
    both = [{}, {"precision": "float32"}, {"precision": "bfloat16"}]
    assert list_settings("cpu", ("device", "precision")) == both
    assert list_settings("cuda:1", ("device", "precision")) == [*both, {"precision": "float16"}]


def rows_then(ending: str) -> object:
    def run(settings: Settings, deadline: Deadline) -> Iterator[Message]:
        yield {"row": 1}
        yield LeftOut("half of it")
        yield Failure("the other half")
        tempfile.mkdtemp(prefix="left-over-")
        if ending == "raise":
            raise RuntimeError("CUDA error: device-side assert")
        if ending == "die":
            os._exit(9)
        if ending == "hang":
            time.sleep(600)

    return run


@pytest.mark.parametrize(
    ("ending", "error"),
    [
        ("well", None),
        ("raise", "RuntimeError: CUDA error: device-side assert"),
        ("die", "its process ended with status 9"),
        ("hang", "it did not end within 2 s"),
    ],
)
def test_a_section_that_breaks_keeps_its_rows(
    ending: str, error: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "GRACE_S", 1.0)
    monkeypatch.setitem(gpu.SECTIONS, "memory", gpu.Section("Memory", "", rows_then(ending)))
    outcome = gpu.run_apart("memory", SMOKE, 1.0 if ending == "hang" else 60.0, str(tmp_path))
    assert (outcome.rows, outcome.left_out, outcome.failures) == ([{"row": 1}], ["half of it"], ["the other half"])
    assert outcome.error == error
    assert [path.name.startswith("left-over-") for path in tmp_path.iterdir()] == [True]


def test_what_a_section_leaves_of_its_time_is_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, float] = {}
    folders: list[Path] = []

    def note(name: str, settings: Settings, seconds: float, scratch: str) -> Outcome:
        given[name] = seconds
        (Path(scratch) / "left over").touch()
        folders.append(Path(scratch))
        return Outcome(name, "", "")

    monkeypatch.setattr(gpu, "run_apart", note)
    monkeypatch.setattr(gpu, "SHARES", {"golden": 1.0, "speed": 3.0})
    list(gpu.run_sections(["golden", "speed"], SMOKE, 100.0))
    assert not any(folder.exists() for folder in folders)
    assert given == {"golden": pytest.approx(25, abs=5), "speed": pytest.approx(100, abs=5)}


def test_no_time_leaves_everything_out() -> None:
    for name, section in gpu.SECTIONS.items():
        messages = list(section.run(SMOKE, Deadline(0.0)))
        assert any(isinstance(message, LeftOut) for message in messages), name


def test_the_command_runs_on_a_cpu(tmp_path: Path) -> None:
    command = [sys.executable, "bench/gpu.py", "--device", "cpu", "--smoke", "--out", str(tmp_path / "out")]
    command += ["--sections", "agreement", "memory", "--seconds", "600"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=700)
    assert done.returncode == 0, done.stderr
    saved = json.loads((tmp_path / "out/gpu.json").read_text())
    agreement, memory = saved["sections"]
    assert {row["method"] for row in agreement["rows"]} == {"found", "tokencut", "detector", "maskclip"}
    own = [row for row in agreement["rows"] if row["settings"] == "" and row["frames"] == "one by one"]
    for row in own:  # CLIP may run in bfloat16 on a CPU that has units for it
        least = 0.9 if row["method"] == "maskclip" else 1
        assert row["least IoU"] >= least, row
        assert row["equal boxes"] == "2 of 2" or row["method"] == "maskclip", row
    assert [row["frames"] for row in memory["rows"]] == [40]
    assert saved["aims"] is None
    assert "says nothing about any GPU" in (tmp_path / "out/GPU.md").read_text()
    assert not (ROOT / "bench/gpu.json").exists()


def test_a_gpu_that_is_not_there_is_said(tmp_path: Path) -> None:
    command = [sys.executable, "bench/gpu.py", "--device", "cuda:77", "--out", str(tmp_path)]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert "device 'cuda:77' is not there" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def write_wheel(folder: Path, name: str) -> None:
    """A wheel of one empty module."""
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", "")
        wheel.writestr(
            f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: torch>99\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")


def test_only_what_is_lacking_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_wheels, "NEEDS", {"torch": "torch", "lacking_here": "lacking-here"})
    for name in ("torch", "lacking_here"):
        write_wheel(tmp_path, name)
    assert gpu_wheels.install(tmp_path, tmp_path / "site") == 0
    assert sorted(path.name for path in (tmp_path / "site").glob("*.py")) == ["lacking_here.py"]


def test_what_is_neither_there_nor_carried_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu_wheels, "NEEDS", {"torch": "torch", "lacking_here": "lacking-here"})
    assert gpu_wheels.install(tmp_path, tmp_path / "site") == 2
    assert f"lacks lacking-here, and {tmp_path} has no wheels of them" in capsys.readouterr().err


def test_towers_with_random_weights_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    toy = ClipSpec(
        patch=16, side=32, width=32, layers=3, heads=2, embed_dim=16, text_width=16, text_layers=1, text_heads=2
    )
    monkeypatch.setitem(CLIP_SPECS, "toy", toy)
    monkeypatch.setattr("objloc_ros.backbones.clip.CLIP_NAMES", (*CLIP_SPECS, "toy"))
    monkeypatch.setattr("objloc_ros.engine.loader.CLIP_NAMES", (*CLIP_SPECS, "toy"))
    size = (64, 96)
    nodes = {size: EngineOnly([image for image, _ in drive_video(seed=0, size=size, frames=1)])}
    cases = [Case("cpu", "tiny", size, method) for method in ("clip_diy", "clip_dinoiser")]
    measured = measure(cases, nodes, rounds=1, clip="random:toy")
    assert measured.skipped == []
    assert [row.case.method for row in measured.rows] == ["clip_diy", "clip_dinoiser"]
    assert all(row.rooflines["head"].flops > 0 for row in measured.rows)
