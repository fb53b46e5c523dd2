"""Frames under load: only the newest frame waits, one worker takes it, and frames that are too old are dropped."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from objloc_ros.engine.frame_stats import FrameStats
from objloc_ros.errors import InputError, ObjlocError, ParameterError

T = TypeVar("T")

SUPERSEDED = "superseded"
TOO_OLD = "too_old"
SHUTDOWN = "shutdown"
BAD_INPUT = "bad_input"
FAILED = "processing_error"
OUT_OF_MEMORY = "out_of_memory"


class FrameDroppedError(ObjlocError):
    """Raised by a worker's function to drop a frame on purpose.

    Args:
        cause: Short name under which the frame is counted.
        message: What happened, in words for the log; the cause alone if empty.
    """

    def __init__(self, cause: str, message: str = "") -> None:
        super().__init__(message or cause)
        self.cause = cause


def find_drop_cause(error: Exception) -> str:
    """Return the cause under which a frame that raised `error` is counted: its own `cause`, or the kind of error."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, str) and cause:
        return cause
    return BAD_INPUT if isinstance(error, InputError) else FAILED


class LatestSlot(Generic[T]):
    """A slot for one waiting frame and the one worker thread that empties it.

    A new frame replaces the waiting one, so that an engine slower than the camera always works on fresh frames. Each
    frame ends published or dropped under a cause, whatever happens: superseded, too old when its turn came, given up or
    failed in processing, or caught by the shutdown.

    Args:
        process: Called in the worker thread with each frame; a normal return means published.
        stats: Where the frames are counted.
        age_ms: Age of a frame now, milliseconds.
        max_age_ms: Frames older than this when their turn comes are dropped; infinity switches the limit off.
        on_done: Told of every frame when it has ended, with the cause of its drop ("" if it was published) and the
            exception behind it, if any; called without locks held, in the thread that ended the frame. Must not raise.
        prepare: Called in the worker thread before anything else.
        name: Name of the worker thread.

    Raises:
        ParameterError: `max_age_ms` is not positive.
    """

    def __init__(
        self,
        process: Callable[[T], None],
        stats: FrameStats,
        *,
        age_ms: Callable[[T], float],
        max_age_ms: float = math.inf,
        on_done: Callable[[T, str, Exception | None], None] = lambda frame, cause, error: None,
        prepare: Callable[[], None] = lambda: None,
        name: str = "objloc-worker",
    ) -> None:
        self._process = process
        self._stats = stats
        self._age_ms = age_ms
        self._on_done, self._prepare = on_done, prepare
        self.max_age_ms = max_age_ms
        self._changed = threading.Condition()
        self._waiting: T | None = None
        self._stopping = False
        # A daemon: an engine stuck in a driver must not keep the process alive after stop() has given up on it.
        self._worker = threading.Thread(target=self._work, name=name, daemon=True)
        self._worker.start()

    @property
    def max_age_ms(self) -> float:
        """Age limit at the time of processing, milliseconds; may be changed at any time."""
        return self._max_age_ms

    @max_age_ms.setter
    def max_age_ms(self, value: float) -> None:
        if not value > 0:
            raise ParameterError(f"max_age_ms must be positive, got {value}")
        self._max_age_ms = value

    def offer(self, frame: T) -> None:
        """Hand over a frame; never blocks on the worker."""
        with self._changed:
            self._stats.count_received()
            dropped: T | None
            if self._stopping:
                dropped, cause = frame, SHUTDOWN
            else:
                dropped, cause = self._waiting, SUPERSEDED
                self._waiting = frame
                self._changed.notify()
        if dropped is not None:
            self._drop(dropped, cause)

    def skip(self, cause: str = SUPERSEDED) -> None:
        """Count a frame that was given up before it got here."""
        self._stats.count_received()
        self._stats.count_dropped(cause)

    def stop(self, timeout: float = 10.0) -> bool:
        """Drop the waiting frame and let the one in work finish.

        Args:
            timeout: Seconds to wait for the frame in work.

        Returns:
            Whether the worker has ended.
        """
        with self._changed:
            self._stopping = True
            leftover, self._waiting = self._waiting, None
            self._changed.notify()
        if leftover is not None:
            self._drop(leftover, SHUTDOWN)
        if self._worker is not threading.current_thread():
            self._worker.join(timeout)
        return not self._worker.is_alive()

    def _work(self) -> None:
        self._prepare()
        while (frame := self._take()) is not None:
            start = time.perf_counter()
            try:
                if self._age_ms(frame) > self._max_age_ms:
                    raise FrameDroppedError(TOO_OLD)
                self._process(frame)
                age_ms = self._age_ms(frame)
            except Exception as error:  # noqa: BLE001 - one frame must never end the worker; it is counted and told
                self._drop(frame, find_drop_cause(error), error)
            else:
                self._stats.count_published(age_ms=age_ms, processing_ms=1e3 * (time.perf_counter() - start))
                self._on_done(frame, "", None)
            del frame  # its pixels and features need not wait for the next one

    def _take(self) -> T | None:
        with self._changed:
            while self._waiting is None and not self._stopping:
                self._changed.wait()
            frame, self._waiting = self._waiting, None
            return frame

    def _drop(self, frame: T, cause: str, error: Exception | None = None) -> None:
        self._stats.count_dropped(cause)
        self._on_done(frame, cause, error)
