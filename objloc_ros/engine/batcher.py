"""The work of one device: requests of many callers, batched where they are alike, fair to every caller."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Generic, TypeVar

from objloc_ros.engine.latest_slot import OUT_OF_MEMORY
from objloc_ros.errors import ObjlocError, ParameterError

T = TypeVar("T")
R = TypeVar("R")

RECOVERY = 100
"""Good batches after which a limit that memory has lowered is doubled again."""

LINGER, MOST_LINGER_S = 0.15, 0.01
"""How long the clients of a batch are waited for, as a part of the time that the batch took, and at most, seconds."""

PATIENCE = 16
"""Batches without waiting after one for which waiting brought nobody."""


class OutOfMemoryError(ObjlocError):
    """The device has no room for a single frame; frames are counted under `cause`."""

    cause = OUT_OF_MEMORY


@dataclass(eq=False)
class _Request(Generic[T, R]):
    client: Hashable
    kind: Hashable
    item: T
    order: int
    done: Future[R] = field(default_factory=Future)


class Lane(Generic[T, R]):
    """Runs requests in threads of its own, those of one kind together.

    When a worker is free it takes what is there. First comes whoever has waited longest since it was last served, so
    a fast client cannot starve a slow one; with it go the requests of the same kind, in the same order, one per client
    as long as each waits for its answer before it asks again. Clients that are always ready would take turns for ever:
    those of the batch before are therefore given a moment to come back, see `LINGER`.

    Args:
        run: Called in a worker with a kind, items of it, and whether it has the device to itself: no other call runs
            or begins before it returns. Gives one result per item.
        max_batch: Most items in one call.
        workers: Threads. With several, a client that is the only one has the device to itself; others are run side by
            side, and nobody is waited for.
        out_of_memory: Exceptions after which a smaller batch is tried.
        name: Name of the threads.

    Raises:
        ParameterError: `max_batch` or `workers` is below 1.
    """

    def __init__(
        self,
        run: Callable[[Any, list[T], bool], Sequence[R]],
        *,
        max_batch: int = 8,
        workers: int = 1,
        out_of_memory: tuple[type[BaseException], ...] = (MemoryError,),
        name: str = "objloc-lane",
    ) -> None:
        for what, number in (("max_batch", max_batch), ("workers", workers)):
            if number < 1:
                raise ParameterError(f"{what} must be at least 1, got {number}")
        self._run, self._out_of_memory = run, out_of_memory
        self._max_batch = self._limit = max_batch
        self._good = 0
        self._changed = threading.Condition()
        self._waiting: list[_Request[T, R]] = []
        self._served: dict[Hashable, int] = {}
        self._answered: set[Hashable] = set()  # clients of the last batch
        self._linger_s, self._impatient = 0.0, 0
        self._running, self._alone = 0, False
        self._latest: set[Hashable] = set()  # clients of the batch that was taken last
        self._numbers = count()
        self._stopping = False
        # Daemons: a device stuck in its driver must not keep the process alive.
        self._workers = [threading.Thread(target=self._work, name=name, daemon=True) for _ in range(workers)]
        for worker in self._workers:
            worker.start()

    @property
    def limit(self) -> int:
        """Most items in one call at present: `max_batch`, or fewer after the device ran out of memory."""
        return self._limit

    def submit(self, client: Hashable, kind: Hashable, item: T) -> Future[R]:
        """Ask for one item; never blocks.

        Args:
            client: Who asks, for fairness.
            kind: Only items of equal kind go into one call.
            item: What to run.

        Raises:
            RuntimeError: If the lane has been stopped.
        """
        request: _Request[T, R] = _Request(client, kind, item, next(self._numbers))
        with self._changed:
            if self._stopping:
                raise RuntimeError("the lane has been stopped")
            self._waiting.append(request)
            self._changed.notify_all()
        return request.done

    def stop(self, timeout: float = 10.0) -> bool:
        """Finish what runs and cancel what waits.

        Args:
            timeout: Seconds to wait.

        Returns:
            Whether the workers have ended.
        """
        with self._changed:
            self._stopping = True
            leftover, self._waiting = self._waiting, []
            self._changed.notify_all()
        for request in leftover:
            request.done.cancel()
        end = time.monotonic() + timeout
        for worker in self._workers:
            if worker is not threading.current_thread():
                worker.join(max(0.0, end - time.monotonic()))
        return not any(worker.is_alive() for worker in self._workers)

    def _work(self) -> None:
        while taken := self._take():
            batch, alone = taken
            start = time.monotonic()
            self._answer(batch, alone)
            with self._changed:
                self._running, self._alone = self._running - 1, False
                self._linger_s = min(LINGER * (time.monotonic() - start), MOST_LINGER_S)
                self._answered = {request.client for request in batch}
                self._changed.notify_all()
            del taken, batch  # results live as long as their callers want, not until the next frame

    def _take(self) -> tuple[list[_Request[T, R]], bool] | None:
        with self._changed:
            while (self._alone or not self._waiting) and not self._stopping:
                self._changed.wait()
            self._gather()
            if self._stopping:
                return None
            queue = sorted(self._waiting, key=lambda one: (self._served.get(one.client, -1), one.order))
            batch = [one for one in queue if one.kind == queue[0].kind][: self._limit]
            self._waiting = [one for one in self._waiting if one not in batch]
            for one in batch:
                self._served[one.client] = next(self._numbers)
            self._running += 1
            self._alone = len(self._workers) == 1 or (self._running == 1 and self._is_only_client(batch))
            return batch, self._alone

    def _is_only_client(self, batch: list[_Request[T, R]]) -> bool:
        """Whether nobody else has asked since the client of this batch was last served."""
        only = not self._waiting and {request.client for request in batch} == self._latest
        self._latest = {request.client for request in batch}
        return only

    def _gather(self) -> None:
        """Wait for those that were answered last, unless that was in vain a short while ago."""
        if len(self._workers) > 1 or self._stopping:
            return
        if self._impatient:
            self._impatient -= 1
            return
        end = time.monotonic() + self._linger_s
        missing = self._missing()
        while self._missing() and not self._stopping and self._changed.wait(end - time.monotonic()):
            pass
        if missing and self._missing() == missing:
            self._impatient = PATIENCE

    def _missing(self) -> set[Hashable]:
        return self._answered - {request.client for request in self._waiting}

    def _answer(self, batch: list[_Request[T, R]], alone: bool) -> None:
        try:
            results = self._run(batch[0].kind, [request.item for request in batch], alone)
        except self._out_of_memory as error:
            self._shrink(batch, alone, error)
        except Exception as error:  # noqa: BLE001 - goes to every caller of this batch, and the lane goes on
            for request in batch:
                request.done.set_exception(error)
        else:
            for request, result in zip(batch, results, strict=True):
                request.done.set_result(result)
            self._grow()

    def _shrink(self, batch: list[_Request[T, R]], alone: bool, error: BaseException) -> None:
        """Try again in halves; give a single item up."""
        self._good = 0
        if len(batch) == 1:
            self._limit = 1
            failure = OutOfMemoryError(f"no memory for a single frame: {error}")
            failure.__cause__ = error
            batch[0].done.set_exception(failure)
            return
        half = self._limit = len(batch) // 2
        self._answer(batch[:half], alone)
        self._answer(batch[half:], alone)

    def _grow(self) -> None:
        self._good += 1
        if self._good >= RECOVERY and self._limit < self._max_batch:
            self._good, self._limit = 0, min(2 * self._limit, self._max_batch)
