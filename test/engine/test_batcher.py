"""One worker for many callers: batches, fairness, errors that hit one batch, and devices that run out of memory."""

import threading
import time
import weakref
from itertools import pairwise

import pytest
from waiting import PATIENCE_S, wait_for

from objloc_ros.engine.batcher import MIN_GOOD_BATCHES, DynamicBatcher, OutOfMemoryError
from objloc_ros.errors import ParameterError


class Device:
    """Runs batches once it is let, remembers them, and has room for so many items."""

    def __init__(self, room=100):
        self.room, self.calls = room, []
        self.entered, self.gate = threading.Event(), threading.Event()

    def run(self, kind, items, exclusive):
        self.entered.set()
        assert self.gate.wait(PATIENCE_S)
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
    batchers = []

    def make(**options):
        batchers.append(DynamicBatcher(device.run, **options))
        return batchers[-1]

    yield make
    device.gate.set()
    assert [batcher.stop(PATIENCE_S) for batcher in batchers] == [True] * len(batchers)


def occupied(batcher, device):
    """A request that keeps the worker busy until the gate opens."""
    first = batcher.submit("first", "warm", 0)
    assert device.entered.wait(PATIENCE_S)
    return first


def test_what_waits_goes_together_if_it_is_alike(make, device):
    batcher = make()
    occupied(batcher, device)
    futures = [batcher.submit(f"camera{i}", "small" if i % 2 else "large", i) for i in range(5)]
    device.gate.set()
    assert [future.result(PATIENCE_S) for future in futures] == [("small" if i % 2 else "large", i) for i in range(5)]
    assert device.calls == [("warm", [0]), ("large", [0, 2, 4]), ("small", [1, 3])]


def test_a_batch_has_a_largest_size(make, device):
    batcher = make(max_batch=2)
    occupied(batcher, device)
    futures = [batcher.submit(f"camera{i}", "k", i) for i in range(5)]
    device.gate.set()
    assert [future.result(PATIENCE_S)[1] for future in futures] == list(range(5))
    assert [len(items) for _, items in device.calls] == [1, 2, 2, 1]


def test_a_fast_client_does_not_starve_a_slow_one(make, device):
    batcher = make(max_batch=1)
    occupied(batcher, device)
    greedy = [batcher.submit("60 Hz", "k", f"fast{i}") for i in range(20)]
    slow = batcher.submit("5 Hz", "k", "slow")
    device.gate.set()
    slow.result(PATIENCE_S)
    greedy[-1].result(PATIENCE_S)
    order = [items[0] for _, items in device.calls]
    assert order.index("slow") <= 2  # at most one of the others, which came first, and none after it


def test_every_client_gets_its_turn():
    """Two clients ask again as soon as they are answered, one of them in another size; a third one now and then."""
    kinds = {"60 Hz": "k", "other size": "l", "5 Hz": "k"}
    asked, order = {}, []
    entered, leave = threading.Semaphore(0), threading.Semaphore(0)

    def run(kind, items, exclusive):
        order.extend(items)
        entered.release()
        assert leave.acquire(timeout=PATIENCE_S)
        return items

    def ask(name):
        asked[name] = batcher.submit(name, kinds[name], name)

    batcher = DynamicBatcher(run, max_batch=1)
    ask("60 Hz")
    ask("other size")
    for turn in range(40):
        assert entered.acquire(timeout=PATIENCE_S)
        if turn % 10 == 5:
            ask("5 Hz")
        leave.release()
        name = order[turn]
        assert asked[name].result(PATIENCE_S) == name
        if name != "5 Hz":
            ask(name)  # while the next one runs
    leave.release()
    assert batcher.stop(PATIENCE_S)
    assert [turn for turn, name in enumerate(order[:40]) if name == "5 Hz"] == [6, 16, 26, 36], "it had waited longest"
    assert all(one != other for one, other in pairwise(name for name in order if name != "5 Hz"))


def test_an_error_hits_its_own_batch_only(make, device):
    batcher = make()
    occupied(batcher, device)
    bad, beside, other = batcher.submit("a", "k", "bad"), batcher.submit("b", "k", 1), batcher.submit("c", "l", 2)
    device.gate.set()
    for future in (bad, beside):
        with pytest.raises(ArithmeticError, match="bad item"):
            future.result(PATIENCE_S)
    assert other.result(PATIENCE_S) == ("l", 2)
    assert batcher.submit("a", "k", 3).result(PATIENCE_S) == ("k", 3)


def test_a_device_without_room_gets_smaller_batches(make, device):
    device.room = 2
    batcher = make()
    occupied(batcher, device)
    futures = [batcher.submit(f"camera{i}", "k", i) for i in range(6)]
    device.gate.set()
    assert [future.result(PATIENCE_S)[1] for future in futures] == list(range(6))
    assert max(len(items) for _, items in device.calls) <= 2
    assert batcher.limit <= 3


def test_a_batch_that_did_not_fit_goes_in_halves_and_whole_again_later(device, make, monkeypatch):
    """Eight cameras, room for three, then for all: nobody's answer is lost, another's, or later than its turn."""
    monkeypatch.setattr("objloc_ros.engine.batcher.MIN_GOOD_BATCHES", 10)
    batcher = make()

    def ask_all(turn):
        """All cameras at once, while the worker is busy."""
        device.gate.clear()
        device.entered.clear()
        device.calls.clear()
        first = occupied(batcher, device)
        asked = [batcher.submit(f"camera{i}", "k", (turn, i)) for i in range(8)]
        device.gate.set()
        assert first.result(PATIENCE_S) == ("warm", 0)
        assert [future.result(PATIENCE_S) for future in asked] == [("k", (turn, i)) for i in range(8)]
        batches = [items for kind, items in device.calls if kind == "k"]
        assert [item for items in batches for item in items] == [(turn, i) for i in range(8)]
        return [len(items) for items in batches]

    device.room = 3
    assert ask_all("tight") == [2, 2, 2, 2]
    assert batcher.limit == 2
    device.room = 100
    while batcher.limit == 2:
        batcher.submit("first", "k", 0).result(PATIENCE_S)
        assert len(device.calls) < 20
    assert batcher.limit == 4
    assert ask_all("roomier") == [4, 4]
    while batcher.limit == 4:
        batcher.submit("first", "k", 0).result(PATIENCE_S)
        assert len(device.calls) < 20
    assert ask_all("roomy") == [8]


def test_what_a_failed_call_held_is_free_before_its_halves_run():
    """Python keeps the frames of an error while it is handled, and with them the memory that the call had taken."""

    class Memory:
        pass

    held, still_held = [], []

    def run(kind, items, exclusive):
        still_held.append([memory for memory in held if memory() is not None])
        taken = Memory()
        held.append(weakref.ref(taken))
        if len(items) > room[0]:
            raise MemoryError(f"no room for {len(items)} beside {taken}")
        return items

    room = [1]
    entered, gate = threading.Event(), threading.Event()

    def run_gated(kind, items, exclusive):
        entered.set()
        assert gate.wait(PATIENCE_S)
        return run(kind, items, exclusive)

    batcher = DynamicBatcher(run_gated)
    futures = [batcher.submit("first", "k", 0)]
    assert entered.wait(PATIENCE_S)
    futures += [batcher.submit(f"camera{i}", "k", i) for i in range(1, 5)]
    gate.set()
    assert [future.result(PATIENCE_S) for future in futures] == list(range(5))
    room[0] = 0
    with pytest.raises(OutOfMemoryError, match="no room for 1"):
        batcher.submit("first", "k", 0).result(PATIENCE_S)
    assert len(held) == 9  # 1; 4, 2, 1, 1, 2, 1, 1; 1
    assert not any(still_held)
    assert all(memory() is None for memory in held)
    assert batcher.stop(PATIENCE_S)


def test_no_room_for_one_is_said_and_passes_when_memory_returns(make, device):
    device.room, batcher = 0, make()
    device.gate.set()
    with pytest.raises(OutOfMemoryError, match="no memory for a single frame: no room for 1") as caught:
        batcher.submit("a", "k", 1).result(PATIENCE_S)
    assert caught.value.cause == "out_of_memory"
    assert batcher.limit == 1
    device.room = 100
    for number in range(4 * MIN_GOOD_BATCHES):
        assert batcher.submit("a", "k", number).result(PATIENCE_S) == ("k", number)
    assert batcher.limit == 8


def test_stopping_cancels_what_waits_and_finishes_what_runs(device):
    batcher = DynamicBatcher(device.run)
    running = occupied(batcher, device)
    waiting = batcher.submit("b", "k", 1)
    assert not batcher.stop(0.05)
    assert waiting.cancelled()
    with pytest.raises(RuntimeError, match="stopped"):
        batcher.submit("b", "k", 2)
    device.gate.set()
    assert running.result(PATIENCE_S) == ("warm", 0)
    assert batcher.stop(PATIENCE_S)


@pytest.mark.parametrize("what", ["max_batch", "workers"])
def test_a_batcher_of_nothing_is_refused(what):
    with pytest.raises(ParameterError, match=f"{what} must be at least 1, got 0"):
        DynamicBatcher(lambda kind, items, exclusive: items, **{what: 0})


def test_several_workers_run_side_by_side_unless_one_has_the_device_to_itself():
    calls, gates = [], {item: threading.Event() for item in "0abcde"}

    def run(kind, items, exclusive):
        calls.append((items[0], exclusive))
        assert gates[items[0]].wait(PATIENCE_S)
        return items

    def called(count):
        wait_for(lambda: len(calls) >= count, f"call number {count}")
        time.sleep(0.05)  # for one too many
        return calls[:]

    batcher = DynamicBatcher(run, max_batch=1, workers=2)
    gates["0"].set()
    batcher.submit("camera a", "k", "0").result(PATIENCE_S)
    first = batcher.submit("camera a", "k", "a")
    assert called(2) == [("0", False), ("a", True)]  # a client that nobody came between
    others = [batcher.submit(f"camera {item}", "k", item) for item in "bcd"]
    assert len(called(2)) == 2  # the others wait although a worker is free
    gates["a"].set()
    assert sorted(called(4)[2:]) == [("b", False), ("c", False)]
    gates["b"].set()
    assert called(5)[4] == ("d", False)  # the other worker is not done
    gates["c"].set()
    gates["d"].set()
    assert [future.result(PATIENCE_S) for future in (first, *others)] == list("abcd")
    gates["e"].set()
    batcher.submit("camera a", "k", "e").result(PATIENCE_S)
    assert calls[-1] == ("e", False)  # others were here a moment ago
    assert batcher.stop(PATIENCE_S)
