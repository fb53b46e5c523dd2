"""What became of every frame: counts that always add up, ages and rates over a bounded window."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

WINDOW_S = 5.0
"""Rates look back this far, seconds."""

MAX_SAMPLES = 1000
"""Ages, processing times and event times kept, so that memory does not grow with the hours."""


@dataclass(frozen=True)
class Percentiles:
    """Median and tails of a window of durations, milliseconds; zeros while the window is empty."""

    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0

    @classmethod
    def of(cls, samples: deque[float]) -> Percentiles:
        """Percentiles of the samples, interpolated linearly."""
        if not samples:
            return cls()
        return cls(*(float(value) for value in np.percentile(np.asarray(samples), (50, 95, 99))))


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
        """Events per second up to `now`."""
        since = max(self._start, now - WINDOW_S)
        if len(self._times) == MAX_SAMPLES:
            since = max(since, self._times[0])
        count = sum(1 for when in self._times if when >= since)
        return count / max(now - since, 1.0)


class FrameStats:
    """Thread-safe record of the frames of one camera.

    Every frame is `received` once and ends in exactly one of `published` and `dropped`; in between it is in flight.

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

    def received(self) -> None:
        """Count a frame that came in."""
        with self._lock:
            self._received += 1
            self._in_flight += 1
            self._in.tick(self._clock())

    def published(self, *, age_ms: float, processing_ms: float) -> None:
        """Count a frame whose results went out."""
        with self._lock:
            self._published += 1
            self._in_flight -= 1
            self._out.tick(self._clock())
            self._ages.append(age_ms)
            self._processing.append(processing_ms)

    def dropped(self, cause: str) -> None:
        """Count a frame that was given up."""
        with self._lock:
            self._dropped[cause] += 1
            self._in_flight -= 1

    def forget_ages(self) -> None:
        """Start the window of ages afresh; the counts stay."""
        with self._lock:
            self._ages.clear()

    def snapshot(self) -> Snapshot:
        """All numbers as of one instant."""
        with self._lock:
            now = self._clock()
            return Snapshot(
                received=self._received,
                published=self._published,
                dropped=MappingProxyType(dict(self._dropped)),
                in_flight=self._in_flight,
                age_ms=Percentiles.of(self._ages),
                processing_ms=Percentiles.of(self._processing),
                rate_in=self._in.value(now),
                rate_out=self._out.value(now),
            )
