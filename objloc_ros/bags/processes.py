"""Child processes that never outlive their parent, and the command lines of ROS nodes among them."""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

from objloc_ros.errors import ObjlocError
from objloc_ros.nodes.qos import make_fast_dds_environment

GRACE_S = 5.0
"""Time to end after a SIGINT before SIGKILL, in seconds."""

START_LIMIT_S = 120.0
"""Time in which a node must have started, in seconds: loading torch from a cold disk takes long."""

TAIL_LINES = 30
"""Lines at the end of a child's output that error messages repeat."""

_domains = itertools.count()


class ChildFailedError(ObjlocError, RuntimeError):
    """A child process ended when it should not have, or with an error."""


class Child:
    """A process in a group of its own, its output in a file; leaving the `with` block ends the whole group.

    Args:
        name: For messages.
        command: Program and arguments.
        log: File for stdout and stderr.
        env: Added to this process's environment.
    """

    def __init__(self, name: str, command: Sequence[str], *, log: Path, env: Mapping[str, str] | None = None) -> None:
        self.name, self.log = name, log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(env or {})},
                preexec_fn=partial(_prepare, os.getpid()),
            )

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process has not ended yet."""
        return self._process.poll() is None

    def check(self, *, may_end: bool = False) -> None:
        """Make sure that all is well.

        Args:
            may_end: Whether an end with exit code 0 is fine.

        Raises:
            ChildFailedError: The process has ended; the message carries the end of its output.
        """
        code = self._process.poll()
        if code is not None and not (may_end and code == 0):
            raise ChildFailedError(
                f"{self.name} ended with exit code {code}; its last words, in {self.log.name}:\n{self.read_log_tail()}"
            )

    def stop(self) -> None:
        """Ask the process to end, and after a while end it and all of its group."""
        try:
            if self.running:
                self._process.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(GRACE_S)
        finally:  # also when somebody presses Ctrl-C once more
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def read_log_tail(self) -> str:
        """The end of its output, indented."""
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-TAIL_LINES:]) or "  (nothing)"

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


@contextmanager
def handle_sigterm_as_interrupt() -> Iterator[None]:
    """Clean up on SIGTERM as on Ctrl-C; other threads than the main one hear of no signal anyway."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: Any) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _prepare(parent: int) -> None:
    """Make this process a group that hears SIGINT, which background jobs inherit as ignored, and ends with its parent.

    On Linux the kernel sees to the latter (prctl PR_SET_PDEATHSIG), even if the parent is killed. It is no session of
    its own: among sessions Linux divides the processor before it looks at priorities (autogroup).
    """
    os.setpgrp()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the call
            os._exit(1)


@contextmanager
def isolated_ros_domain() -> Iterator[None]:
    """A DDS domain that does not leave this machine, with room for images, for this process and its children.

    Every block has another one, so that children that were killed are not taken for those of the next.
    """
    chosen = {
        "ROS_DOMAIN_ID": str(1 + (os.getpid() + next(_domains)) % 100),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "AMENT_PREFIX_PATH": os.environ.get("AMENT_PREFIX_PATH") or sys.prefix,
        **make_fast_dds_environment(),
    }
    before = {name: os.environ.pop(name, None) for name in chosen}
    os.environ.update(chosen)
    try:
        yield
    finally:
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value


def make_node_command(
    program: Sequence[str], namespace: str, parameters: Mapping[str, Any], names: Mapping[str, str] | None = None
) -> list[str]:
    """Command line of a node.

    Args:
        program: What starts it.
        namespace: Full name; empty for the root.
        parameters: JSON's scalars and lists are YAML's.
        names: New names of topics, and of the node as `__node`, by their old ones.
    """
    renamed = {"__ns": namespace or "/", **(names or {})}
    given = {name: json.dumps(value, ensure_ascii=False) for name, value in parameters.items()}
    words = [word for old, new in renamed.items() for word in ("-r", f"{old}:={new}")]
    return [
        *program,
        "--ros-args",
        *words,
        *(word for name, text in given.items() for word in ("-p", f"{name}:={text}")),
    ]
