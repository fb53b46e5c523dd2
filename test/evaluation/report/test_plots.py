"""Plots that stand in a page: as many bars as there should be, ink in the page's colour, text as text."""

from __future__ import annotations

import re

import numpy as np
import pytest

from objloc_ros.evaluation.report import page


def bars_of(svg):
    """Heights of the blue rectangles in SVG units, in their order."""
    paths = re.findall(r'<path d="([^"]*)"[^>]*fill: #4a7fb5', svg)
    sides = [np.array(re.findall(r"[ML] ([\d.]+) ([\d.]+)", path), float) for path in paths]
    return [np.ptp(corners, axis=0) for corners in sides]


def test_histogram_counts() -> None:
    svg = page.draw_histogram([0.0, 0.51, 0.52, 0.52, 1.0], "five <scores>")
    heights = np.array([bar[1] for bar in bars_of(svg)])
    counts = [0] * 20
    counts[0], counts[10], counts[19] = 1, 3, 1  # of twenty bins in [0, 1]
    assert np.allclose(heights / heights.max(), np.array(counts) / 3, atol=1e-6)
    assert "mean 0.510" in svg
    assert 'aria-label="five &lt;scores&gt;"' in svg


@pytest.mark.parametrize(("scores", "tick"), [([-3.0, 5.0], "4"), ([7.0], "7.0"), ([0.5], "0.6")])
def test_histogram_covers_any_scores(scores, tick) -> None:
    assert f">{tick}</text>" in page.draw_histogram(scores, "some").replace("−", "-")


def test_bars_are_as_long_as_their_values_and_the_highest_is_on_top() -> None:
    svg = page.draw_bars({"cat": 0.25, "dog$x$": 0.5, "sheep": None}, "classes")
    lengths = [bar[0] for bar in bars_of(svg)]  # from the bottom
    assert np.allclose(np.array(lengths) / lengths[2], [0, 0.5, 1])
    texts = re.findall(r">([^<>\n]+)</text>", svg)
    assert [text for text in texts if text in ("cat", "dog$x$", "sheep")] == ["sheep", "cat", "dog$x$"]
    assert {"25.0", "50.0", "–"} <= set(texts)


def test_curves_pass_through_their_values() -> None:
    svg = page.draw_curves({"precision": np.array([0.0, 1.0]), "recall": np.array([1.0, 1.0])}, "two")
    assert ">precision</text>" in svg
    assert ">threshold</text>" in svg
    line = next(path for path in re.findall(r'<path d="([^"]*)"[^>]*stroke: #4a7fb5', svg))
    (x0, y0), (x1, y1) = np.array(re.findall(r"[ML] ([\d.]+) ([\d.]+)", line), float)[:2]
    assert x1 > x0
    assert y1 < y0  # SVG counts from the top


@pytest.mark.parametrize("svg", [page.draw_histogram([0.5], "a"), page.draw_bars({"<b>": 0.1}, "b")])
def test_nothing_foreign_or_dark_on_dark(svg) -> None:
    assert svg.startswith('<svg viewBox="')
    assert svg.endswith("</svg>")
    assert "currentColor" in svg
    assert "#000000" not in svg
    assert "http" not in svg
    assert "<style" not in svg
    assert "<b>" not in svg


def test_the_same_values_give_the_same_bytes() -> None:
    assert page.draw_histogram([0.1, 0.9], "a") == page.draw_histogram([0.1, 0.9], "a")
