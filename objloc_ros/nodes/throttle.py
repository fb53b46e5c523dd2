"""Saying something once per cause and minute instead of thirty times a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

PERIOD_S = 60.0


class Throttle:
    """Decides per cause whether it is time to speak again, and counts what went unsaid; thread-safe.

    Args:
        period_s: Silence after a message of the same cause, seconds.
        clock: Monotonic time in seconds.
    """

    def __init__(self, period_s: float = PERIOD_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._period_s, self._clock = period_s, clock
        self._lock = threading.Lock()
        self._spoken: dict[str, float] = {}
        self._unsaid: dict[str, int] = {}

    def ready(self, cause: str) -> tuple[bool, int]:
        """Ask for leave to speak about `cause`.

        Returns:
            Whether to speak now, and how many times it went unsaid since the last time.
        """
        with self._lock:
            now = self._clock()
            if cause in self._spoken and now - self._spoken[cause] < self._period_s:
                self._unsaid[cause] = self._unsaid.get(cause, 0) + 1
                return False, 0
            self._spoken[cause] = now
            return True, self._unsaid.pop(cause, 0)
