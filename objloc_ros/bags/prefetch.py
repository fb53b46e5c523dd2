"""Prefetching: a generator runs a few items ahead in a thread of its own, so that reading and work overlap."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

QUEUE_ITEMS = 3
"""Items read ahead unless something else is said."""

STOP_POLL_S = 0.1
"""How often a thread that waits for room in a full queue looks whether the items are still wanted, in seconds."""

_END = object()


@contextmanager
def prefetch(items: Generator[T, None, None], size: int = QUEUE_ITEMS) -> Iterator[Iterator[T]]:
    """Run a generator in a thread of its own.

    Args:
        items: From now on used and closed by that thread alone.
        size: Greatest number of items read ahead.

    Yields:
        The same items in the same order. An exception of the generator is raised where its next item was expected. The
        thread has ended when the block is left, even if some items were not taken.
    """
    fetched: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(size)
    stop = threading.Event()

    def put(item: Any, error: BaseException | None = None) -> None:
        while not stop.is_set():
            try:
                fetched.put((item, error), timeout=STOP_POLL_S)
                return
            except queue.Full:
                continue

    def produce() -> None:
        try:
            with closing(items):
                for item in items:
                    put(item)
                    if stop.is_set():
                        return
            put(_END)
        except BaseException as error:  # noqa: BLE001 whatever it is belongs to whoever takes the items
            put(_END, error)

    def consume() -> Iterator[T]:
        while True:
            item, error = fetched.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item

    thread = threading.Thread(target=produce, name="prefetch", daemon=True)
    thread.start()
    try:
        yield consume()
    finally:
        stop.set()
        thread.join()
