"""Processes that need not import PyTorch and ROS anew: each is forked from one that has, before anything has begun."""

from __future__ import annotations

import io
import multiprocessing
import os
import runpy
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from pathlib import Path
from unittest import mock

from waiting import PATIENCE_S

IMPORTED = (
    "rclpy",
    "torch",
    "vision_msgs.msg",
    "objloc_ros.engine.pipeline",
    "objloc_ros.nodes.perception",
    "objloc_ros.nodes.image_source",
    "objloc_ros.nodes.locate",
    "objloc_ros.bags.player",
    "objloc_ros.cli.main",
)

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(list(IMPORTED))


class Forked:
    """A Python program in a session of its own; looks like a `subprocess.Popen` of it.

    Args:
        command: A script or `-m` and a module, and arguments.
        log: File for stdout and stderr; added to.
        env: Changes to this process's environment. `OMP_NUM_THREADS` is always 1.
        cwd: Working directory.
    """

    def __init__(self, command: Sequence[str], *, log: Path, env: Mapping[str, str], cwd: Path) -> None:
        with mock.patch.dict(os.environ, OMP_NUM_THREADS="1"):  # read when libraries are loaded
            forkserver.ensure_running()
        self.log = log
        log.touch()
        everything = {**os.environ, "OMP_NUM_THREADS": "1", **env}
        self.args = list(command)
        self._process = _context.Process(target=run, args=(self.args, log, everything, cwd), daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        """Number of the process."""
        assert self._process.pid is not None
        return self._process.pid

    def poll(self) -> int | None:
        """Exit code; None as long as it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Exit code, once it has ended.

        Raises:
            subprocess.TimeoutExpired: It has not within so many seconds.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
        return self._process.exitcode

    def end(self) -> tuple[int, str]:
        """Exit code and what it said, once it has ended."""
        return self.wait(PATIENCE_S), self.log.read_text()

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)


def run(command: Sequence[str], log: Path, env: Mapping[str, str], cwd: Path) -> None:
    """Be the program, from the process group to the standard streams."""
    os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for number, source in enumerate((nothing, descriptor, descriptor)):
        os.dup2(source, number)
    sys.stdout, sys.stderr = (io.TextIOWrapper(io.FileIO(i, "w", closefd=False), line_buffering=True) for i in (1, 2))
    if command[0] == "-m":
        sys.argv = list(command[1:])
        sys.modules.pop(command[1], None)
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(command)
        runpy.run_path(command[0], run_name="__main__")
