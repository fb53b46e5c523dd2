import numpy as np
import pytest

from objloc_ros.engine.frame_stats import MAX_SAMPLES, FrameStats, Percentiles, percentiles


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_counts_follow_the_frames():
    stats = FrameStats()
    for _ in range(5):
        stats.received()
    stats.published(age_ms=10.0, processing_ms=4.0)
    stats.dropped("superseded")
    stats.dropped("superseded")
    stats.dropped("too_old")
    got = stats.snapshot()
    assert (got.received, got.published, dict(got.dropped), got.in_flight) == (
        5, 1, {"superseded": 2, "too_old": 1}, 1,
    )  # fmt: skip


def test_a_snapshot_does_not_change_afterwards():
    stats = FrameStats()
    stats.received()
    before = stats.snapshot()
    stats.dropped("late")
    assert (before.in_flight, dict(before.dropped)) == (1, {})
    with pytest.raises(TypeError):
        before.dropped["late"] = 3


def test_percentiles_are_interpolated() -> None:
    assert percentiles([]) == percentiles(np.zeros(0)) == {}
    assert percentiles(np.arange(101.0)) == {"p50": 50.0, "p95": 95.0, "p99": 99.0}
    assert percentiles({"a": 0.0, "b": 10.0}.values(), (50, 95)) == {"p50": 5.0, "p95": 9.5}


@pytest.mark.parametrize(
    ("ages", "expected"),
    [
        ([], (0.0, 0.0, 0.0)),
        ([7.0], (7.0, 7.0, 7.0)),
        (list(range(101)), (50.0, 95.0, 99.0)),
    ],
)
def test_the_ages_of_published_frames(ages, expected):
    stats = FrameStats()
    for age in ages:
        stats.received()
        stats.published(age_ms=age, processing_ms=1.0)
    got = stats.snapshot().age_ms
    assert (got.p50, got.p95, got.p99) == pytest.approx(expected)


def test_the_window_of_ages_is_bounded_and_forgettable():
    stats = FrameStats()
    for age in [1e6] * 50 + [2.0] * MAX_SAMPLES:
        stats.received()
        stats.published(age_ms=age, processing_ms=1.0)
    assert stats.snapshot().age_ms == Percentiles(2.0, 2.0, 2.0)
    stats.forget_ages()
    assert stats.snapshot().age_ms == Percentiles()
    assert stats.snapshot().published == MAX_SAMPLES + 50


@pytest.mark.parametrize(
    ("hz", "seconds"),
    [(10, 20), (30, 3), (400, 20)],  # a filled window, one still filling, more events than are kept
)
def test_rates(hz, seconds):
    clock = Clock()
    stats = FrameStats(clock)
    for _ in range(hz * seconds):
        clock.now += 1 / hz
        stats.received()
    assert stats.snapshot().rate_in == pytest.approx(hz, rel=0.03)
    assert stats.snapshot().rate_out == 0.0
    clock.now += 60
    assert stats.snapshot().rate_in == 0.0
