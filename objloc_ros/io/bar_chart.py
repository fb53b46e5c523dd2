"""Stacked horizontal bars in panels, each with an axis of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from objloc_ros.errors import InputError
from objloc_ros.io.contact_sheet import FRAME, INK, PAGE
from objloc_ros.io.drawing import Colour, ascii_text
from objloc_ros.types import Image

COLOURS: tuple[Colour, ...] = (
    (148, 163, 184),
    (94, 129, 172),
    (56, 178, 172),
    (237, 137, 54),
    (214, 69, 101),
    (128, 90, 213),
    (104, 159, 56),
    (214, 188, 60),
)
"""RGB of the parts, in turn."""

_FONT = cv2.FONT_HERSHEY_DUPLEX
_TEXT, _TITLE = 0.5, 0.58
_MARGIN, _BAR, _GAP, _NOTE = 24, 22, 8, 230
"""Pixels: around the page, height of a bar, below it, and room for the note behind the longest."""


@dataclass(frozen=True)
class Bar:
    """One bar.

    Args:
        label: In front of it.
        parts: Their lengths, at least 0, in the order of the legend.
        note: Behind it.
    """

    label: str
    parts: Sequence[float]
    note: str = ""


@dataclass(frozen=True)
class Panel:
    """Bars on one axis, under a title."""

    title: str
    bars: Sequence[Bar]


def stacked_bars(panels: Sequence[Panel], names: Sequence[str], *, unit: str, width: int = 1280) -> Image:
    """Draw the panels below each other, under a legend of the parts.

    Args:
        panels: Each is scaled to its longest bar.
        names: Of the parts.
        unit: Behind the numbers of the axes.
        width: Of the page in pixels.

    Returns:
        RGB uint8 page.

    Raises:
        InputError: If there is no bar, or one has another number of parts than there are names.
    """
    bars = [bar for panel in panels for bar in panel.bars]
    if not bars or any(len(bar.parts) != len(names) for bar in bars):
        raise InputError(f"expected bars of {len(names)} parts each, got {[len(bar.parts) for bar in bars]}")
    heights = [30 + len(panel.bars) * (_BAR + _GAP) + 34 for panel in panels]
    page = np.full((2 * _MARGIN + 30 + sum(heights), width, 3), PAGE, np.uint8)
    left = _MARGIN + 14 + max(_extent(bar.label, _TEXT) for bar in bars)
    _legend(page, names)
    top = _MARGIN + 30
    for panel, height in zip(panels, heights, strict=True):
        _panel(page[top : top + height], panel, left, unit)
        top += height
    return page


def _panel(page: Image, panel: Panel, left: int, unit: str) -> None:
    """Draw one panel, in place."""
    longest = max(sum(bar.parts) for bar in panel.bars) or 1.0
    scale = max(100, page.shape[1] - left - _MARGIN - _NOTE) / longest
    _write(page, panel.title, (_MARGIN, 18), _TITLE)
    bottom = 30 + len(panel.bars) * (_BAR + _GAP)
    step = _step(longest)
    for tick in np.arange(0, longest * 1.0001, step):
        x = left + round(tick * scale)
        cv2.line(page, (x, 28), (x, bottom), FRAME, 1)
        text = f"{tick:g} {unit}" if tick == 0 else f"{tick:g}"
        _write(page, text, (x - _extent(text, 0.42) // 2, bottom + 16), 0.42)
    for number, bar in enumerate(panel.bars):
        top = 30 + number * (_BAR + _GAP)
        base = top + _BAR - 6
        _write(page, bar.label, (left - 12 - _extent(bar.label, _TEXT), base), _TEXT)
        ends = [left + round(float(end) * scale) for end in np.cumsum(bar.parts)]
        for part, (start, end) in enumerate(zip([left, *ends], ends, strict=False)):
            page[top : top + _BAR, start:end] = COLOURS[part % len(COLOURS)]
        _write(page, bar.note, (ends[-1] + 8, base), _TEXT)


def _legend(page: Image, names: Sequence[str]) -> None:
    x = _MARGIN
    for number, name in enumerate(names):
        page[_MARGIN - 6 : _MARGIN + 8, x : x + 14] = COLOURS[number % len(COLOURS)]
        _write(page, name, (x + 20, _MARGIN + 6), _TEXT)
        x += 20 + _extent(name, _TEXT) + 22


def _step(longest: float) -> float:
    """Distance of the axis's marks: 1, 2 or 5 times a power of ten, so that there are about five."""
    power = 10.0 ** np.floor(np.log10(longest / 5))
    return float(next(factor * power for factor in (1, 2, 5, 10) if factor * power >= longest / 5))


def _extent(text: str, font: float) -> int:
    return int(cv2.getTextSize(ascii_text(text), _FONT, font, 1)[0][0])


def _write(page: Image, text: str, place: tuple[int, int], font: float) -> None:
    cv2.putText(page, ascii_text(text), place, _FONT, font, INK, 1, cv2.LINE_AA)
