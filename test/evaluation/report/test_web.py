"""The tables as a page: well formed, escaped, without anything from elsewhere."""

from __future__ import annotations

import pytest
from jinja2 import UndefinedError

from objloc_ros.evaluation.report.page import render, render_tables
from objloc_ros.evaluation.report.tables import assemble


def test_tables_and_remarks_are_there(run, outline) -> None:
    metrics = {"corloc": 0.6, "ap50": 0.4, "ar100": 0.5}
    page = render_tables(assemble([run(metrics=metrics), run(images=7)], {"cut/result.json": "not JSON"}))
    seen = outline(page)
    assert seen.headings == [
        *("Evaluation results", "Localisation of one object, CorLoc", "Detection without classes, boxes"),
        "Not in the tables",
    ]
    assert seen.rows[:3] == [
        ["method", "backbone", "VOC07"],
        ["LOST", "dino_vits16", "60.0 / 61.9"],
        ["LOST", "dino_vits16", "61.7 (n=7) / 61.9"],
    ]
    assert seen.rows[3:] == [
        ["method", "backbone", "VOC07"],
        ["AP50", "AR100"],
        ["LOST", "dino_vits16", "40.0 / –", "50.0 / –"],
    ]
    assert "Could not be used: cut/result.json: not JSON" in seen.text
    assert seen.addresses == []


def test_everything_is_escaped(run) -> None:
    bad = '<script>alert("1")</script>'
    page = render_tables(assemble([run(bad, bad, dataset=bad, options={bad: bad})], {bad: bad}), title=bad)
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 8


def test_the_same_results_give_the_same_bytes(run) -> None:
    assert render_tables(assemble([run()])) == render_tables(assemble([run()]))


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        render("tables.html", title="no tables")
