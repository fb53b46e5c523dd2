"""What is said about bags: coverage, limits, the table."""

from __future__ import annotations

from typing import Any

import pytest

from objloc_ros.bags.score import find_broken_limits, format_table, make_coverage, make_report
from objloc_ros.errors import ParameterError


def report(bag: str = "b1", **methods: dict[str, float]) -> dict[str, Any]:
    rows = {name: {"metrics": metrics} for name, metrics in methods.items()}
    cameras = {"/front/image": {"frames": make_coverage(10, 8, {"decode": 2}, 0), "methods": rows}}
    return make_report("lockstep", bag, cameras, {"threads": 1})


def test_a_report() -> None:
    got = report(found={"ap": 0.5})
    assert list(got) == ["format", "mode", "bag", "cameras", "settings"]
    assert (got["format"], got["mode"]) == ("objloc_ros bag 1", "lockstep")
    assert got["cameras"]["/front/image"]["frames"] == {"in": 10, "processed": 8, "dropped": {"decode": 2}, "late": 0}


def test_causes_are_in_one_order() -> None:
    assert list(make_coverage(3, 0, {"size": 1, "decode": 2}, 0, unstamped=1)["dropped"]) == ["decode", "size"]
    assert make_coverage(3, 3, {}, 1, unstamped=2)["unstamped"] == 2


def test_limits_hold_for_every_row_that_has_the_metric() -> None:
    reports = [report(found={"corloc": 0.9}, lost={"corloc": 0.4, "flicker": 0.3}), report("b2", lost={"flicker": 0.1})]
    assert find_broken_limits(reports, {"corloc": 0.4}, {"flicker": 0.3}) == []
    assert find_broken_limits(reports, {"corloc": 0.5}, {"flicker": 0.2}) == [
        "corloc of lost on /front/image of b1 is 0.4000, below 0.5",
        "flicker of lost on /front/image of b1 is 0.3000, above 0.2",
    ]
    with pytest.raises(ParameterError, match="there is no metric miou; there are corloc, flicker"):
        find_broken_limits(reports, {"miou": 0.1}, {})
    with pytest.raises(ParameterError, match="there is no metric ap; there are none"):
        find_broken_limits([report(found={})], {}, {"ap": 0.1})


def test_the_table() -> None:
    text = format_table([report(found={"corloc": 0.9, "ap": 0.1}), report("long name", lost={"flicker": 0.25})])
    assert text.splitlines() == [
        "bag        camera        method  frames  corloc  flicker",
        "b1         /front/image  found     8/10   0.900",
        "long name  /front/image  lost      8/10            0.250",
    ]
