"""The description of an option: which values it takes, and how a dataclass checks them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from objloc_ros.errors import ParameterError
from objloc_ros.options import Option, Options, describe, option

INF, NAN = float("inf"), float("nan")


@dataclass(frozen=True)
class Sample(Options):
    """Options of all kinds."""

    plain: int
    gain: float = option(0.5, "How much.", low=0, high=2)
    rate: float = option(1e-3, "How fast.", low=0, exclusive=True)
    part: float = option(0.5, "Which part.", low=0, high=1, exclusive=True)
    count: int = option(3, "How many.", low=1, live=False)
    mode: str = option("fast", "How.", choices=("fast", "good"))
    exact: bool = option(True, "Whether.")
    texts: tuple[str, ...] = option((), "What.")
    file: Path | None = option(None, "Where from.", kind=Path, unset="the registered one")


@pytest.mark.parametrize(
    "values",
    [
        {"gain": 0},
        {"gain": 2.0},
        {"gain": np.float32(1.5)},
        {"rate": 1e-300},
        {"rate": 1e300},
        {"part": 0.999},
        {"count": 1},
        {"count": np.int64(10**9)},
        {"mode": "good"},
        {"exact": False},
        {"texts": ("a", "b")},
        {"file": Path("/x")},
        {"file": "/x"},
        {"file": None},
        {"plain": "anything"},
    ],
)
def test_values_that_are_allowed(values: dict[str, Any]) -> None:
    Sample(**{"plain": 1, **values})
    Sample.check(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gain": -0.1}, r"gain must lie in \[0, 2\], got -0.1"),
        ({"gain": 2.1}, r"gain must lie in \[0, 2\], got 2.1"),
        ({"gain": NAN}, r"gain must lie in \[0, 2\], got nan"),
        ({"gain": "much"}, r"gain must be a number, got 'much' \(str\)"),
        ({"gain": True}, r"gain must be a number, got 'True' \(bool\)"),
        ({"gain": None}, "gain must be a number, got 'None'"),
        ({"rate": 0.0}, "rate must be above 0, got 0.0"),
        ({"rate": INF}, "rate must be above 0, got inf"),
        ({"part": 0.0}, "part must lie between 0 and 1, both excluded, got 0.0"),
        ({"part": 1}, "part must lie between 0 and 1, both excluded, got 1"),
        ({"count": 0}, "count must be at least 1, got 0"),
        ({"count": 1.0}, r"count must be a whole number, got '1.0' \(float\)"),
        ({"mode": "slow"}, "mode must be one of fast, good; got 'slow'"),
        ({"mode": 3}, "mode must be a text"),
        ({"exact": 1}, "exact must be true or false"),
        ({"texts": "ab"}, "texts must be a list of texts, got 'ab'"),
        ({"texts": ("a", 1)}, "texts must be a list of texts"),
        ({"file": 3}, "file must be a path"),
        ({"gain": 1.0, "count": 0}, "count must"),
    ],
)
def test_values_that_are_refused_name_value_and_constraint(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Sample(**{"plain": 1, **values})
    with pytest.raises(ParameterError, match=message):
        Sample.check(**values)
    with pytest.raises(ParameterError, match=message):
        replace(Sample(1), **values)


def test_fields_that_are_no_options_are_left_out() -> None:
    described = describe(Sample)
    assert list(described) == ["gain", "rate", "part", "count", "mode", "exact", "texts", "file"]
    assert (described["gain"].default, described["gain"].help, described["gain"].live) == (0.5, "How much.", True)
    assert (described["count"].live, described["count"].kind, described["file"].kind) == (False, int, Path)


def test_subclasses_have_the_options_of_their_base() -> None:
    @dataclass(frozen=True)
    class More(Sample):
        """One option more."""

        depth: int = option(1, "How deep.", high=3)

    assert [*describe(Sample), "depth"] == list(describe(More))
    with pytest.raises(ParameterError, match="depth must be at most 3, got 4"):
        More(1, depth=4)
    with pytest.raises(ParameterError, match="gain must lie"):
        More(1, gain=3.0)


def test_allowed_values_in_words() -> None:
    words = {name: described.allowed for name, described in describe(Sample).items()}
    assert words == {
        "gain": "0 to 2",
        "rate": "above 0",
        "part": "0 to 1, both excluded",
        "count": "at least 1",
        "mode": "`fast`, `good`",
        "exact": "",
        "texts": "",
        "file": "",
    }


def test_a_default_that_is_not_allowed_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"x must lie in \[0, 1\], got 3.0"):
        Option("x", 3.0, "", low=0, high=1)
    with pytest.raises(ParameterError, match="x must be one of b; got 'a'"):
        Option("x", "a", "", choices=("b",))
