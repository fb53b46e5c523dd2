"""Flags made from the descriptions of options."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import pytest

from objloc_ros.cli.options import add_flags, add_options, collect_options
from objloc_ros.options import Options, option


@dataclass(frozen=True)
class Sample(Options):
    """Options of a method."""

    threshold: float = option(0.5, "Saliency above which a pixel counts, often 50 %.", low=0, high=1)
    mode: str = option("multi", "Keep all or one.", choices=("multi", "single"))
    max_items: int = option(50, "Most items.", low=1)
    fine: bool = option(False, "Look twice.")


@dataclass(frozen=True)
class Other(Options):
    """Options of another method."""

    threshold: float = option(0.0, "Least confidence.", low=-1, high=1)
    mode: str = option("multi", "Keep all or one.", choices=("multi", "none"))
    file: Path | None = option(None, "File of weights.", kind=Path, unset="the registered one")


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="p")
    add_options(parser, {"sample": Sample})
    return parser


@pytest.mark.parametrize(
    ("line", "given"),
    [
        ("", {}),
        ("--threshold 0.25", {"threshold": 0.25}),
        ("--mode single --max-items 0", {"mode": "single", "max_items": 0}),
        ("--fine", {"fine": True}),
        ("--no-fine", {"fine": False}),
    ],
)
def test_only_given_options_are_collected(parser, line: str, given: dict) -> None:
    assert collect_options(parser.parse_args(line.split()), Sample) == given


@pytest.mark.parametrize("line", ["--mode none", "--max-items 1.5", "--threshold high"])
def test_wrong_types_and_choices_are_refused(parser, line: str, capsys) -> None:
    with pytest.raises(SystemExit):
        parser.parse_args(line.split())
    assert "error: argument" in capsys.readouterr().err


def test_help_shows_defaults_ranges_and_choices(parser) -> None:
    text = " ".join(parser.format_help().split())
    assert "often 50 % (0 to 1; default: 0.5)" in text
    assert "--mode {multi,single} Keep all or one (default: multi)" in text
    assert "--max-items MAX_ITEMS Most items (at least 1; default: 50)" in text


def test_a_flag_of_several_methods_says_where_they_differ() -> None:
    parser = argparse.ArgumentParser(prog="p")
    add_options(parser, {"sample": Sample, "other": Other, "third": Other})
    text = " ".join(parser.format_help().split())
    assert "options of sample, other, third:" in text
    assert "Saliency above which a pixel counts, often 50 % for sample; Least confidence for other, third" in text
    assert "(0 to 1 for sample; -1 to 1 for other, third; default: 0.5 for sample, 0.0 for other, third)" in text
    assert "--mode {multi,single,none} Keep all or one (default: multi)" in text
    assert "options of other, third: --file FILE File of weights (default: the registered one)" in text
    assert collect_options(parser.parse_args(["--file", "x", "--max-items", "3"]), Other) == {"file": Path("x")}


def test_a_command_may_take_some_options_with_other_defaults() -> None:
    parser = argparse.ArgumentParser(prog="p")
    add_flags(parser, Sample, "max_items", max_items=7)
    assert "Most items (at least 1; default: 7)" in " ".join(parser.format_help().split())
    args = parser.parse_args([])
    assert vars(args) == {"max_items": None}
    assert collect_options(args, Sample) == {}
