"""Limits that metrics must keep, `corloc=0.6`: what turns an evaluation into a test."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from objloc_ros.errors import ParameterError


def parse_limits(texts: Iterable[str]) -> dict[str, float]:
    """Read texts such as "corloc=0.6".

    Raises:
        ParameterError: If a text is of another form or its value is no finite number.
    """
    limits = {}
    for text in texts:
        name, equals, value = text.partition("=")
        try:
            limits[name.strip()] = float(value)
        except ValueError:
            equals = ""
        if not (name.strip() and equals and math.isfinite(limits[name.strip()])):
            raise ParameterError(f"a limit must be of the form metric=number, got {text!r}")
    return limits


def failed_limits(metrics: Mapping[str, float], limits: Mapping[str, float]) -> list[str]:
    """Say which metrics are below their limits.

    Raises:
        ParameterError: If a limit is for a metric that was not measured.
    """
    unknown = sorted(set(limits) - set(metrics))
    if unknown:
        raise ParameterError(f"there is no metric {', '.join(unknown)}; there are {', '.join(metrics)}")
    return [
        f"{name} is {metrics[name]:.4f}, below {limit:g}" for name, limit in limits.items() if metrics[name] < limit
    ]
