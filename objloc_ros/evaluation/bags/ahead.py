"""Reading beside the work: a thread makes the next items while the last one is worked on; their order stays."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

DEPTH = 3

_END = object()


@contextmanager
def ahead(items: Generator[T, None, None], depth: int = DEPTH) -> Iterator[Iterator[T]]:
    """Run a generator in a thread of its own.

    Args:
        items: Used, and closed, by that thread alone from now on.
        depth: Items that wait, at most.

    Yields:
        The same items in the same order. What the generator raises is raised where its next item was expected. The
        thread has ended when the block is left, also if not all items were taken.
    """
    waiting: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(depth)
    stop = threading.Event()

    def put(item: Any, error: BaseException | None = None) -> None:
        while not stop.is_set():
            try:
                waiting.put((item, error), timeout=0.1)
                return
            except queue.Full:
                continue

    def make() -> None:
        try:
            with closing(items):
                for item in items:
                    put(item)
                    if stop.is_set():
                        return
            put(_END)
        except BaseException as error:  # noqa: BLE001 whatever it is belongs to whoever takes the items
            put(_END, error)

    def take() -> Iterator[T]:
        while True:
            item, error = waiting.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item

    thread = threading.Thread(target=make, name="ahead", daemon=True)
    thread.start()
    try:
        yield take()
    finally:
        stop.set()
        thread.join()
