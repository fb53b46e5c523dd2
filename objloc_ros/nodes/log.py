"""What a node says in its log about frames: once per cause and minute instead of thirty times a second."""

from __future__ import annotations

import math
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from objloc_ros.engine.frame_stats import Oddity
from objloc_ros.engine.latest_slot import FAILED, TOO_OLD
from objloc_ros.nodes.diagnostics import HARMLESS

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


ODDITIES = {
    Oddity.ZERO_STAMP: "frames carry a stamp of zero: their age is measured from their arrival (fix the camera driver)",
    Oddity.OTHER_CLOCK: "stamps are far from this node's clock: ages are measured from arrival (a recording played "
    "without --clock and use_sim_time, or clocks that are not synchronised)",
    Oddity.JUMPED_BACK: "time jumped back (a looped recording?): the statistics of ages start afresh",
}


class Voice:
    """Speaks through a logger, never at the rate of the camera; usable from any thread.

    Args:
        logger: The node's logger.

    Attributes:
        last_error: Latest error with its cause, for the diagnostics.
    """

    def __init__(self, logger: Any) -> None:
        self._logger = logger
        self._minutely, self._once = Throttle(), Throttle(math.inf)
        self.last_error = ""

    def warn(self, cause: str, text: str) -> None:
        """Log a warning, at most once a minute for each cause."""
        self._speak(self._minutely, cause, text)

    def failed(self, deed: str, error: Exception, *, trace: bool) -> None:
        """Log that something asked for could not be done, with the trace where the error was not foreseen."""
        self.last_error = f"{deed}: {error!r}" if trace else f"{deed}: {error}"
        self._logger.error(f"cannot {deed}: {_trace(error) if trace else error}")

    def odd(self, oddity: Oddity) -> None:
        """Tell about stamps that are unusual; about a stamp of zero only once."""
        throttle = self._once if oddity is Oddity.ZERO_STAMP else self._minutely
        self._speak(throttle, oddity.value, ODDITIES[oddity])

    def dropped(self, cause: str, error: Exception | None) -> None:
        """Tell why a frame was dropped, unless that is part of normal work."""
        if cause in HARMLESS:
            return
        if cause == TOO_OLD or error is None:
            self.warn(cause, "frames are older than max_age_ms when their turn comes and are dropped")
            return
        foreseen = cause != FAILED
        self.last_error = f"{cause}: {error}" if foreseen else f"{cause}: {error!r}"
        self.warn(cause, f"dropped a frame ({cause}): {error if foreseen else _trace(error)}")

    def _speak(self, throttle: Throttle, cause: str, text: str) -> None:
        speak, unsaid = throttle.ready(cause)
        if speak:
            self._logger.warning(f"{text} (and {unsaid} more before)" if unsaid else text)


def _trace(error: Exception) -> str:
    return "".join(traceback.format_exception(error))
