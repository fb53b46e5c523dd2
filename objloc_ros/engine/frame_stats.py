"""What became of every frame: counts that always add up, and ages and rates over a bounded window.

The age of a frame is told from its stamp where the stamp can be believed, and from its arrival elsewhere.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType

import numpy as np

PLAUSIBLE_LAG_NS = 10_000_000_000
"""Largest distance of a stamp from the clock at arrival if the stamp was taken from that clock, nanoseconds."""

JUMP_NS = 100_000_000
"""Least step back of a stamp that is a jump of time, not frames that overtook each other, nanoseconds."""

MAX_PAUSE_NS = 5_000_000_000
"""Longest time between two frames of one video, nanoseconds."""


def jumps_back(before_ns: int, now_ns: int) -> bool:
    """Return whether time jumped back between two frames, stamps in nanoseconds, as where a recording starts over."""
    return now_ns < before_ns - JUMP_NS


class VideoClock:
    """Tells where the frames of one camera begin another video: time jumped back, or passed without a frame."""

    def __init__(self) -> None:
        self._latest_ns: int | None = None

    def jumps_to(self, stamp_ns: int) -> bool:
        """Note the stamp of the next frame, nanoseconds; returns whether time has jumped since the one before."""
        before_ns, self._latest_ns = self._latest_ns, stamp_ns
        if before_ns is None:
            return False
        return jumps_back(before_ns, stamp_ns) or stamp_ns - before_ns > MAX_PAUSE_NS


class StampAnomaly(Enum):
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
        anomaly: What is unusual about the stamp, if anything.
    """

    stamp_ns: int
    lag_ns: int
    node_ns: int
    steady_ns: int
    anomaly: StampAnomaly | None


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
        anomaly = self._judge(stamp_ns, lag)
        believed = stamp_ns != 0 and abs(lag) <= PLAUSIBLE_LAG_NS
        if stamp_ns:
            self._last_stamp_ns = stamp_ns
        # A camera clock slightly ahead of ours makes a young frame, not a negative age.
        return Arrival(stamp_ns, max(lag, 0) if believed else 0, node_ns, self._steady_ns(), anomaly)

    def age_ms(self, arrival: Arrival) -> float:
        """Age now, milliseconds, never negative: where the clock jumped back meanwhile, the monotonic one counts."""
        elapsed = self._now_ns() - arrival.node_ns
        if elapsed < 0:
            elapsed = self._steady_ns() - arrival.steady_ns
        return (arrival.lag_ns + elapsed) / 1e6

    def _judge(self, stamp_ns: int, lag_ns: int) -> StampAnomaly | None:
        if stamp_ns == 0:
            return StampAnomaly.ZERO_STAMP
        if jumps_back(self._last_stamp_ns, stamp_ns):
            return StampAnomaly.JUMPED_BACK
        return StampAnomaly.OTHER_CLOCK if abs(lag_ns) > PLAUSIBLE_LAG_NS else None


WINDOW_S = 5.0
"""Length of the window over which rates are computed, seconds."""

MAX_SAMPLES = 1000
"""Largest number of ages, processing times and event times kept, so that memory does not grow with the hours."""


def percentiles(values: Collection[float], ranks: Sequence[int] = (50, 95, 99)) -> dict[str, float]:
    """Compute percentiles, interpolated linearly: {"p50": ...}; empty for no values."""
    if not len(values):
        return {}
    found = np.percentile(np.fromiter(values, np.float64, len(values)), ranks)
    return {f"p{rank}": float(value) for rank, value in zip(ranks, found, strict=True)}


@dataclass(frozen=True)
class Percentiles:
    """Median and tails of a window of durations, milliseconds; zeros while the window is empty."""

    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0


@dataclass(frozen=True)
class Snapshot:
    """One consistent reading: `received == published + sum(dropped.values()) + in_flight`.

    Args:
        received: Frames offered since the start.
        published: Frames whose results went out.
        dropped: Frames given up, by cause.
        in_flight: Frames waiting or being processed right now.
        age_ms: Age of the published frames when their results went out, milliseconds.
        processing_ms: Time the worker spent on the published frames, milliseconds.
        rate_in: Frames received per second over the last `WINDOW_S` seconds.
        rate_out: Frames published per second over the last `WINDOW_S` seconds.
    """

    received: int = 0
    published: int = 0
    dropped: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    in_flight: int = 0
    age_ms: Percentiles = Percentiles()
    processing_ms: Percentiles = Percentiles()
    rate_in: float = 0.0
    rate_out: float = 0.0


class Rate:
    """Events per second over a sliding window.

    Args:
        start: Time the counting starts, seconds: a window that has not filled yet is divided by its own length.
    """

    def __init__(self, start: float) -> None:
        self._start = start
        self._times: deque[float] = deque(maxlen=MAX_SAMPLES)

    def tick(self, now: float) -> None:
        """Count one event."""
        self._times.append(now)

    def value(self, now: float) -> float:
        """Return the events per second up to `now`."""
        since = max(self._start, now - WINDOW_S)
        if len(self._times) == MAX_SAMPLES:
            since = max(since, self._times[0])
        count = sum(1 for when in self._times if when >= since)
        return count / max(now - since, 1.0)


class FrameStats:
    """Thread-safe record of the frames of one camera.

    Every frame is counted once as received and ends as either published or dropped; in between it is in flight.

    Args:
        clock: Monotonic time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._received = self._published = self._in_flight = 0
        self._dropped: Counter[str] = Counter()
        self._ages: deque[float] = deque(maxlen=MAX_SAMPLES)
        self._processing: deque[float] = deque(maxlen=MAX_SAMPLES)
        self._in, self._out = Rate(clock()), Rate(clock())

    def count_received(self) -> None:
        """Count a frame that came in."""
        with self._lock:
            self._received += 1
            self._in_flight += 1
            self._in.tick(self._clock())

    def count_published(self, *, age_ms: float, processing_ms: float) -> None:
        """Count a frame whose results went out."""
        with self._lock:
            self._published += 1
            self._in_flight -= 1
            self._out.tick(self._clock())
            self._ages.append(age_ms)
            self._processing.append(processing_ms)

    def count_dropped(self, cause: str) -> None:
        """Count a frame that was given up."""
        with self._lock:
            self._dropped[cause] += 1
            self._in_flight -= 1

    def forget_ages(self) -> None:
        """Start the window of ages afresh; the counts stay."""
        with self._lock:
            self._ages.clear()

    def snapshot(self) -> Snapshot:
        """Return all numbers as of one instant."""
        with self._lock:
            now = self._clock()
            return Snapshot(
                received=self._received,
                published=self._published,
                dropped=MappingProxyType(dict(self._dropped)),
                in_flight=self._in_flight,
                age_ms=Percentiles(**percentiles(self._ages)),
                processing_ms=Percentiles(**percentiles(self._processing)),
                rate_in=self._in.value(now),
                rate_out=self._out.value(now),
            )
