import pytest

from objloc_ros.engine.frame_stats import AgeClock, StampAnomaly, VideoClock

S = 1_000_000_000


class Times:
    """Two clocks that the test moves."""

    def __init__(self, node_ns):
        self.node_ns, self.steady_ns = node_ns, 7 * S

    def ages(self):
        return AgeClock(lambda: self.node_ns, lambda: self.steady_ns)

    def advance(self, ns):
        self.node_ns += ns
        self.steady_ns += ns


@pytest.mark.parametrize(
    ("node_ns", "stamp_ns", "age_ms", "anomaly"),
    [
        (100 * S, 100 * S - S // 10, 150.0, None),  # 100 ms on the way, 50 ms here
        (100 * S, 100 * S + S // 100, 50.0, None),  # a camera clock slightly ahead: age from arrival
        (100 * S, 0, 50.0, StampAnomaly.ZERO_STAMP),
        (1000 * S, 3 * S, 50.0, StampAnomaly.OTHER_CLOCK),  # a recording played without its clock
        (0, 1000 * S, 50.0, StampAnomaly.OTHER_CLOCK),  # simulated time that has not started
        (100 * S, 91 * S, 9050.0, None),  # really old
    ],
)
def test_age_fifty_ms_after_arrival(node_ns, stamp_ns, age_ms, anomaly):
    times = Times(node_ns)
    ages = times.ages()
    arrival = ages.arrive(stamp_ns)
    times.advance(50_000_000)
    assert ages.age_ms(arrival) == pytest.approx(age_ms)
    assert arrival.anomaly is anomaly


def test_a_clock_that_jumps_back_in_flight_leaves_the_age_positive():
    times = Times(100 * S)
    ages = times.ages()
    arrival = ages.arrive(100 * S - 20_000_000)
    times.advance(30_000_000)
    times.node_ns = 2 * S
    assert ages.age_ms(arrival) == pytest.approx(50.0)


def test_a_looped_recording_is_noticed_once_per_loop_and_its_frames_stay_young():
    times = Times(50 * S)
    ages = times.ages()
    anomalies = []
    for _ in range(2):
        times.node_ns = 50 * S
        for _ in range(5):
            times.advance(S // 10)
            arrival = ages.arrive(times.node_ns)
            anomalies.append(arrival.anomaly)
            assert ages.age_ms(arrival) == 0.0
    assert anomalies == [None] * 5 + [StampAnomaly.JUMPED_BACK] + [None] * 4


def test_frames_that_overtake_each_other_are_no_jump():
    times = Times(50 * S)
    ages = times.ages()
    ages.arrive(50 * S)
    assert ages.arrive(50 * S - 40_000_000).anomaly is None


@pytest.mark.parametrize(
    ("step_ns", "one_video"),
    [
        (0, True),
        (S // 30, True),
        (5 * S, True),
        (5 * S + 1, False),
        (-S // 10, True),
        (-S // 10 - 1, False),
        (-7 * S, False),
    ],
)
def test_a_video_goes_on_until_time_jumps(step_ns, one_video):
    clock = VideoClock()
    assert not clock.jumps_to(100 * S), "the first frame is no jump"
    assert clock.jumps_to(100 * S + step_ns) is not one_video
    assert not clock.jumps_to(100 * S + step_ns), "the new time is the one that goes on"
