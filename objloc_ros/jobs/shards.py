"""Long work in pieces: each leaves one result, which stays; what a killed run has done is not done again.

The same pieces run in this process or on a cluster (`ray.py`), and their results are read in the same order, so that
the numbers do not depend on who computed them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from objloc_ros.errors import InputError, ObjlocError
from objloc_ros.io.files import whole

Work = Callable[[Any, Path], None]
"""Takes a shard's input and a path that does not exist yet, at which it makes a file or a folder."""

MakeWork = Callable[[], Work]
"""Makes the work in the process that is to do it (loads the networks); picklable, and equal calls compare equal."""

RETRIES = 2
"""How often a shard that failed is tried again."""


@dataclass(frozen=True)
class Shard:
    """One piece of work.

    Args:
        name: File or folder name of its result, different from all others'.
        input: What the work takes; picklable, small (names, not pixels).
    """

    name: str
    input: Any


@dataclass
class Outcome:
    """What became of the shards.

    Args:
        done: Shards whose results are there, the number of those that had been there before included.
        found: Shards whose results had been there before.
        failed: Why, by the name of each shard that failed every time.
    """

    done: int = 0
    found: int = 0
    failed: dict[str, str] = field(default_factory=dict)


def open_folder(shards: Sequence[Shard], folder: Path) -> tuple[list[Shard], Outcome]:
    """Make the folder of the results and see what is there.

    Returns:
        The shards left to do, and the outcome so far.

    Raises:
        InputError: Two shards have the same name, a name is none for a file, or the folder cannot be made.
    """
    names = [shard.name for shard in shards]
    if len(set(names)) != len(names):
        raise InputError(f"shards need different names, got {_twice(names)!r} twice")
    for name in names:
        if not name or name.startswith(".") or Path(name).name != name:
            raise InputError(f"a shard's name must be a file name without a leading dot, got {name!r}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = set(os.listdir(folder))
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}") from error
    left = [shard for shard in shards if shard.name not in there]
    found = len(shards) - len(left)
    return left, Outcome(done=found, found=found)


def run_shard(work: Work, shard: Shard, folder: Path) -> None:
    """Do one shard; its result appears in the folder whole, or not at all."""
    with whole(folder / shard.name) as scratch:
        work(shard.input, scratch)


def run_here(
    shards: Sequence[Shard],
    make_work: MakeWork,
    folder: Path,
    *,
    on_done: Callable[[Shard], None] = lambda shard: None,
) -> Outcome:
    """Do what is left of the shards in this process, one after the other.

    Args:
        shards: All of them; those whose results are in the folder are left out.
        make_work: Called once, if anything is left.
        folder: Where results go.
        on_done: Called after each shard that was done now.

    Returns:
        The outcome. A shard that fails is tried again at the end, at most `RETRIES` times, and the others go on.
    """
    left, outcome = open_folder(shards, folder)
    if not left:
        return outcome
    work = make_work()
    for _ in range(1 + RETRIES):
        left = [shard for shard in left if not _did(work, shard, folder, outcome, on_done)]
    sweep(shards, folder)
    return outcome


def sweep(shards: Sequence[Shard], folder: Path) -> None:
    """Remove what workers that were killed have left half made (`ops.files.whole`), where the whole is there now."""
    names = {shard.name for shard in shards}
    there = set(os.listdir(folder))
    for name in there:
        made = name[1:].rpartition(".")[0]
        if name.startswith(".") and made in names & there:
            shutil.rmtree(folder / name, ignore_errors=True)


def blocks(items: Sequence[Any], size: int) -> Iterable[tuple[int, Sequence[Any]]]:
    """Cut items into blocks of at most `size`, with the place of each block's first item."""
    for start in range(0, len(items), size):
        yield start, items[start : start + size]


def free_name(name: str, taken: set[str]) -> str:
    """A name that is not taken yet, `name` or that with a number, which is taken from now on."""
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    taken.add(free)
    return free


def describe(error: BaseException) -> str:
    """Say in one line what went wrong."""
    return str(error) if isinstance(error, ObjlocError) else repr(error)


def _did(work: Work, shard: Shard, folder: Path, outcome: Outcome, on_done: Callable[[Shard], None]) -> bool:
    try:
        run_shard(work, shard, folder)
    except Exception as error:  # noqa: BLE001 whatever one bag or image does must not end the other thousands
        outcome.failed[shard.name] = describe(error)
        return False
    outcome.failed.pop(shard.name, None)
    outcome.done += 1
    on_done(shard)
    return True


def _twice(names: Sequence[str]) -> str:
    return next(name for name in names if names.count(name) > 1)
