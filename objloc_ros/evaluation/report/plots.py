"""Plots of one run as SVG that stands inside a page: text stays text, and ink takes the colour of the page's."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_INK = "#010203"
"""Stands for the page's colour of text, which follows the reader's choice of dark or light."""

BLUE, ORANGE, GREEN = "#4a7fb5", "#d9822b", "#3f9c6e"
"""Readable on white and on black."""

_WIDTH, _HEIGHT = 5.2, 2.9
"""Inches, at 72 units each."""

_STYLE: Any = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), _INK),
}

_DROPPED = re.compile(r"<metadata>.*?</metadata>|<\?xml[^>]*>|<!DOCTYPE[^>]*>|<!--.*?-->|<style.*?</style>", re.DOTALL)


def histogram(scores: Sequence[float], label: str) -> str:
    """How many images have which score.

    Args:
        scores: Finite; at least one.
        label: What the plot shows, for those who do not see it.

    Returns:
        An `<svg>` element. The axis is [0, 1] where the scores fit, else their range; a line marks their mean.
    """
    values = np.asarray(scores, np.float64)
    ends = (0.0, 1.0) if values.min() >= 0 and values.max() <= 1 else (float(values.min()), float(values.max()))

    def draw(axes: Axes) -> None:
        axes.hist(values, bins=20, range=ends, color=BLUE, rwidth=0.92)
        axes.axvline(values.mean(), color=ORANGE, linestyle="--", label=f"mean {values.mean():.3f}")
        axes.set(xlabel="score of an image", ylabel="images")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(frameon=False)

    return _svg(draw, label)


def curves(lines: Mapping[str, npt.NDArray[np.float64]], label: str) -> str:
    """Fractions over thresholds.

    Args:
        lines: By name, [T] each: the value at threshold i / T.
        label: What the plot shows, for those who do not see it.
    """

    def draw(axes: Axes) -> None:
        for (name, values), colour, style in zip(lines.items(), (BLUE, ORANGE, GREEN), ("-", "--", ":"), strict=False):
            axes.plot(np.arange(len(values)) / len(values), values, style, color=colour, label=name)
        axes.set(xlabel="threshold", xlim=(0, 1), ylim=(0, 1.02))
        axes.legend(frameon=False)

    return _svg(draw, label)


def bars(values: Mapping[str, float | None], label: str) -> str:
    """A horizontal bar of a fraction for each name, the highest on top; without one there is no bar.

    Args:
        values: In [0, 1] by name; at least one.
        label: What the plot shows, for those who do not see it.
    """
    order = sorted(values, key=lambda name: -1.0 if values[name] is None else float(values[name] or 0.0))
    lengths = [values[name] for name in order]

    def draw(axes: Axes) -> None:
        axes.barh(range(len(order)), [length or 0.0 for length in lengths], color=BLUE)
        for place, length in enumerate(lengths):
            axes.text((length or 0.0) + 0.01, place, "–" if length is None else f"{100 * length:.1f}", va="center")
        axes.set(xlim=(0, 1.08), ylim=(-0.6, len(order) - 0.4), xlabel="IoU")
        axes.set_yticks(range(len(order)), order)

    return _svg(draw, label, height=0.9 + 0.21 * len(order))


def _svg(draw: Callable[[Axes], None], label: str, height: float = _HEIGHT) -> str:
    """Draw on a figure of its own, and tidy up what matplotlib writes: it is meant for a file of its own."""
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": label}):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        draw(figure.subplots())
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = _DROPPED.sub("", file.getvalue()).replace(_INK, "currentColor")
    text = re.sub(r'<g id="[^"]*"', "<g", text).replace("xlink:href", "href")
    box = re.search(r'viewBox="[^"]*"', text)
    opening = f'<svg {box.group() if box else ""} role="img" aria-label="{escape(label)}">'
    return (opening + text[text.index(">", text.index("<svg")) + 1 :]).strip()
