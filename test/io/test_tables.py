"""Tables to the letter."""

from __future__ import annotations

import pytest

from objloc_ros.io.tables import markdown_table, text_table

ROWS = [("name", "n", "share"), ("lost", 12, "0.5"), ("deep_spectral", 3, "")]


def test_names_are_flush_left_and_numbers_flush_right() -> None:
    assert text_table(ROWS, left=1).splitlines() == [
        "name            n  share",
        "lost           12    0.5",
        "deep_spectral   3",
    ]


def test_everything_is_flush_left_unless_said_otherwise() -> None:
    assert text_table(ROWS).splitlines() == [
        "name           n   share",
        "lost           12  0.5",
        "deep_spectral  3",
    ]


def test_markdown() -> None:
    assert markdown_table(*[ROWS[0], ROWS[1:]], left=1).splitlines() == [
        "| name | n | share |",
        "| --- | ---: | ---: |",
        "| lost | 12 | 0.5 |",
        "| deep_spectral | 3 |  |",
    ]


def test_rows_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        text_table([("a", "b"), ("c",)])
