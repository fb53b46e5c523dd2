"""One worker for many callers: batches, fairness, errors that hit one batch, and devices that run out of memory."""

import threading
import time

import pytest

from objloc_ros.engine.lane import RECOVERY, Lane, OutOfMemoryError
from objloc_ros.errors import ParameterError


class Device:
    """Runs batches once it is let, remembers them, and has room for so many items."""

    def __init__(self, room=100):
        self.room, self.calls, self.gate = room, [], threading.Event()

    def run(self, kind, items):
        self.gate.wait(5)
        if len(items) > self.room:
            raise MemoryError(f"no room for {len(items)}")
        self.calls.append((kind, list(items)))
        if "bad" in items:
            raise ArithmeticError("bad item")
        return [(kind, item) for item in items]


@pytest.fixture
def device():
    return Device()


@pytest.fixture
def make(device):
    lanes = []

    def make(**options):
        lanes.append(Lane(device.run, **options))
        return lanes[-1]

    yield make
    device.gate.set()
    assert [lane.stop(5) for lane in lanes] == [True] * len(lanes)


def occupied(lane, device):
    """A request that keeps the worker busy until the gate opens."""
    first = lane.submit("first", "warm", 0)
    while lane._waiting:
        time.sleep(0.001)
    return first


def test_what_waits_goes_together_if_it_is_alike(make, device):
    lane = make()
    occupied(lane, device)
    futures = [lane.submit(f"camera{i}", "small" if i % 2 else "large", i) for i in range(5)]
    device.gate.set()
    assert [future.result(5) for future in futures] == [("small" if i % 2 else "large", i) for i in range(5)]
    assert device.calls == [("warm", [0]), ("large", [0, 2, 4]), ("small", [1, 3])]


def test_a_batch_has_a_largest_size(make, device):
    lane = make(max_batch=2)
    occupied(lane, device)
    futures = [lane.submit(f"camera{i}", "k", i) for i in range(5)]
    device.gate.set()
    assert [future.result(5)[1] for future in futures] == list(range(5))
    assert [len(items) for _, items in device.calls] == [1, 2, 2, 1]


def test_a_fast_client_does_not_starve_a_slow_one(make, device):
    lane = make(max_batch=1)
    occupied(lane, device)
    greedy = [lane.submit("60 Hz", "k", f"fast{i}") for i in range(20)]
    slow = lane.submit("5 Hz", "k", "slow")
    device.gate.set()
    slow.result(5)
    greedy[-1].result(5)
    order = [items[0] for _, items in device.calls]
    assert order.index("slow") <= 2  # at most one of the others, which came first, and none after it


def test_every_client_gets_its_turn(make, device):
    device.gate.set()
    served = {"60 Hz": 0, "5 Hz": 0, "other size": 0}
    lane = Lane(lambda kind, items: (time.sleep(0.002), items)[1], max_batch=1)
    end = time.monotonic() + 0.6

    def camera(name, period, kind):
        while time.monotonic() < end:
            lane.submit(name, kind, name).result(5)
            served[name] += 1
            time.sleep(period)

    threads = [
        threading.Thread(target=camera, args=case)
        for case in (("60 Hz", 0.0, "k"), ("5 Hz", 0.1, "k"), ("other size", 0.0, "l"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    lane.stop()
    assert served["5 Hz"] >= 4  # of about 6 that it asked for
    assert min(served["60 Hz"], served["other size"]) > 0.5 * max(served["60 Hz"], served["other size"])


def test_an_error_hits_its_own_batch_only(make, device):
    lane = make()
    occupied(lane, device)
    bad, beside, other = lane.submit("a", "k", "bad"), lane.submit("b", "k", 1), lane.submit("c", "l", 2)
    device.gate.set()
    for future in (bad, beside):
        with pytest.raises(ArithmeticError, match="bad item"):
            future.result(5)
    assert other.result(5) == ("l", 2)
    assert lane.submit("a", "k", 3).result(5) == ("k", 3)


def test_a_device_without_room_gets_smaller_batches(make, device):
    device.room = 2
    lane = make()
    occupied(lane, device)
    futures = [lane.submit(f"camera{i}", "k", i) for i in range(6)]
    device.gate.set()
    assert [future.result(5)[1] for future in futures] == list(range(6))
    assert max(len(items) for _, items in device.calls) <= 2
    assert lane.limit <= 3


def test_no_room_for_one_is_said_and_passes_when_memory_returns(make, device):
    device.room, lane = 0, make()
    device.gate.set()
    with pytest.raises(OutOfMemoryError, match="no memory for a single frame: no room for 1") as caught:
        lane.submit("a", "k", 1).result(5)
    assert caught.value.cause == "out_of_memory"
    assert lane.limit == 1
    device.room = 100
    for number in range(4 * RECOVERY):
        assert lane.submit("a", "k", number).result(5) == ("k", number)
    assert lane.limit == 8


def test_stopping_cancels_what_waits_and_finishes_what_runs(device):
    lane = Lane(device.run)
    running = occupied(lane, device)
    waiting = lane.submit("b", "k", 1)
    assert not lane.stop(0.05)
    assert waiting.cancelled()
    with pytest.raises(RuntimeError, match="stopped"):
        lane.submit("b", "k", 2)
    device.gate.set()
    assert running.result(5) == ("warm", 0)
    assert lane.stop(5)


def test_a_batch_of_none_is_refused():
    with pytest.raises(ParameterError, match="max_batch must be at least 1, got 0"):
        Lane(lambda kind, items: items, max_batch=0)


def test_clients_that_are_always_ready_come_to_go_together():
    calls = []

    def run(kind, items):
        time.sleep(0.03)
        calls.append(len(items))
        return items

    lane, end = Lane(run), time.monotonic() + 0.6

    def client(name):
        while time.monotonic() < end:
            lane.submit(name, "k", name).result(5)
            time.sleep(0.001)  # what it does with its answer

    threads = [threading.Thread(target=client, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
        time.sleep(0.01)  # they start out taking turns
    for thread in threads:
        thread.join(5)
    lane.stop()
    assert calls.count(2) > len(calls) / 2


def test_a_client_that_went_away_is_not_waited_for_every_time(make, device):
    device.gate.set()
    lane = Lane(lambda kind, items: (time.sleep(0.02), items)[1])
    together = [lane.submit("a", "k", 1), lane.submit("gone", "k", 2)]
    assert [future.result(5) for future in together] == [1, 2]
    lane.submit("a", "k", 3).result(5)
    limit = time.monotonic() + 5
    while not lane._impatient and time.monotonic() < limit:
        lane.submit("a", "k", 4).result(5)
    assert lane._impatient > 0
    lane.stop()
