"""Long work in shards: each leaves one result, which stays, so that a killed run does not repeat what it has done.

The same shards run in this process or on a cluster (`ray.py`), and their results are read in the same order, so that
the numbers do not depend on where they were computed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from objloc_ros.errors import InputError, ObjlocError
from objloc_ros.io.files import read_json, write_atomically, write_json

MAX_RETRIES = 2
"""How often a shard that failed is tried again."""

HASH_LETTERS = 64
"""Length of a value of a plan that stands for a list of inputs: SHA-256 in hexadecimal."""


class ShardTask(Protocol):
    """What is done with every shard: picklable, and equal tasks compare equal and have one hash."""

    def __hash__(self) -> int: ...

    def load(self) -> Any:
        """Load what all shards need, such as networks, in the process that runs them."""

    def run(self, loaded: Any, shard_input: Any, target: Path, /) -> None:
        """Do one shard.

        Args:
            loaded: What `load` has returned in this process.
            shard_input: `Shard.input`.
            target: Where to make a file or a folder; does not exist yet.
        """


@dataclass(frozen=True)
class Shard:
    """One piece of work.

    Args:
        name: File or folder name of its result, different from all others'.
        input: What the task takes; picklable and small (names, not pixels).
    """

    name: str
    input: Any


@dataclass
class Outcome:
    """How many shards were done, and which failed.

    Args:
        done: Number of shards whose results exist, those of earlier runs included.
        done_before: Number of shards whose results an earlier run has left.
        failed: The reason, by the name of each shard that failed every time.
    """

    done: int = 0
    done_before: int = 0
    failed: dict[str, str] = field(default_factory=dict)


def open_folder(shards: Sequence[Shard], folder: Path) -> tuple[list[Shard], Outcome]:
    """Make the folder of the results and look which exist.

    Returns:
        The shards left to do, and the outcome so far.

    Raises:
        InputError: Two shards have the same name, a name is not a file name, or the folder cannot be made.
    """
    names = [shard.name for shard in shards]
    if len(set(names)) != len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise InputError(f"shards need different names, got {repeated!r} twice")
    for name in names:
        if not name or name.startswith(".") or Path(name).name != name:
            raise InputError(f"a shard's name must be a file name without a leading dot, got {name!r}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        existing = set(os.listdir(folder))
    except OSError as error:
        raise InputError(f"cannot write to {folder}: {error.strerror}") from error
    left = [shard for shard in shards if shard.name not in existing]
    done = len(shards) - len(left)
    return left, Outcome(done=done, done_before=done)


def claim_folder(folder: Path, plan: Mapping[str, dict[str, Any]], *, holds: str) -> None:
    """Write down in `plan.json` how and of what the results in a folder are made, so that no others are mixed in.

    Args:
        folder: That of the results.
        plan: JSON values by the words that follow `holds` in the message, such as "made with".
        holds: What the folder holds, for the message.

    Raises:
        InputError: There are results that were made by another plan.
    """
    file = folder / "plan.json"
    if file.exists() and len(os.listdir(folder)) > 1:
        before = read_json(file)
        for name, value in plan.items():
            if before.get(name) != value:
                raise InputError(
                    f"{folder} holds {holds} {name} {_describe_difference(before.get(name), value)}: go on with the "
                    "same command, or choose another folder"
                )
    write_json(file, plan)


def _describe_difference(before: Any, now: dict[str, Any]) -> str:
    """Describe the first difference of two plans."""
    before = before if isinstance(before, dict) else {}
    name = next(name for name in [*now, *before] if before.get(name) != now.get(name))
    if isinstance(now.get(name), str) and len(now[name]) == HASH_LETTERS:
        return f"other inputs ({name})"
    return f"{name} {before.get(name)!r}, not {now.get(name)!r}"


def run_shard(task: ShardTask, loaded: Any, shard: Shard, folder: Path) -> None:
    """Do one shard; its result appears in the folder whole, or not at all."""
    with write_atomically(folder / shard.name) as scratch:
        task.run(loaded, shard.input, scratch)


def run_here(
    shards: Sequence[Shard],
    task: ShardTask,
    folder: Path,
    *,
    on_done: Callable[[Shard], None] = lambda shard: None,
) -> Outcome:
    """Do what is left of the shards in this process, one after the other.

    Args:
        shards: All of them; those whose results are in the folder are left out.
        task: Loaded once, if anything is left.
        folder: Where results go.
        on_done: Called after each shard that was done now.

    Returns:
        The outcome. A shard that fails is tried again at the end, at most `MAX_RETRIES` times, and the others go on.
    """
    left, outcome = open_folder(shards, folder)
    if not left:
        return outcome
    loaded = task.load()
    for _ in range(1 + MAX_RETRIES):
        left = [shard for shard in left if not _try_shard(task, loaded, shard, folder, outcome, on_done)]
    remove_leftovers(shards, folder)
    return outcome


def _try_shard(
    task: ShardTask, loaded: Any, shard: Shard, folder: Path, outcome: Outcome, on_done: Callable[[Shard], None]
) -> bool:
    """Do one shard, note the outcome, and return whether it was done."""
    try:
        run_shard(task, loaded, shard, folder)
    except Exception as error:  # noqa: BLE001 whatever one bag or image does must not end the other thousands
        outcome.failed[shard.name] = describe_error(error)
        return False
    outcome.failed.pop(shard.name, None)
    outcome.done += 1
    on_done(shard)
    return True


def remove_leftovers(shards: Sequence[Shard], folder: Path) -> None:
    """Remove half-made results of killed workers (see `io.files.whole`) where the whole result exists now."""
    names = {shard.name for shard in shards}
    existing = set(os.listdir(folder))
    for name in existing:
        result = name[1:].rpartition(".")[0]
        if name.startswith(".") and result in names & existing:
            shutil.rmtree(folder / name, ignore_errors=True)


def cut_blocks(items: Sequence[Any], size: int) -> Iterable[tuple[int, Sequence[Any]]]:
    """Split items into blocks of at most `size`; yields the index of each block's first item and the block."""
    for start in range(0, len(items), size):
        yield start, items[start : start + size]


def take_free_name(name: str, taken: set[str]) -> str:
    """Choose a name that is not taken, `name` or `name` with a number, and add it to the taken ones."""
    free, number = name, 1
    while free in taken:
        number += 1
        free = f"{name}_{number}"
    taken.add(free)
    return free


def describe_error(error: BaseException) -> str:
    """Describe in one line what went wrong."""
    return str(error) if isinstance(error, ObjlocError) else repr(error)
