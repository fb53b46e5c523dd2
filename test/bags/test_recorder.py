"""Writing in the background: in order, complete, and its errors not lost."""

from __future__ import annotations

import itertools
import threading

import pytest
from waiting import PATIENCE_S

pytest.importorskip("rclpy")

from objloc_ros.bags.recorder import BackgroundWriter


def test_who_submits_waits_for_nothing_and_all_is_done_in_order_before_the_end():
    go, done = threading.Event(), []

    def work(value):
        assert go.wait(PATIENCE_S)
        done.append(value)

    with BackgroundWriter(work) as background:
        for i in range(100):
            background.submit(i)
        assert done == []
        go.set()
    assert done == list(range(100))


def test_an_error_ends_the_work_and_is_raised_at_the_end():
    go, done = threading.Event(), []

    def work(value):
        assert go.wait(PATIENCE_S)
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
            for _ in itertools.count():  # until it has happened
                background.submit()

    with pytest.raises(ZeroDivisionError):
        submit()


def test_an_error_of_the_caller_drops_what_is_waiting(monkeypatch):
    go, done, join = threading.Event(), [], threading.Thread.join

    def work(value):
        assert go.wait(PATIENCE_S)
        done.append(value)

    def let_go_and_join(thread):
        go.set()
        join(thread)

    monkeypatch.setattr(threading.Thread, "join", let_go_and_join)  # which is how the block ends

    def submit():
        with BackgroundWriter(work) as background:
            for i in range(10):
                background.submit(i)
            raise KeyError("caller")

    with pytest.raises(KeyError, match="caller"):
        submit()
    assert len(done) <= 1
