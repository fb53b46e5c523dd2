"""Prompts encoded beside the frames: the newest request wins, and a failure is told, not lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PromptWorker(Generic[T]):
    """A thread that handles the newest request and forgets those that were overtaken.

    Args:
        handle: Called in the thread, one request at a time.
        on_error: Called in the thread with what `handle` raised; the thread goes on.
        name: Thread name.
    """

    def __init__(self, handle: Callable[[T], None], on_error: Callable[[Exception], None], *, name: str) -> None:
        self._handle, self._on_error = handle, on_error
        self._wake = threading.Condition()
        self._request: tuple[T] | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, request: T) -> None:
        """Hand over a request; returns at once."""
        with self._wake:
            self._request = (request,)
            self._wake.notify()

    def stop(self) -> None:
        """Finish the request in work, drop the one that waits, end the thread; safe to call more than once."""
        with self._wake:
            self._stopped = True
            self._wake.notify()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout=30)

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._stopped or self._request is not None)
                if self._stopped or self._request is None:
                    return
                (request,) = self._request
                self._request = None
            try:
                self._handle(request)
            except Exception as error:  # noqa: BLE001 - told by on_error; the next request must find the thread alive
                self._on_error(error)
