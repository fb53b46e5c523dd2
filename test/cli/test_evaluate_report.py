"""`objloc evaluate report` from a folder of results to a file."""

from __future__ import annotations

import json

import pytest

from objloc_ros.cli.main import main

RESULT = {
    "format": "objloc_ros evaluation 1",
    "software": "objloc_ros 0.1.0",
    "dataset": "voc07",
    "split": "trainval",
    "kind": "boxes",
    "method": "lost",
    "backbone": "dino_vits16",
    "options": {},
    "images": 5011,
    "failed": [],
    "metrics": {"corloc": 0.6171},
    "protocol": {},
    "seconds": 1.0,
    "machine": "2 cores",
}


@pytest.fixture
def folder(tmp_path):
    """Two results, on all of VOC07 and on ten images of it."""
    for name, changes in {"all": {}, "few": {"images": 10, "metrics": {"corloc": 0.4}}}.items():
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "result.json").write_text(json.dumps({**RESULT, **changes}))
    return tmp_path / "runs"


def test_markdown_is_printed(folder, capsys) -> None:
    assert main(["evaluate", "report", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[4:6] == ["| LOST | dino_vits16 | 61.7 / 61.9 |", "| LOST | dino_vits16 | 40.0 (n=10) / 61.9 |"]


@pytest.mark.parametrize(
    ("name", "options", "start"),
    [
        ("table.md", [], "## Localisation"),
        ("table.tex", [], "% needs"),
        ("TABLE.HTML", [], "<!DOCTYPE html>"),
        ("table.txt", [], "## Localisation"),
        ("table.txt", ["--format", "latex"], "% needs"),
        ("table.md", ["--format", "html"], "<!DOCTYPE html>"),
        ("table.md", ["--json"], "{"),
    ],
)
def test_a_file_is_written_in_the_format_asked_for(folder, tmp_path, capsys, name, options, start) -> None:
    path = tmp_path / "out" / name
    assert main(["evaluate", "report", str(folder), "--out", str(path), *options]) == 0
    assert path.read_text(encoding="utf-8").startswith(start)
    assert capsys.readouterr().out == ""


def test_json_and_published_rows(folder, capsys) -> None:
    assert main(["evaluate", "report", str(folder), "--json", "--published"]) == 0
    rows = json.loads(capsys.readouterr().out)["tables"]["corloc"]
    assert {"lost", "dino_seg", "rOSD"} <= {row["method"] for row in rows}
    measured = [(cell["measured"], cell["images"]) for row in rows for cell in row["cells"] if cell["measured"]]
    assert measured == [(0.6171, None), (0.4, 10)]


def test_bad_results_are_named_and_the_others_shown(folder, capsys) -> None:
    (folder / "few" / "result.json").write_text('{"format": ')
    assert main(["evaluate", "report", str(folder)]) == 1
    printed = capsys.readouterr()
    assert "objloc: not used: few/result.json: " in printed.err
    assert "- Could not be used: few/result.json: " in printed.out
    assert "61.7 / 61.9" in printed.out


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "no usable result.json below"),
        (lambda folder: (folder / "result.json").write_text("{}"), "no usable result.json below"),
        (lambda folder: folder.rmdir(), "is not a folder"),
    ],
)
def test_nothing_to_show_is_an_error_and_writes_nothing(tmp_path, capsys, make, message) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    make(folder)
    assert main(["evaluate", "report", str(folder), "--out", str(tmp_path / "table.md")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "table.md").exists()


def test_two_formats_are_refused(folder, capsys) -> None:
    assert main(["evaluate", "report", str(folder), "--json", "--format", "html"]) == 2
    assert "--json and --format html are two formats" in capsys.readouterr().err
