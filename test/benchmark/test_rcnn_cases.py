"""A method whose own network looks at the images is measured without a backbone's pass or roofline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rcnn_making import PYRAMID, save_checkpoint

from objloc_ros.benchmark.cases import Case, EngineOnly
from objloc_ros.benchmark.run import measure

SIZE = (24, 32)


def test_a_case_of_an_rcnn_has_its_head_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBJLOC_CACHE", str(tmp_path))
    monkeypatch.setattr("objloc_ros.methods.rcnn.SHORT_SIDE", 32)
    case = Case("cpu", "tiny", SIZE, "rcnn")
    nodes = {SIZE: EngineOnly([np.full((*SIZE, 3), 90, np.uint8)])}
    save_checkpoint(tmp_path / "cutler_cascade_final.pth", PYRAMID)
    measured = measure([case], nodes, rounds=1)
    assert measured.skipped == []
    (row,) = measured.rows
    assert row.rounds["head"][0] > 0
    assert row.rooflines == {}
    assert "vit" not in row.rounds
