"""What a node says in its log about frames, once per cause and minute."""

from __future__ import annotations

import math
import traceback
from typing import Any

from objloc_ros.engine.age import Oddity
from objloc_ros.engine.scheduler import FAILED, TOO_OLD
from objloc_ros.nodes.diagnostics import HARMLESS
from objloc_ros.nodes.throttle import Throttle

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
