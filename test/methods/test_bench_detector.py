"""The detector's study: every row and figure is there, and the aims are judged by the figures."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from detector_making import make_detector

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
import detector as bench

from objloc_ros.errors import WeightsError

ROWS = ["MaskCut", "LOST", "detector", "random tokens", "untrained detector", "detector from LOST"]


def study(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["detector.py", *map(str, arguments)])
    monkeypatch.setattr("torch.set_num_threads", lambda threads: None)
    bench.main()


def table(text: str, title: str) -> dict[str, list[float]]:
    """The numbers of a table by row."""
    lines = text[text.index(title) :].splitlines()[3:]
    rows = [line.strip("| ").split(" | ") for line in lines[: lines.index("")]]
    return {name: [float(cell) for cell in cells] for name, *cells in rows}


def test_the_report_holds_every_row_seed_and_aim(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = make_detector(tmp_path / "detector.safetensors")
    out = tmp_path / "study.md"
    study(monkeypatch, "--detectors", file, file, "--one-object", file, file, "--scenes", 2, "--out", out)
    text = out.read_text()
    assert text in capsys.readouterr().out
    boxes, seeds = table(text, "Mean of the seeds, boxes:"), table(text, "Each seed, boxes:")
    assert list(boxes) == list(table(text, "Masks:")) == ROWS
    assert list(seeds) == [f"{row}, {number}" for number in range(2) for row in ROWS]
    for row in ROWS:
        assert boxes[row][:4] == pytest.approx(
            [sum(pair) / 2 for pair in zip(seeds[f"{row}, 0"], seeds[f"{row}, 1"], strict=True)], abs=2e-3
        )
    assert boxes["MaskCut"][1] > 0.5 > boxes["detector"][1]
    assert boxes["detector"][5] > 0
    assert text.count("\n- ") == 6
    assert "AP50 of the detector / MaskCut's: 0.0" in text
    assert "not at least 0.95" in text


def test_files_must_be_as_many_and_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = make_detector(tmp_path / "detector.safetensors")
    with pytest.raises(SystemExit):
        study(monkeypatch, "--detectors", file, "--one-object", file, file)
    assert "must name at most as many files as --detectors, 1" in capsys.readouterr().err
    other = make_detector(tmp_path / "other.safetensors", of="0" * 64)
    with pytest.raises(WeightsError, match="other weights of tiny"):
        study(monkeypatch, "--detectors", other)
