"""Files that are whole or not there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from waiting import PATIENCE_S

from objloc_ros.errors import InputError
from objloc_ros.io.files import is_number, read_json, write_atomically, write_json, write_text


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a.txt"
    with write_atomically(target) as scratch:
        scratch.write_text("new")
        assert not target.exists()
        assert scratch.suffix == ".txt", "libraries that go by the suffix see it"
    assert target.read_text() == "new"
    assert [path.name for path in target.parent.iterdir()] == ["a.txt"]


def test_a_failure_leaves_the_older_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def fail() -> None:
        with write_atomically(target) as scratch:
            scratch.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.txt": "old"}


def test_nothing_made_leaves_the_older_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(InputError, match="nothing was made for a"), write_atomically(tmp_path / "a"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("older", ["none", "file", "folder"])
def test_a_folder_takes_the_place_of_what_was_there(tmp_path: Path, older: str) -> None:
    target = tmp_path / "result"
    if older == "folder":
        target.mkdir()
        (target / "stale").touch()
    with write_atomically(target) as scratch:
        if older == "file":
            scratch.write_text("x")
        else:
            scratch.mkdir()
            (scratch / "fresh").touch()
    assert target.is_file() if older == "file" else [path.name for path in target.iterdir()] == ["fresh"]
    assert [path.name for path in tmp_path.iterdir()] == ["result"]


def test_a_full_disk_leaves_no_half(tmp_path: Path) -> None:
    """The kernel refuses the write in its middle, as on a full disk."""
    code = (
        "import resource, signal, pathlib; from objloc_ros.io.files import write_text\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        f"write_text(pathlib.Path({str(tmp_path)!r}, 'a.txt'), 'x' * 100_000)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 1
    assert f"InputError: cannot write {tmp_path}/a.txt: [Errno 27] File too large" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_json_has_one_form(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": 1, "a": [1.5, None]})
    assert (tmp_path / "a.json").read_text() == '{\n "b": 1,\n "a": [\n  1.5,\n  null\n ]\n}\n'
    assert read_json(tmp_path / "a.json") == {"b": 1, "a": [1.5, None]}


def test_numbers_that_json_has_not(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", [float("nan")])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("text", "message"), [(None, "No such file"), ("", "not JSON"), ('{"a": 1', "not JSON")])
def test_json_that_is_none(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        write_text(tmp_path / "a.json", text)
    with pytest.raises(InputError, match=message):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("value", [0, -3, 0.5, 10**20])
def test_numbers(value: object) -> None:
    assert is_number(value)


@pytest.mark.parametrize("value", [10**400, -(10**400), float("nan"), float("inf"), True, None, "1", [1]])
def test_no_numbers(value: object) -> None:
    assert not is_number(value)
