"""Dynamic batching for one device: requests of many callers, batched where they are alike, fair to every caller."""

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

MIN_GOOD_BATCHES = 100
"""Successful batches after which a batch size that lack of memory has lowered is doubled again."""

LINGER_FRACTION = 0.15
"""How long to wait for the clients of the last batch, as a fraction of the time that the batch took."""

MAX_LINGER_S = 0.01
"""Longest wait for them, seconds."""

BATCHES_WITHOUT_LINGER = 16
"""Number of batches taken without waiting after a wait that brought nobody."""


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


class DynamicBatcher(Generic[T, R]):
    """Runs requests in threads of its own, those of one kind together.

    A free worker takes what is waiting. The client that was served least recently comes first, so a fast client cannot
    starve a slow one; the requests of the same kind join it in the same order, one per client as long as each client
    waits for its answer before it asks again. Clients that are always ready would take turns for ever: the worker
    therefore waits a moment for those of the last batch, see `LINGER_FRACTION`.

    Args:
        run: Called in a worker with a kind, items of it, and whether it has the device to itself: no other call runs
            or begins before it returns. Returns one result per item.
        max_batch: Most items in one call.
        workers: Number of threads. With several, a client that is the only one has the device to itself; others run
            side by side, and no worker waits for clients.
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
        name: str = "objloc-batcher",
    ) -> None:
        for what, number in (("max_batch", max_batch), ("workers", workers)):
            if number < 1:
                raise ParameterError(f"{what} must be at least 1, got {number}")
        self._run, self._out_of_memory = run, out_of_memory
        self._max_batch = self._limit = max_batch
        self._good_batches = 0
        self._changed = threading.Condition()
        self._waiting: list[_Request[T, R]] = []
        self._served: dict[Hashable, int] = {}
        self._last_clients: set[Hashable] = set()  # clients of the last batch
        self._linger_s, self._batches_without_linger = 0.0, 0
        self._running, self._exclusive = 0, False
        self._taken_clients: set[Hashable] = set()  # clients of the batch that was taken last
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
        """Request one item and return the future of its result; never blocks.

        Args:
            client: Who asks, for fairness.
            kind: Only items of equal kind go into one call.
            item: What to run.

        Raises:
            RuntimeError: If the batcher has been stopped.
        """
        request: _Request[T, R] = _Request(client, kind, item, next(self._numbers))
        with self._changed:
            if self._stopping:
                raise RuntimeError("the batcher has been stopped")
            self._waiting.append(request)
            self._changed.notify_all()
        return request.done

    def stop(self, timeout: float = 10.0) -> bool:
        """Finish the running requests and cancel the waiting ones.

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
            batch, exclusive = taken
            start = time.monotonic()
            self._run_batch(batch, exclusive)
            with self._changed:
                self._running, self._exclusive = self._running - 1, False
                self._linger_s = min(LINGER_FRACTION * (time.monotonic() - start), MAX_LINGER_S)
                self._last_clients = {request.client for request in batch}
                self._changed.notify_all()
            del taken, batch  # results live as long as their callers want, not until the next frame

    def _take(self) -> tuple[list[_Request[T, R]], bool] | None:
        with self._changed:
            while (self._exclusive or not self._waiting) and not self._stopping:
                self._changed.wait()
            self._linger()
            if self._stopping:
                return None
            queue = sorted(self._waiting, key=lambda request: (self._served.get(request.client, -1), request.order))
            batch = [request for request in queue if request.kind == queue[0].kind][: self._limit]
            self._waiting = [request for request in self._waiting if request not in batch]
            for request in batch:
                self._served[request.client] = next(self._numbers)
            self._running += 1
            self._exclusive = len(self._workers) == 1 or (self._running == 1 and self._is_only_client(batch))
            return batch, self._exclusive

    def _is_only_client(self, batch: list[_Request[T, R]]) -> bool:
        """Return whether no other client has asked since the client of this batch was last served."""
        only = not self._waiting and {request.client for request in batch} == self._taken_clients
        self._taken_clients = {request.client for request in batch}
        return only

    def _linger(self) -> None:
        """Wait for the clients of the last batch, unless a recent wait was in vain."""
        if len(self._workers) > 1 or self._stopping:
            return
        if self._batches_without_linger:
            self._batches_without_linger -= 1
            return
        end = time.monotonic() + self._linger_s
        missing = self._missing_clients()
        while self._missing_clients() and not self._stopping and self._changed.wait(end - time.monotonic()):
            pass
        if missing and self._missing_clients() == missing:
            self._batches_without_linger = BATCHES_WITHOUT_LINGER

    def _missing_clients(self) -> set[Hashable]:
        return self._last_clients - {request.client for request in self._waiting}

    def _run_batch(self, batch: list[_Request[T, R]], exclusive: bool) -> None:
        try:
            results = self._run(batch[0].kind, [request.item for request in batch], exclusive)
        except self._out_of_memory as error:
            lack = error.with_traceback(None)  # whose frames hold what the call had allocated
        except Exception as error:  # noqa: BLE001 - goes to every caller of this batch, and the batcher goes on
            for request in batch:
                request.done.set_exception(error)
            return
        else:
            for request, result in zip(batch, results, strict=True):
                request.done.set_result(result)
            self._good_batches += 1
            if self._good_batches >= MIN_GOOD_BATCHES and self._limit < self._max_batch:
                self._good_batches, self._limit = 0, min(2 * self._limit, self._max_batch)
            return
        self._shrink(batch, exclusive, lack)

    def _shrink(self, batch: list[_Request[T, R]], exclusive: bool, error: BaseException) -> None:
        """Run a batch that did not fit again in halves; fail a single item.

        Not while the error is handled: Python then keeps the frames that raised it, and with them their memory.
        """
        self._good_batches = 0
        if len(batch) == 1:
            self._limit = 1
            failure = OutOfMemoryError(f"no memory for a single frame: {error}")
            failure.__cause__ = error
            batch[0].done.set_exception(failure)
            return
        half = self._limit = len(batch) // 2
        self._run_batch(batch[:half], exclusive)
        self._run_batch(batch[half:], exclusive)
