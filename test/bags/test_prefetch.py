"""A generator in a thread: the same items, its errors, and its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator

import pytest
from waiting import wait_for

from objloc_ros.bags.prefetch import QUEUE_ITEMS, prefetch


class Source:
    """Counts what was made, and whether it was closed in the thread that made it."""

    def __init__(self, count: int, *, fails: bool = False) -> None:
        self.count, self.fails = count, fails
        self.made, self.closed = 0, False

    def items(self) -> Generator[int, None, None]:
        maker = threading.get_ident()
        assert maker != threading.main_thread().ident
        try:
            for number in range(self.count):
                self.made += 1
                yield number
            if self.fails:
                raise KeyError("broken")
        finally:
            self.closed = threading.get_ident() == maker


def test_all_items_come_in_their_order() -> None:
    source = Source(50)
    with prefetch(source.items()) as items:
        assert list(items) == list(range(50))
    assert source.closed


def test_an_error_comes_after_the_items_before_it() -> None:
    source = Source(3, fails=True)
    with prefetch(source.items()) as items:
        assert [next(items) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(KeyError, match="broken"):
            next(items)
    assert source.closed


def test_only_a_few_wait() -> None:
    source = Source(100)
    with prefetch(source.items()) as items:
        next(items)
        wait_for(lambda: source.made >= QUEUE_ITEMS + 2)
        time.sleep(0.05)  # for one too many
        assert source.made == QUEUE_ITEMS + 2, "one taken, some waiting, one in hand"
    assert source.closed


def test_an_error_of_the_taker_ends_the_thread() -> None:
    source, before = Source(10_000), threading.active_count()

    def take_one() -> None:
        with prefetch(source.items()) as items:
            raise ZeroDivisionError(next(items))

    with pytest.raises(ZeroDivisionError):
        take_one()
    assert source.closed
    assert threading.active_count() == before
