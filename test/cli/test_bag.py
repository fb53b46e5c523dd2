"""`objloc bag`: reports, limits, truth and prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")
import bag_making as making
from lockstep_making import PERFECT, TRUTH_OPTIONS, bag, report


def test_a_bag_with_truth(square: Path, tmp_path: Path, capsys: Any) -> None:
    before = making.fingerprint(square)
    assert bag(square, out=tmp_path, more=(*TRUTH_OPTIONS, *PERFECT, "--method", "found,maskcut", "--overlay")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "lockstep"
    assert lines[1].split()[:6] == ["bag", "camera", "method", "frames", "corloc", "ap50"]
    assert lines[2].split()[:5] == ["square", "/front/image", "found", "4/4", "1.000"]
    assert lines[-1] == f"reports in {tmp_path}"
    names = ["lockstep.json", "outputs", "overlay_front_discovery.mp4", "overlay_front_found.mp4", "timing.json"]
    assert sorted(path.name for path in (tmp_path / "square").iterdir()) == names
    assert report(tmp_path, "square")["settings"]["methods"].keys() == {"found", "maskcut"}
    assert report(tmp_path, "square")["settings"]["precision"] in ("float32", "bfloat16")
    assert making.fingerprint(square) == before


@pytest.mark.parametrize(
    ("limit", "text"),
    [
        (("--fail-under", "corloc=1.1"), "corloc of found on /front/image of square is 1.0000, below 1.1"),
        (("--fail-over", "mask_flicker=0.01"), "mask_flicker of found on /front/image of square is"),
    ],
)
def test_limits_turn_into_the_exit_status(
    square: Path, tmp_path: Path, capsys: Any, limit: tuple[str, ...], text: str
) -> None:
    assert bag(square, out=tmp_path, more=(*TRUTH_OPTIONS, "--no-outputs", *limit)) == 4
    assert text in capsys.readouterr().err


def test_json_is_all_that_is_printed(square: Path, tmp_path: Path, capsys: Any) -> None:
    assert bag(square, out=tmp_path, more=("--topics", "/front/image", "--json")) == 0
    assert json.loads(capsys.readouterr().out) == [report(tmp_path, "square")]


def test_truth_in_a_coco_document(square: Path, tmp_path: Path, capsys: Any) -> None:
    stamps = [making.START + number * making.STEP for number in range(4)]
    document = {
        "images": [{"id": i, "file_name": f"{stamp}.png"} for i, stamp in enumerate(stamps)],
        "annotations": [{"image_id": i, "bbox": [20 + 8 * i, 40, 48, 48], "track_id": 1} for i in range(4)],
    }
    (tmp_path / "truth.json").write_text(json.dumps(document))
    more = ("--ground-truth", str(tmp_path / "truth.json"), "--topics", "/front/image", "--no-outputs", *PERFECT)
    assert bag(square, out=tmp_path / "out", more=more) == 0
    for image in document["images"]:
        image["file_name"] = str(int(str(image["file_name"])[:-4]) + 1_000_000) + ".png"
    (tmp_path / "truth.json").write_text(json.dumps(document))
    assert bag(square, out=tmp_path / "late", more=(*more, "--slop-ms", "2")) == 0
    assert bag(square, out=tmp_path / "none", more=more) == 2
    assert "none is within 0 ms of one of the 4 frames' stamps; the nearest is 1 ms away" in capsys.readouterr().err


def test_prompts_given_several_times_or_in_a_file(square: Path, tmp_path: Path, capsys: Any) -> None:
    more = ("--topics", "/front/image", "--method", "maskclip", "--no-outputs")
    texts = ("--prompts", "red object, blue object", "--prompts", "green object")
    assert bag(square, out=tmp_path / "a", more=(*more, *texts)) == 0
    methods = report(tmp_path / "a", "square")["cameras"]["/front/image"]["methods"]
    assert list(methods) == ["maskclip (1)", "maskclip (2)"]
    (tmp_path / "sweep.txt").write_text("warm: red object, blue object\ncold: green object\n")
    assert bag(square, out=tmp_path / "b", more=(*more, "--sweep", str(tmp_path / "sweep.txt"))) == 0
    rows = report(tmp_path / "b", "square")["settings"]["methods"]
    assert {name: row["prompts"] for name, row in rows.items()} == {
        "maskclip (warm)": ["red object", "blue object"],
        "maskclip (cold)": ["green object"],
    }
    assert bag(square, out=tmp_path / "c", more=(*more, *texts, "--sweep", "x")) == 2
    assert "from --prompts or from --sweep, not from both" in capsys.readouterr().err
