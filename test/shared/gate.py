"""A file that holds up work in another process for as long as it is there: so a test decides when what ends."""

from __future__ import annotations

import os
import time
from pathlib import Path

FOLDER = "OBJLOC_TEST_GATES"
"""Environment variable: where a process finds its gates; without it, all of them are open."""


class Gate:
    """One place in a process.

    Args:
        name: What is held up there.
        folder: For a test, where the gates of a process are; a process knows its own.
    """

    def __init__(self, name: str, folder: Path | None = None) -> None:
        self.name = name
        self._file = Path(folder or os.environ.get(FOLDER, "/nowhere"), f"{name}.gate")

    def close(self) -> None:
        """From now on whoever gets here waits."""
        self._file.touch()

    def open(self) -> None:
        """Let everybody go on."""
        self._file.unlink()

    def go_through(self) -> None:
        """Wait until nobody closes it; told once in the log, for the test to see."""
        if self._file.exists():
            print(self.word, flush=True)
        while self._file.exists():
            time.sleep(0.002)

    @property
    def word(self) -> str:
        """What is logged."""
        return f"held up: {self.name}"
