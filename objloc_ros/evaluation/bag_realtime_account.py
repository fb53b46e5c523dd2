"""The player's account of every frame that it sent, in files that another process may read while it grows."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from objloc_ros.nodes.player import Schedule, Sent
from objloc_ros.ops.files import read_json, write_json

SENT = np.dtype(
    [("topic", "<u2"), ("stamp_ns", "<i8"), ("recorded_ns", "<i8"), ("due_ns", "<i8"), ("sent_ns", "<i8")]
)
"""One frame, as `player.Sent`; the topic is a place in the list of topics."""

SentFrames = npt.NDArray[np.void]
"""Array [n] of `SENT`, in the order of sending."""


class AccountWriter:
    """Writes an account; use it in a `with` block.

    Args:
        folder: Exists already.
        topics: All that may be sent.
        schedule: When.
    """

    def __init__(self, folder: Path, topics: list[str], schedule: Schedule) -> None:
        self._folder = folder
        self._places = {topic: place for place, topic in enumerate(topics)}
        self._file = (folder / "sent.bin").open("wb", buffering=0)  # each frame can be read as soon as it is sent
        facts = {"start_ns": schedule.start_ns, "origin_ns": schedule.origin_ns, "rate": schedule.rate}
        write_json(folder / "schedule.json", {"topics": topics, **facts})

    def note(self, sent: Sent) -> None:
        """Add a frame."""
        self._file.write(np.array((self._places[sent.topic], *sent[1:]), SENT).tobytes())

    def __enter__(self) -> AccountWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        if kind is None:
            write_json(self._folder / "played.json", {})


class Account:
    """Reads an account, be it finished or not.

    Args:
        folder: Where a writer writes, or will.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._facts: dict[str, Any] | None = None

    @property
    def finished(self) -> bool:
        """Whether everything has been sent."""
        return (self._folder / "played.json").exists()

    @property
    def frames(self) -> int:
        """Frames sent so far."""
        path = self._folder / "sent.bin"
        return path.stat().st_size // SENT.itemsize if path.exists() else 0

    def schedule(self) -> Schedule | None:
        """When the bag is played; None before it begins."""
        facts = self._read()
        return None if facts is None else Schedule(facts["start_ns"], facts["origin_ns"], facts["rate"])

    def sent(self) -> dict[str, SentFrames]:
        """The frames so far, by topic."""
        facts = self._read()
        if facts is None:
            return {}
        frames = np.fromfile(self._folder / "sent.bin", SENT)
        return {topic: frames[frames["topic"] == place] for place, topic in enumerate(facts["topics"])}

    def _read(self) -> dict[str, Any] | None:
        path = self._folder / "schedule.json"
        if self._facts is None and path.exists():
            self._facts = read_json(path)
        return self._facts
