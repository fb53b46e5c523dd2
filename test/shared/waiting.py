"""Waiting for what happens, and for nothing else: no test depends on how fast this machine is at the moment."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 240.0
"""What does not happen within this time does not happen at all, even where ten others want the processor."""

PAUSE_S = 0.01
"""Between two looks."""


def wait_for(condition: Callable[[], T], what: str = "the condition") -> T:
    """Look until `condition()` is truthy.

    Args:
        condition: Asked again and again.
        what: For the message of the failure.

    Returns:
        The truthy value.

    Raises:
        AssertionError: It stayed false for `PATIENCE_S`.
    """
    deadline = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what} did not come true within {PATIENCE_S:.0f} s"
        time.sleep(PAUSE_S)
    return value
