"""Shards on a Ray cluster: thousands of bags or millions of images, with the numbers of a single process.

A shard is a Ray task. Its result is a file or a folder in a directory that all machines share; a task that runs twice,
because the machine that did it first was lost before it could report, finds the result there. Networks are loaded once
per worker process. Ray gets only as many shards at a time as keep it busy, so that the driver's memory does not grow
with their number.
"""

from __future__ import annotations

import functools
import logging
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from objloc_ros.errors import InputError
from objloc_ros.jobs.shards import (
    MAX_RETRIES,
    Outcome,
    Shard,
    ShardTask,
    describe_error,
    open_folder,
    remove_leftovers,
    run_shard,
)
from objloc_ros.version import __version__

POLL_S = 5.0
"""How often to check whether machines are left, in seconds."""

CONNECT_S = 10.0
"""How long to wait for a connection to the cluster's address, in seconds."""

NO_MACHINE_LIMIT_S = 300.0
"""How long the cluster may lack a machine that could do a shard, in seconds: one may be starting."""


@dataclass(frozen=True)
class Fleet:
    """Which cluster, and what a shard takes of it.

    Args:
        address: Of a running cluster, such as "auto" or "ray://host:10001"; None starts one on this machine.
        workers: Most shards at a time; None takes as many as the cluster has room for.
        cpus: Processors per shard.
        gpus: GPUs per shard, or a part of one.
        no_machine_limit_s: How long the cluster may lack a machine that could do a shard, seconds.
    """

    address: str | None = None
    workers: int | None = None
    cpus: float = 1
    gpus: float = 0
    no_machine_limit_s: float = NO_MACHINE_LIMIT_S


def run_on_ray(
    shards: Sequence[Shard],
    task: ShardTask,
    folder: Path,
    fleet: Fleet,
    *,
    on_done: Callable[[Shard], None] = lambda shard: None,
) -> Outcome:
    """Do what is left of the shards on a cluster.

    Args:
        shards: All of them; those whose results are in the folder are left out.
        task: Loaded once in each worker process.
        folder: Where results go: on a file system that every machine sees under this path.
        fleet: The cluster.
        on_done: Called in this process after each shard that was done now.

    Returns:
        The outcome. A shard whose worker or machine was lost is done by another; one that fails by itself is tried
        again at most `MAX_RETRIES` times, and the others go on.

    Raises:
        InputError: No cluster at the address; no machine that could do a shard within `no_machine_limit_s`.
    """
    folder = folder.resolve()
    left, outcome = open_folder(shards, folder)
    if not left:
        return outcome
    with _connect(fleet):
        _Dispatcher(task, folder, fleet, outcome, on_done).run(left)
    remove_leftovers(shards, folder)
    return outcome


class _Dispatcher:
    """Hands shards to Ray and collects their outcomes."""

    def __init__(
        self, task: ShardTask, folder: Path, fleet: Fleet, outcome: Outcome, on_done: Callable[[Shard], None]
    ) -> None:
        self._task, self._folder, self._fleet = ray.put(task), folder, fleet
        self._outcome, self._on_done = outcome, on_done
        # Ray repeats a shard whose worker process or machine dies; after that, or if the shard fails, we do.
        self._remote = ray.remote(num_cpus=fleet.cpus, num_gpus=fleet.gpus, max_retries=MAX_RETRIES)(_run_in_worker)
        self._pending: dict[Any, Shard] = {}
        self._failures: dict[str, int] = {}
        self._last_capable_s = time.monotonic()

    def run(self, shards: Sequence[Shard]) -> None:
        """Do all shards."""
        waiting = deque(shards)
        while waiting or self._pending:
            while waiting and len(self._pending) < self._max_pending():
                shard = waiting.popleft()
                self._pending[self._remote.remote(self._task, shard, str(self._folder), __version__)] = shard
            ready, _ = ray.wait(list(self._pending), timeout=POLL_S)
            for reference in ready:
                self._collect(reference, self._pending.pop(reference), waiting)
            if ready:
                self._last_capable_s = time.monotonic()
            else:
                self._check_machines()

    def _collect(self, reference: Any, shard: Shard, waiting: deque[Shard]) -> None:
        try:
            reason = ray.get(reference)
        except RayError as error:  # the shard killed its worker every time, or could not be sent to one
            reason = str(error).strip().splitlines()[0]
        if reason is None and not (self._folder / shard.name).exists():
            reason = f"its machine wrote to a {self._folder} that this one does not see: the folder must be shared"
        if reason is None:
            self._outcome.failed.pop(shard.name, None)
            self._outcome.done += 1
            self._on_done(shard)
            return
        self._outcome.failed[shard.name] = reason
        self._failures[shard.name] = self._failures.get(shard.name, 0) + 1
        if self._failures[shard.name] <= MAX_RETRIES:
            waiting.append(shard)

    def _max_pending(self) -> int:
        """Count the shards that Ray may have at a time: twice what fits, so that no worker waits for this process."""
        if self._fleet.workers is not None:
            return self._fleet.workers
        return max(2, 2 * sum(_count_slots(node, self._fleet) for node in _list_machines()))

    def _check_machines(self) -> None:
        now = time.monotonic()
        if any(_count_slots(node, self._fleet) for node in _list_machines()):
            self._last_capable_s = now
        elif now - self._last_capable_s > self._fleet.no_machine_limit_s:
            raise InputError(
                f"no machine of the cluster has had {self._fleet.cpus:g} processors and {self._fleet.gpus:g} GPUs for "
                f"{self._fleet.no_machine_limit_s:.0f} s; what was done is in {self._folder}, and the same command "
                "continues"
            )


def _run_in_worker(task: ShardTask, shard: Shard, folder: str, version: str) -> str | None:
    """Do a shard in a worker process.

    Returns:
        Why it failed, or None.
    """
    if version != __version__:
        return f"a worker runs objloc_ros {__version__}, the driver {version}"
    if (Path(folder) / shard.name).exists():
        return None
    try:
        run_shard(task, _load(task), shard, Path(folder))
    except Exception as error:  # noqa: BLE001 whatever one bag or image does must not end the other thousands
        return describe_error(error)
    return None


@functools.lru_cache(maxsize=1)
def _load(task: ShardTask) -> Any:
    """Load what the shards of this process need, when the first of them comes."""
    return task.load()


@contextmanager
def _connect(fleet: Fleet) -> Iterator[None]:
    """Join a cluster or start one; leave or stop it at the end of the block.

    What Ray prints, such as that a machine was lost, goes to stderr: stdout is for results.
    """
    own: dict[str, Any] = {} if fleet.address else {"num_cpus": fleet.workers, "include_dashboard": False}
    with redirect_stdout(sys.stderr):
        try:
            _check_reachable(fleet.address)
            ray.init(address=fleet.address or "local", log_to_driver=False, logging_level=logging.ERROR, **own)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError(f"cannot join a Ray cluster at {fleet.address!r}: {error}") from error
        try:
            yield
        finally:
            ray.shutdown()


def _check_reachable(address: str | None) -> None:
    """Connect to HOST:PORT first: Ray itself would wait for minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), timeout=CONNECT_S).close()


def _list_machines() -> list[dict[str, Any]]:
    """List the resources of each machine that is alive."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _count_slots(resources: dict[str, Any], fleet: Fleet) -> int:
    """Count the shards that fit on a machine at a time."""
    fits = [
        int(resources.get(name, 0) // wanted) for name, wanted in (("CPU", fleet.cpus), ("GPU", fleet.gpus)) if wanted
    ]
    return min(fits, default=1)
