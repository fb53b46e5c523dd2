"""How old a frame is, told from its stamp where the stamp can be believed and from its arrival elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

PLAUSIBLE_LAG_NS = 10_000_000_000
"""A stamp further than this from the clock at arrival was not taken from this clock."""

JUMP_NS = 100_000_000
"""A stamp that lies this much before the previous one is a jump of time, not frames that overtook each other."""

MAX_PAUSE_NS = 5_000_000_000
"""Longest time between two frames of one video, nanoseconds."""


def continues(before_ns: int, now_ns: int) -> bool:
    """Whether two stamps in nanoseconds may be of one video: time neither jumped back nor passed without a frame."""
    return -JUMP_NS <= now_ns - before_ns <= MAX_PAUSE_NS


class Oddity(Enum):
    """What is unusual about a stamp; a node tells its user about it."""

    ZERO_STAMP = "zero_stamp"
    OTHER_CLOCK = "other_clock"
    JUMPED_BACK = "jumped_back"


@dataclass(frozen=True)
class Arrival:
    """A frame's times, taken when it came in.

    Args:
        stamp_ns: Acquisition time of the source header, nanoseconds.
        lag_ns: Clock minus stamp at arrival, nanoseconds; 0 where the stamp cannot be believed.
        node_ns: Clock at arrival, nanoseconds.
        steady_ns: Monotonic time at arrival, nanoseconds.
        oddity: What is unusual about the stamp, if anything.
    """

    stamp_ns: int
    lag_ns: int
    node_ns: int
    steady_ns: int
    oddity: Oddity | None


class AgeClock:
    """Ages of the frames of one camera, robust against missing stamps, foreign clocks and looped recordings.

    A stamp is believed when it lies within `PLAUSIBLE_LAG_NS` of the clock. A recording played without its clock, or a
    camera with its own idea of time, would otherwise make every frame days old and have it dropped for ever.

    Args:
        now_ns: The clock that stamps refer to, nanoseconds; simulated time may jump.
        steady_ns: Monotonic time, nanoseconds.
    """

    def __init__(self, now_ns: Callable[[], int], steady_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._now_ns = now_ns
        self._steady_ns = steady_ns
        self._last_stamp_ns = 0

    def arrive(self, stamp_ns: int) -> Arrival:
        """Note the arrival of a frame; call it once per frame, from one thread."""
        node_ns = self._now_ns()
        lag = node_ns - stamp_ns
        oddity = self._judge(stamp_ns, lag)
        believed = stamp_ns != 0 and abs(lag) <= PLAUSIBLE_LAG_NS
        if stamp_ns:
            self._last_stamp_ns = stamp_ns
        # A camera clock slightly ahead of ours makes a young frame, not a negative age.
        return Arrival(stamp_ns, max(lag, 0) if believed else 0, node_ns, self._steady_ns(), oddity)

    def age_ms(self, arrival: Arrival) -> float:
        """Age now, milliseconds, never negative: where the clock jumped back meanwhile, the monotonic one counts."""
        elapsed = self._now_ns() - arrival.node_ns
        if elapsed < 0:
            elapsed = self._steady_ns() - arrival.steady_ns
        return (arrival.lag_ns + elapsed) / 1e6

    def _judge(self, stamp_ns: int, lag_ns: int) -> Oddity | None:
        if stamp_ns == 0:
            return Oddity.ZERO_STAMP
        if stamp_ns < self._last_stamp_ns - JUMP_NS:
            return Oddity.JUMPED_BACK
        return Oddity.OTHER_CLOCK if abs(lag_ns) > PLAUSIBLE_LAG_NS else None
