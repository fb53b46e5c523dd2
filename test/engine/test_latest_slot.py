import math
import threading
import time

import pytest
from waiting import PATIENCE_S, wait_for

from objloc_ros.engine.frame_stats import FrameStats
from objloc_ros.engine.latest_slot import FrameDroppedError, LatestSlot, find_drop_cause
from objloc_ros.errors import InputError, ParameterError


def conserved(snapshot):
    return snapshot.received == snapshot.published + sum(snapshot.dropped.values()) + snapshot.in_flight


class Gate:
    """A worker function that waits in the middle of a frame until the test lets it go on."""

    def __init__(self):
        self.entered, self.leave, self.seen = threading.Semaphore(0), threading.Semaphore(0), []

    def __call__(self, frame):
        self.seen.append(frame)
        self.entered.release()
        assert self.leave.acquire(timeout=PATIENCE_S)


@pytest.fixture
def stats():
    return FrameStats()


@pytest.fixture
def slot_of(stats):
    slots = []

    def make(process, **options):
        slots.append(LatestSlot(process, stats, **{"age_ms": lambda frame: 0.0, **options}))
        return slots[-1]

    yield make
    for slot in slots:
        assert slot.stop(PATIENCE_S)


def test_only_the_newest_frame_waits(slot_of, stats):
    gate, drops = Gate(), []
    slot = slot_of(gate, on_done=lambda frame, cause, error: drops.append((frame, cause, error)))
    slot.offer(1)
    assert gate.entered.acquire(timeout=PATIENCE_S)
    for frame in (2, 3, 4):
        slot.offer(frame)
    assert stats.snapshot().in_flight == 2
    gate.leave.release(2)
    wait_for(lambda: stats.snapshot().in_flight == 0)
    assert gate.seen == [1, 4]
    wait_for(lambda: len(drops) == 4)
    assert drops == [(2, "superseded", None), (3, "superseded", None), (1, "", None), (4, "", None)]
    assert stats.snapshot().published == 2


def test_a_frame_too_old_at_its_turn_is_not_processed(slot_of, stats):
    gate, now = Gate(), [0.0]
    slot = slot_of(gate, age_ms=lambda born: now[0] - born, max_age_ms=100.0)
    slot.offer(0.0)
    assert gate.entered.acquire(timeout=PATIENCE_S)
    slot.offer(1.0)
    now[0] = 150.0
    gate.leave.release()
    wait_for(lambda: stats.snapshot().in_flight == 0)
    slot.offer(140.0)
    assert gate.entered.acquire(timeout=PATIENCE_S)
    gate.leave.release()
    wait_for(lambda: stats.snapshot().in_flight == 0)
    assert gate.seen == [0.0, 140.0]
    assert dict(stats.snapshot().dropped) == {"too_old": 1}


def test_the_age_limit_is_live(slot_of, stats):
    seen = []
    slot = slot_of(seen.append, age_ms=lambda frame: 50.0, max_age_ms=10.0)
    slot.offer("a")
    wait_for(lambda: stats.snapshot().dropped.get("too_old") == 1)
    slot.max_age_ms = math.inf
    slot.offer("b")
    wait_for(lambda: stats.snapshot().published == 1)
    assert seen == ["b"]


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan])
def test_age_limit_must_be_positive(slot_of, bad):
    with pytest.raises(ParameterError, match="max_age_ms must be positive"):
        slot_of(lambda frame: None).max_age_ms = bad


class NamedError(InputError):
    cause = "unknown_encoding"


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (FrameDroppedError("not_wanted"), "not_wanted"),
        (NamedError("bayer_99"), "unknown_encoding"),
        (InputError("empty"), "bad_input"),
        (RuntimeError("out of memory"), "processing_error"),
        (MemoryError(), "processing_error"),
    ],
)
def test_an_error_costs_one_frame_and_not_the_worker(slot_of, stats, error, cause):
    drops = []

    def process(frame):
        if frame == "bad":
            raise error

    slot = slot_of(process, on_done=lambda *done: drops.append(done))
    slot.offer("bad")
    wait_for(lambda: stats.snapshot().in_flight == 0)
    slot.offer("good")
    wait_for(lambda: stats.snapshot().published == 1)
    wait_for(lambda: len(drops) == 2)
    assert drops == [("bad", cause, error), ("good", "", None)]
    assert find_drop_cause(error) == cause
    assert dict(stats.snapshot().dropped) == {cause: 1}


def test_a_skipped_frame_counts_as_superseded(slot_of, stats):
    slot_of(lambda frame: None).skip()
    assert (stats.snapshot().received, dict(stats.snapshot().dropped)) == (1, {"superseded": 1})
    assert conserved(stats.snapshot())


def test_stop_in_mid_frame_publishes_it_and_drops_the_waiting_one(slot_of, stats):
    gate = Gate()
    slot = slot_of(gate)
    slot.offer(1)
    assert gate.entered.acquire(timeout=PATIENCE_S)
    slot.offer(2)

    def let_go():
        wait_for(lambda: stats.snapshot().dropped)  # the waiting one, by the stop
        gate.leave.release()

    threading.Thread(target=let_go).start()
    assert slot.stop(PATIENCE_S)
    slot.offer(3)
    got = stats.snapshot()
    assert (got.published, dict(got.dropped), got.in_flight) == (1, {"shutdown": 2}, 0)
    assert conserved(got)


def test_stop_gives_up_on_a_stuck_worker(stats):
    gate = Gate()
    slot = LatestSlot(gate, stats, age_ms=lambda frame: 0.0)
    slot.offer(1)
    assert gate.entered.acquire(timeout=PATIENCE_S)
    assert not slot.stop(timeout=0.05)
    assert stats.snapshot().in_flight == 1
    gate.leave.release()
    assert slot.stop(PATIENCE_S)
    assert conserved(stats.snapshot())


def test_conservation_under_hammering_threads(stats):
    """Offers from many threads, a worker that fails, drops and succeeds by turns, readers, and a stop in the middle."""
    in_work, most_in_work = [0], [0]

    def process(frame):
        in_work[0] += 1
        most_in_work[0] = max(most_in_work[0], in_work[0])
        time.sleep(0.0002)
        in_work[0] -= 1
        if frame % 3 == 1:
            raise InputError("third")
        if frame % 7 == 2:
            raise ZeroDivisionError

    slot = LatestSlot(process, stats, age_ms=lambda frame: float(frame % 5), max_age_ms=3.5)
    n_threads, n_frames, broken, done = 6, 3000, [], threading.Event()
    offered = [0] * n_threads

    def all_kinds():
        got = stats.snapshot()
        kinds = {"superseded", "too_old", "bad_input", "processing_error"}
        return got.published > 0 and kinds <= set(got.dropped)

    def offer(seed):
        while offered[seed] < n_frames or not all_kinds():
            slot.offer(seed + offered[seed])
            offered[seed] += 1
            if offered[seed] % 100 == 0:
                time.sleep(0.001)

    def read():
        while not done.wait(0.0005):  # without a pause, the reader can keep the worker from the statistics' lock
            got = stats.snapshot()
            # Waiting, in work, and one per offering thread between its two counts.
            if not conserved(got) or not 0 <= got.in_flight <= 2 + n_threads:
                broken.append(got)

    threads = [threading.Thread(target=offer, args=(seed,)) for seed in range(n_threads)]
    reader = threading.Thread(target=read, daemon=True)
    for thread in [*threads, reader]:
        thread.start()
    threads[0].join()
    assert slot.stop(PATIENCE_S)
    for thread in threads:
        thread.join()
    done.set()
    reader.join()
    got = stats.snapshot()
    assert not broken
    assert got.received == sum(offered)
    assert got.in_flight == 0
    assert conserved(got)
    assert most_in_work == [1]
    assert all_kinds()
