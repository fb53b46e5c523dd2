from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Literal

import pytest

from objloc_ros.cli.options import add_options, describe_fields, given_options


@dataclass(frozen=True)
class Sample:
    """Options of a method.

    Args:
        threshold: Saliency above which
            a pixel counts, 50 % by default.
        mode: Keep all or one.
        max_items: Most items.

    Raises:
        ValueError: Never.
    """

    threshold: float = 0.5
    mode: Literal["multi", "single"] = "multi"
    max_items: int = 50


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="p")
    add_options(parser, {"sample": Sample})
    return parser


def test_descriptions_come_from_the_docstring() -> None:
    assert describe_fields(Sample) == {
        "threshold": "Saliency above which a pixel counts, 50 % by default",
        "mode": "Keep all or one",
        "max_items": "Most items",
    }


@pytest.mark.parametrize(
    ("line", "given"),
    [
        ("", {}),
        ("--threshold 0.25", {"threshold": 0.25}),
        ("--mode single --max-items 0", {"mode": "single", "max_items": 0}),
    ],
)
def test_only_given_options_are_collected(parser, line: str, given: dict) -> None:
    assert given_options(parser.parse_args(line.split()), Sample) == given


@pytest.mark.parametrize("line", ["--mode none", "--max-items 1.5", "--threshold high"])
def test_wrong_types_and_choices_are_refused(parser, line: str, capsys) -> None:
    with pytest.raises(SystemExit):
        parser.parse_args(line.split())
    assert "error: argument" in capsys.readouterr().err


def test_help_shows_defaults_and_choices(parser) -> None:
    text = " ".join(parser.format_help().split())
    assert "50 % by default (default: 0.5)" in text
    assert "--mode {multi,single} Keep all or one (default: multi)" in text
    assert "--max-items MAX_ITEMS Most items (default: 50)" in text
