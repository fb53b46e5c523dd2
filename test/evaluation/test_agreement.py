"""Agreement of precisions: the figures by hand, and the command end to end."""

import json

import numpy as np
import pytest

from objloc_ros.cli.main import main
from objloc_ros.engine.results import HeadResult
from objloc_ros.evaluation.agreement import Agreement
from objloc_ros.ops.geometry import plan
from objloc_ros.scenes.compose import Bank
from objloc_ros.types import Detections


def make_result(*boxes):
    """A result whose mask fills its boxes."""
    mask = np.zeros((20, 20), bool)
    for x1, y1, x2, y2 in boxes:
        mask[y1:y2, x1:x2] = True
    rows = np.array(boxes, np.float32).reshape(-1, 4)
    return HeadResult(
        Detections.class_free(rows, np.ones(len(rows), np.float32)), plan((20, 20), patch=1, short_side=None), mask
    )


def test_figures_by_hand():
    agreement = Agreement()
    truth = np.array([[0, 0, 10, 10]])
    agreement.update(truth, make_result((0, 0, 10, 10)), make_result((0, 0, 10, 10)))
    agreement.update(truth, make_result((0, 0, 10, 10)), make_result((0, 0, 10, 4)))
    agreement.update(truth, make_result(), make_result())
    assert agreement.compute() == pytest.approx(
        {
            "mask_iou": (1 + 0.4 + 1) / 3,
            "worst_mask_iou": 0.4,
            "pixels": (1 + 340 / 400 + 1) / 3,
            "boxes": 2 / 3,
            "corloc_float32": 2 / 3,
            "corloc": 1 / 3,
        }
    )


def test_the_command(capsys, monkeypatch):
    bank = lambda seed, **numbers: Bank(seed, backgrounds=5, sprites=10)  # noqa: E731
    monkeypatch.setattr("objloc_ros.evaluation.held_out_scenes.Bank", bank)
    arguments = ["evaluate", "agreement", "--method", "found,lost", "--scenes", "2", "--device", "cpu"]
    arguments += ["--precision", "bfloat16", "--short-side", "96", "--seed", "5"]
    assert main([*arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["precision"] == "bfloat16"
    assert list(report["agreement"]) == ["found", "lost"]
    assert 0.8 < report["agreement"]["found"]["mask_iou"] <= 1
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:4]] == ["found", "lost"]
    assert "ms in bfloat16" in lines[-1]
    assert main([*arguments, "--precision", "float32"]) == 2
    assert "precision float32 is float32 on cpu, which needs no comparison with itself" in capsys.readouterr().err
