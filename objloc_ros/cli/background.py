"""Work handed to a thread, so that who hands it over need not wait."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any


class Background:
    """Calls a function with one set of arguments after the other, in a thread of its own.

    Leaving the `with` block waits for the calls still to come, unless an exception leaves it: then they are dropped.

    Args:
        work: Called in the order of `submit`. Its first exception ends the work and is raised by the next `submit` or
            at the end of the block.
    """

    def __init__(self, work: Callable[..., object]) -> None:
        self._work = work
        self._queue: queue.SimpleQueue[tuple[Any, ...] | None] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._dropping = False
        self._thread = threading.Thread(target=self._run, name="background", daemon=True)

    def submit(self, *arguments: Any) -> None:
        """Hand over the arguments of one call."""
        self._raise()
        self._queue.put(arguments)

    def __enter__(self) -> Background:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._dropping = kind is not None
        self._queue.put(None)
        self._thread.join()
        if kind is None:
            self._raise()

    def _run(self) -> None:
        while (arguments := self._queue.get()) is not None:
            if self._dropping or self._error is not None:
                continue
            try:
                self._work(*arguments)
            except Exception as error:  # noqa: BLE001 - raised in the thread that submits
                self._error = error

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error
