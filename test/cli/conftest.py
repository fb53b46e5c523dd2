"""What tests of the command line share."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest
from forked import Forked

from objloc_ros.bags import processes
from objloc_ros.cli.main import main

PATIENT = ("-p", "max_age_ms:=0.0", "-p", "idle_priority:=false")
"""On a busy machine every frame may be old, and nobody idle."""


@pytest.fixture
def prelabel(tmp_path: Path) -> Callable[..., int]:
    """Run `objloc prelabel` on inputs below tmp_path/in, with results in a folder beside it."""

    def call(*options: str, inputs: tuple[str, ...] = ("in",), out: str = "out") -> int:
        paths = [str(tmp_path / name) for name in inputs]
        return main(["prelabel", *paths, "--out", str(tmp_path / out), "--device", "cpu", *options])

    return call


class Children(list[Forked]):
    """All that were started.

    Attributes:
        stand_ins: Scripts that are run instead of modules.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stand_ins: dict[str, Path] = {}

    def start(self, command: Sequence[str], *, stdout: IO[bytes], env: Mapping[str, str], **_: Any) -> Forked:
        """As `subprocess.Popen`, for Python programs."""
        program, *words = map(str, command)
        assert program == sys.executable
        script = self.stand_ins.get(words[1]) if words[0] == "-m" else None
        words = words if script is None else [str(script), *words[2:]]
        patient = PATIENT if "--ros-args" in words else ()
        self.append(Forked([*words, *patient], log=Path(stdout.name), env=env, cwd=Path.cwd()))
        return self[-1]

    def ended(self) -> bool:
        """Whether there were some, and none is left."""
        return bool(self) and all(child.poll() is not None for child in self)


@pytest.fixture
def forked_children(monkeypatch: pytest.MonkeyPatch) -> Children:
    """Child processes need not import everything anew, and nodes among them are patient."""
    children = Children()
    names = {name: getattr(subprocess, name) for name in ("DEVNULL", "STDOUT", "TimeoutExpired")}
    monkeypatch.setattr(processes, "subprocess", SimpleNamespace(Popen=children.start, **names))
    return children


@pytest.fixture
def start_objloc(tmp_path: Path) -> Iterator[Callable[..., Forked]]:
    """Start `objloc ARGUMENTS` in a process of its own, in which files may be limited to a number of bytes."""
    started = []

    def start(*words: object, most_bytes: int | None = None) -> Forked:
        limited = [str(Path(__file__).with_name("full_disk_process.py")), str(most_bytes)]
        command = ["-m", "objloc_ros.cli.main"] if most_bytes is None else limited
        log = tmp_path / f"log{len(started)}.txt"
        started.append(Forked([*command, *map(str, words)], log=log, env={}, cwd=Path.cwd()))
        return started[-1]

    yield start
    for process in started:
        process.send_signal(signal.SIGKILL)


@pytest.fixture(scope="session")
def square(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bag of four frames that every method answers rightly."""
    pytest.importorskip("rclpy")
    import bag_making as making

    path: Path = making.write(tmp_path_factory.mktemp("bags") / "square", making.square(4))
    return path
