"""Work in shards: resumed, retried, whole or not at all."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from objloc_ros.errors import InputError
from objloc_ros.jobs.shards import MAX_RETRIES, Outcome, Shard, cut_blocks, run_here

NUMBERS = [Shard(f"{i}.txt", i) for i in range(5)]


class Squares:
    """Writes squares, counts its calls, and fails as often as told."""

    def __init__(self, **failures: int) -> None:
        self.loaded = 0
        self.calls: Counter[int] = Counter()
        self.failures = {int(number.removeprefix("n")): count for number, count in failures.items()}

    def load(self) -> None:
        self.loaded += 1

    def run(self, loaded: None, number: Any, target: Path) -> None:
        self.calls[number] += 1
        target.write_text("half")
        if self.calls[number] <= self.failures.get(number, 0):
            raise ValueError(f"{number} is unlucky")
        target.write_text(str(number**2))


def results(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_every_shard_leaves_its_result(tmp_path: Path) -> None:
    squares, seen = Squares(), []
    outcome = run_here(NUMBERS, squares, tmp_path / "new", on_done=lambda shard: seen.append(shard.name))
    assert outcome == Outcome(done=5)
    assert results(tmp_path / "new") == {"0.txt": "0", "1.txt": "1", "2.txt": "4", "3.txt": "9", "4.txt": "16"}
    assert seen == [shard.name for shard in NUMBERS]
    assert squares.loaded == 1


def test_what_is_there_is_not_done_again(tmp_path: Path) -> None:
    run_here(NUMBERS[:2], Squares(), tmp_path)
    squares = Squares()
    assert run_here(NUMBERS, squares, tmp_path) == Outcome(done=5, done_before=2)
    assert squares.calls == Counter([2, 3, 4])
    nothing = Squares()
    assert run_here(NUMBERS, nothing, tmp_path) == Outcome(done=5, done_before=5)
    assert nothing.loaded == 0, "networks are not loaded where nothing is left to do"


def test_a_failing_shard_is_tried_again_after_the_others_and_named_in_the_end(tmp_path: Path) -> None:
    squares = Squares(n1=1, n3=99)
    outcome = run_here(NUMBERS, squares, tmp_path)
    assert outcome == Outcome(done=4, failed={"3.txt": "ValueError('3 is unlucky')"})
    assert squares.calls == Counter({0: 1, 1: 2, 2: 1, 3: 1 + MAX_RETRIES, 4: 1})
    assert set(results(tmp_path)) == {"0.txt", "1.txt", "2.txt", "4.txt"}, "no half under a final name, no leftovers"


def test_the_next_run_tries_failed_shards_anew(tmp_path: Path) -> None:
    run_here(NUMBERS, Squares(n3=99), tmp_path)
    assert run_here(NUMBERS, Squares(), tmp_path) == Outcome(done=5, done_before=4)


def test_an_interruption_keeps_what_was_done(tmp_path: Path) -> None:
    class Interrupted(Squares):
        def run(self, loaded: None, number: Any, target: Path) -> None:
            if number == 2:
                raise KeyboardInterrupt
            super().run(loaded, number, target)

    with pytest.raises(KeyboardInterrupt):
        run_here(NUMBERS, Interrupted(), tmp_path)
    assert results(tmp_path) == {"0.txt": "0", "1.txt": "1"}


def test_what_killed_workers_have_left_is_removed_once_it_is_whole(tmp_path: Path) -> None:
    for name in (".1.txt.abcd1234", ".3.txt._x9_ab_", ".other.txt.abcd1234"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").write_text("half")
    (tmp_path / ".source.json").write_text("{}")
    run_here(NUMBERS, Squares(n3=99), tmp_path)
    hidden = {path.name for path in tmp_path.iterdir() if path.name.startswith(".")}
    assert hidden == {".3.txt._x9_ab_", ".other.txt.abcd1234", ".source.json"}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "b", "a"], "different names, got 'a' twice"),
        (["a/b"], "file name without a leading dot, got 'a/b'"),
        ([".a"], "file name without a leading dot, got '.a'"),
        ([""], "file name without a leading dot, got ''"),
    ],
)
def test_names_that_are_none(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        run_here([Shard(name, 0) for name in names], Squares(), tmp_path)


def test_a_folder_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write to"):
        run_here(NUMBERS, Squares(), tmp_path / "file")


@pytest.mark.parametrize(
    ("count", "expected"), [(0, []), (2, [(0, [0, 1])]), (3, [(0, [0, 1, 2])]), (4, [(0, [0, 1, 2]), (3, [3])])]
)
def test_cut_blocks(count: int, expected: list[tuple[int, list[int]]]) -> None:
    assert [(start, list(part)) for start, part in cut_blocks(range(count), 3)] == expected
