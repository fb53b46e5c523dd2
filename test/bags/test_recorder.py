"""Writing in the background: in order, complete, and its errors not lost."""

from __future__ import annotations

import threading
import time

import pytest

pytest.importorskip("rclpy")

from objloc_ros.bags.recorder import BackgroundWriter


def test_all_is_done_in_order_before_the_end():
    done = []

    def work(value):
        time.sleep(0.001)
        done.append(value)

    with BackgroundWriter(work) as background:
        start = time.perf_counter()
        for i in range(100):
            background.submit(i)
        assert time.perf_counter() - start < 0.05
    assert done == list(range(100))


def test_an_error_ends_the_work_and_is_raised_at_the_end():
    go, done = threading.Event(), []

    def work(value):
        assert go.wait(60)
        done.append(10 // value)

    def submit():
        with BackgroundWriter(work) as background:
            for value in (5, 0, 2):
                background.submit(value)
            go.set()

    with pytest.raises(ZeroDivisionError):
        submit()
    assert done == [2]


def test_an_error_is_raised_by_the_next_submit():
    def submit():
        with BackgroundWriter(lambda: 1 / 0) as background:
            for _ in range(1000):
                background.submit()
                time.sleep(0.005)

    start = time.monotonic()
    with pytest.raises(ZeroDivisionError):
        submit()
    assert time.monotonic() - start < 2


def test_an_error_of_the_caller_drops_what_is_waiting():
    go, done = threading.Event(), []

    def work(value):
        go.wait(5)
        done.append(value)

    def submit():
        with BackgroundWriter(work) as background:
            for i in range(10):
                background.submit(i)
            threading.Timer(0.05, go.set).start()
            raise KeyError("caller")

    with pytest.raises(KeyError, match="caller"):
        submit()
    assert len(done) <= 1
