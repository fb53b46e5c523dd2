"""A node's log about its frames: once per cause and minute instead of thirty times a second."""

from __future__ import annotations

import math
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

from objloc_ros.engine.frame_stats import StampAnomaly
from objloc_ros.engine.latest_slot import FAILED, TOO_OLD
from objloc_ros.io.sanitize import sanitize_line
from objloc_ros.nodes.diagnostics import HARMLESS

PERIOD_S = 60.0
"""Silence after a message of the same cause, seconds."""


class Throttle:
    """Decides per cause whether it is time to log again, and counts what was left out; thread-safe.

    Args:
        period_s: Silence after a message of the same cause, seconds.
        clock: Monotonic time in seconds.
    """

    def __init__(self, period_s: float = PERIOD_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._period_s, self._clock = period_s, clock
        self._lock = threading.Lock()
        self._logged_at: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def ready(self, cause: str) -> tuple[bool, int]:
        """Ask whether to log about `cause`.

        Returns:
            Whether to log now, and how many times it was left out since the last time.
        """
        with self._lock:
            now = self._clock()
            if cause in self._logged_at and now - self._logged_at[cause] < self._period_s:
                self._left_out[cause] = self._left_out.get(cause, 0) + 1
                return False, 0
            self._logged_at[cause] = now
            return True, self._left_out.pop(cause, 0)


ANOMALIES = {
    StampAnomaly.ZERO_STAMP: "frames carry a stamp of zero: their age is measured from their arrival (fix the camera "
    "driver)",
    StampAnomaly.OTHER_CLOCK: "stamps are far from this node's clock: ages are measured from arrival (a recording "
    "played without --clock and use_sim_time, or clocks that are not synchronised)",
    StampAnomaly.JUMPED_BACK: "time jumped back (a looped recording?): the statistics of ages start afresh",
}


class ThrottledLogger:
    """Logs, but never at the rate of the camera; usable from any thread.

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
        self._warn(self._minutely, cause, text)

    def refuse(self, what: str, reason: str) -> None:
        """Log that something was refused, at most once a minute; the diagnostics show the latest reason."""
        reason = sanitize_line(reason)
        self.last_error = f"{what}: {reason}"
        self.warn(what, f"refused {what}: {reason}")

    def info(self, text: str) -> None:
        """Log a line that comes at no rate."""
        self._logger.info(text)

    def error(self, action: str, error: Exception, *, trace: bool) -> None:
        """Log that an action failed, with the trace where the error was not foreseen."""
        self.last_error = sanitize_line(f"{action}: {error!r}" if trace else f"{action}: {error}")
        self._logger.error(f"cannot {action}: {_format_trace(error) if trace else sanitize_line(str(error))}")

    def warn_of_anomaly(self, anomaly: StampAnomaly) -> None:
        """Log a warning about stamps that are unusual; about a stamp of zero only once."""
        throttle = self._once if anomaly is StampAnomaly.ZERO_STAMP else self._minutely
        self._warn(throttle, anomaly.value, ANOMALIES[anomaly])

    def warn_of_drop(self, cause: str, error: Exception | None) -> None:
        """Log why a frame was dropped, unless that is part of normal work."""
        if cause in HARMLESS:
            return
        if cause == TOO_OLD or error is None:
            self.warn(cause, "frames are older than max_age_ms when their turn comes and are dropped")
            return
        foreseen = cause != FAILED
        self.last_error = sanitize_line(f"{cause}: {error}" if foreseen else f"{cause}: {error!r}")
        said = sanitize_line(str(error)) if foreseen else _format_trace(error)
        self.warn(cause, f"dropped a frame ({cause}): {said}")

    def _warn(self, throttle: Throttle, cause: str, text: str) -> None:
        ready, left_out = throttle.ready(cause)
        if ready:
            self._logger.warning(f"{text} (and {left_out} more before)" if left_out else text)


def _format_trace(error: Exception) -> str:
    return "".join(traceback.format_exception(error))
