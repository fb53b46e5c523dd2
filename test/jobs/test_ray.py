"""Shards on a real Ray cluster of two worker nodes, one of which may die."""

from __future__ import annotations

import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray
from waiting import wait_for

from objloc_ros.errors import InputError
from objloc_ros.jobs.ray import Fleet, run_on_ray
from objloc_ros.jobs.shards import MAX_RETRIES, Outcome, Shard, run_here

# Worker processes cannot import test modules.
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])


@dataclass(frozen=True)
class Squares:
    """Writes squares; notes which process did what, and how often it was made.

    Args:
        notes: Folder for the notes.
        gated: Numbers from here on wait as long as there is a note "gate".
        bad: Fails on this number.
        deadly: Ends its process on this number, the first time.
        fatal: Ends its process on this number, every time.
    """

    notes: Path
    gated: int = 1000
    bad: int = -1
    deadly: int = -1
    fatal: int = -1

    def load(self) -> None:
        (self.notes / f"made-{os.getpid()}-{time.monotonic_ns()}").touch()

    def run(self, loaded: None, number: Any, target: Path) -> None:
        started = self.notes / f"began-{number}-{os.getpid()}-{time.monotonic_ns()}"
        again = bool(list(self.notes.glob(f"began-{number}-*")))
        started.touch()
        target.write_text("half")
        while number >= self.gated and (self.notes / "gate").exists():
            time.sleep(0.01)
        if number == self.bad:
            raise ValueError(f"{number} is unlucky")
        if number == self.fatal or (number == self.deadly and not again):
            os._exit(1)
        target.write_text(str(number**2))


SHARDS = [Shard(f"{i}.txt", i) for i in range(12)]


def results(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    notes, out = tmp_path / "notes", tmp_path / "out"
    notes.mkdir()
    return notes, out


def test_two_nodes_give_what_one_process_gives_and_the_loss_of_one_loses_nothing(
    cluster: Any, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    notes, out = folders
    doomed = cluster.list_all_nodes()[-1]
    gate, done = notes / "gate", []
    gate.touch()

    def processes() -> set[str]:
        return {path.name.split("-")[2] for path in notes.glob("began-*")} - {str(os.getpid())}

    def kill() -> int:
        """In the middle of the work of both nodes; returns how much of it was done."""
        wait_for(lambda: len(done) == 4 and len(processes()) >= 2, "work on both nodes")
        cluster.remove_node(doomed, allow_graceful=False)
        finished = len(results(out))
        gate.unlink()
        return finished

    with ThreadPoolExecutor(1) as threads:
        killing = threads.submit(kill)
        work, fleet = Squares(notes, gated=4), Fleet(cluster.address)
        outcome = run_on_ray(SHARDS, work, out, fleet, on_done=lambda shard: done.append(shard.name))
        assert killing.result() == 4
    assert outcome == Outcome(done=12)
    assert sorted(done) == sorted(shard.name for shard in SHARDS), "each is reported once"
    run_here(SHARDS, Squares(notes), tmp_path / "alone")
    assert results(out) == results(tmp_path / "alone")
    assert len(list(notes.glob("made-*"))) <= len(processes()) + 1, "work is made once per process"


def test_failures_are_tried_again_and_listed_and_the_next_run_does_only_those(
    steady_cluster: Any, folders: tuple[Path, Path]
) -> None:
    notes, out = folders
    outcome = run_on_ray(SHARDS, Squares(notes, bad=3, deadly=5), out, Fleet(steady_cluster.address))
    assert outcome == Outcome(done=11, failed={"3.txt": "ValueError('3 is unlucky')"})
    assert len(list(notes.glob("began-3-*"))) == 1 + MAX_RETRIES
    assert len(list(notes.glob("began-5-*"))) == 2, "a process that dies is no failure of the shard"
    assert results(out) == {f"{i}.txt": str(i**2) for i in range(12) if i != 3}
    assert run_on_ray(SHARDS, Squares(notes), out, Fleet(steady_cluster.address)) == Outcome(done=12, done_before=11)
    assert len(list(notes.glob("began-4-*"))) == 1


def test_a_shard_that_always_kills_its_process_is_listed_and_the_others_go_on(
    steady_cluster: Any, folders: tuple[Path, Path]
) -> None:
    notes, out = folders
    outcome = run_on_ray(SHARDS[:4], Squares(notes, fatal=2), out, Fleet(steady_cluster.address))
    assert (outcome.done, list(outcome.failed)) == (3, ["2.txt"])
    assert results(out) == {f"{i}.txt": str(i**2) for i in (0, 1, 3)}


def test_no_machine_is_left(steady_cluster: Any, folders: tuple[Path, Path]) -> None:
    notes, out = folders
    with pytest.raises(
        InputError, match=r"no machine of the cluster has had 4 processors and 0 GPUs for 1 s; what was"
    ):
        run_on_ray(SHARDS, Squares(notes), out, Fleet(steady_cluster.address, cpus=4, no_machine_limit_s=1))
    assert not ray.is_initialized()


def test_a_cluster_of_its_own(folders: tuple[Path, Path]) -> None:
    notes, out = folders
    assert run_on_ray(SHARDS, Squares(notes), out, Fleet(workers=1)) == Outcome(done=12)
    assert len(list(notes.glob("made-*"))) == 1
    assert not ray.is_initialized()


def test_no_cluster_at_the_address(folders: tuple[Path, Path]) -> None:
    notes, out = folders
    with pytest.raises(InputError, match=r"cannot join a Ray cluster at '127\.0\.0\.1:1'"):
        run_on_ray(SHARDS, Squares(notes), out, Fleet("127.0.0.1:1"))
