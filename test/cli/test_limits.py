"""Limits of metrics."""

from __future__ import annotations

import pytest

from objloc_ros.cli.options import find_failed_limits, parse_limits
from objloc_ros.errors import ParameterError


def test_limits_are_read() -> None:
    assert parse_limits(["corloc=0.6", " ap50 = 0"]) == {"corloc": 0.6, "ap50": 0.0}
    assert parse_limits([]) == {}


@pytest.mark.parametrize("text", ["corloc", "corloc=", "=0.5", "corloc=high", "corloc=nan", "corloc=inf", ""])
def test_other_forms(text: str) -> None:
    with pytest.raises(ParameterError, match="must be of the form metric=number, got"):
        parse_limits([text])


def test_what_is_below_is_said() -> None:
    metrics = {"corloc": 0.59994, "ap50": 0.5}
    assert find_failed_limits(metrics, {"corloc": 0.6, "ap50": 0.5}) == ["corloc is 0.5999, below 0.6"]
    assert find_failed_limits(metrics, {}) == []


def test_an_unknown_metric_is_no_success() -> None:
    with pytest.raises(ParameterError, match="no metric corlok; there are corloc"):
        find_failed_limits({"corloc": 1.0}, {"corlok": 0.5})
