import mmap

import pytest
from waiting import wait_for

from objloc_ros.engine.frame_stats import FrameStats, Percentiles, Snapshot
from objloc_ros.nodes.diagnostics import Diagnoser, Report, device_memory_mb
from objloc_ros.nodes.log import Throttle

OK, WARN, ERROR = b"\x00", b"\x01", b"\x02"


def report(dropped=None, **changes):
    frames = Snapshot(received=10, published=10 - sum((dropped or {}).values()), dropped=dropped or {})
    return Report(**{"state": "running", "frames": frames, **changes})


@pytest.mark.parametrize(
    ("before", "now", "level", "words"),
    [
        ({}, report(), OK, ("running",)),
        ({}, report({"superseded": 5, "not_wanted": 1}), OK, ("running",)),  # normal under load
        ({}, report({"too_old": 2}), WARN, ("too late", "too_old 2")),
        ({}, report({"encoding": 2, "too_old": 1}), WARN, ("unusable", "encoding 2", "too_old 1")),
        ({"encoding": 2}, report({"encoding": 2}), OK, ("running",)),  # old news
        ({"encoding": 2}, report({"encoding": 3}), WARN, ("encoding 1",)),
        ({}, report(input_problem="no publisher of '/image'"), WARN, ("no publisher",)),
        ({}, report({"processing_error": 1, "size": 1}, last_error="out of memory"), ERROR, ("1", "out of memory")),
        ({}, report({"out_of_memory": 3}, last_error="no room"), ERROR, ("3", "no room")),
        ({}, report(state="not active"), OK, ("not active",)),
    ],
)
def test_level_and_headline(before, now, level, words):
    diagnoser = Diagnoser("/front/found")
    diagnoser.make_status(report(before))
    status = diagnoser.make_status(now)
    assert status.level == level
    assert all(word in status.message for word in words), status.message
    assert status.name == "/front/found: perception"


def test_all_figures_are_told():
    frames = Snapshot(
        received=9,
        published=5,
        dropped={"superseded": 2, "size": 1},
        in_flight=1,
        age_ms=Percentiles(10.04, 20, 30),
        processing_ms=Percentiles(1, 2, 3),
        rate_in=29.97,
        rate_out=14.0,
    )
    engine = {"device": "cuda:0", "backbone": "tiny"}
    status = Diagnoser("/found").make_status(Report("running", frames, engine, last_error="size: 3 bytes"))
    assert {pair.key: pair.value for pair in status.values} == {
        "state": "running",
        "rate_in_hz": "30.0",
        "rate_out_hz": "14.0",
        "age_ms_p50": "10.0",
        "age_ms_p95": "20.0",
        "age_ms_p99": "30.0",
        "processing_ms_p50": "1.0",
        "processing_ms_p95": "2.0",
        "processing_ms_p99": "3.0",
        "received": "9",
        "published": "5",
        "in_flight": "1",
        "dropped": "3",
        "dropped.size": "1",
        "dropped.superseded": "2",
        "device": "cuda:0",
        "backbone": "tiny",
        "last_error": "size: 3 bytes",
    }
    assert status.hardware_id == "cuda:0"


def test_a_real_record_is_told_without_further_ado():
    stats = FrameStats()
    stats.count_received()
    stats.count_dropped("encoding")
    assert Diagnoser("/found").make_status(Report("running", stats.snapshot())).level == WARN


def test_memory_of_the_process_grows_with_what_it_holds():
    before = device_memory_mb("cpu")
    with mmap.mmap(-1, 64 * 2**20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as ballast:  # the heap may have room
        ballast.write(b"\1" * len(ballast))
        wait_for(lambda: device_memory_mb("cpu") - before > 50)  # some kernels and sandboxes count now and then


def test_once_per_cause_and_minute():
    now = [0.0]
    throttle = Throttle(clock=lambda: now[0])
    assert throttle.ready("encoding") == (True, 0)
    assert [throttle.ready("encoding") for _ in range(3)] == [(False, 0)] * 3
    assert throttle.ready("size") == (True, 0)
    now[0] = 59.9
    assert throttle.ready("encoding") == (False, 0)
    now[0] = 60.0
    assert throttle.ready("encoding") == (True, 4)
    now[0] = 120.0
    assert throttle.ready("encoding") == (True, 0)
