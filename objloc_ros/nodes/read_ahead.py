"""Reading ahead of a player, so that it need not wait for the disk, within a bounded memory."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from types import TracebackType
from typing import NamedTuple


class Recorded(NamedTuple):
    """A message as a bag holds it.

    Args:
        topic: Full topic name.
        stamp_ns: Time of recording, nanoseconds.
        data: CDR bytes.
    """

    topic: str
    stamp_ns: int
    data: bytes


class ReadAhead:
    """Takes messages from an iterator in a thread of its own, a bounded number of bytes ahead of who plays them.

    Use it in a `with` block. Leaving it closes an iterator that is a generator, in its own thread.

    Args:
        messages: What to read.
        limit: Bytes that may wait; a single larger message is read nevertheless.
    """

    def __init__(self, messages: Iterable[Recorded], limit: int = 64 << 20) -> None:
        self._messages, self._limit = messages, limit
        self._changed = threading.Condition()
        self._waiting: deque[Recorded] = deque()
        self._bytes = 0
        self._ended = self._leaving = False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._read, name="read-ahead", daemon=True)

    @property
    def waiting_bytes(self) -> int:
        """Bytes read and not yet taken."""
        return self._bytes

    def take(self, timeout_s: float) -> Recorded | None:
        """Take the next message.

        Args:
            timeout_s: Seconds to wait for it.

        Returns:
            The message; None after the last one.

        Raises:
            TimeoutError: It has not been read in time; try again.
            Exception: What the iterator raised, after everything before it has been taken.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting or self._ended, max(timeout_s, 0.0)):
                raise TimeoutError
            if not self._waiting:
                if self._error is not None:
                    raise self._error
                return None
            message = self._waiting.popleft()
            self._bytes -= len(message.data)
            self._changed.notify_all()
            return message

    def __enter__(self) -> ReadAhead:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._leaving = True
            self._changed.notify_all()
        self._thread.join()

    def _read(self) -> None:
        try:
            for message in self._messages:
                if not self._keep(message):
                    break
        except Exception as error:  # noqa: BLE001 - raised where the messages are taken
            self._error = error
        finally:
            close = getattr(self._messages, "close", None)
            if close is not None:
                close()
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _keep(self, message: Recorded) -> bool:
        """Add a message as soon as there is room; false when nobody wants it any more."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._leaving or not self._waiting or self._bytes + len(message.data) <= self._limit
            )
            self._waiting.append(message)
            self._bytes += len(message.data)
            self._changed.notify_all()
            return not self._leaving
