"""A rosbag2 bag, read only: its topics, and its messages as bytes in the order of their recording.

rosbags reads sqlite3 and mcap, plain, or compressed by zstd per file, per message or per chunk; a bag of compressed
files is unpacked into a temporary folder. Nothing is ever written beside the bag: sqlite opens it as immutable.
What is wrong with a bag is named, and a bag that is not whole is refused rather than read in part.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from rosbags.rosbag2 import Reader

from objloc_ros.errors import InputError
from objloc_ros.io.media import BAG_SUFFIXES

MCAP_MAGIC = b"\x89MCAP0\r\n"
"""First and last bytes of an mcap file."""


class RawMessage(NamedTuple):
    """One message as it lies in the bag.

    Args:
        topic: Full topic name.
        kind: Name of its type, as in `sensor_msgs/msg/Image`.
        recorded_ns: Time of recording, nanoseconds.
        data: CDR bytes.
    """

    topic: str
    kind: str
    recorded_ns: int
    data: bytes


class BagReader:
    """Reads a bag; use it in a `with` block.

    Args:
        path: Folder of a bag, or one of its .mcap or .db3 files.

    `kinds` and `counts` hold the type and the announced number of messages of each topic, by its name.

    Raises:
        InputError: No bag, or one that is damaged or empty; in the `with` statement, and while messages are read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.kinds: dict[str, str] = {}
        self.counts: dict[str, int] = {}

    def __enter__(self) -> BagReader:
        _check_files(self.path)
        try:
            self._reader = Reader(self.path)
            self._reader.open()
        except Exception as error:  # a damaged bag fails anywhere: in its YAML, its index or zstd
            raise InputError(f"cannot read bag {self.path}: {_reason(error)}") from error
        for connection in self._reader.connections:
            self.kinds.setdefault(connection.topic, connection.msgtype)
            self.counts[connection.topic] = self.counts.get(connection.topic, 0) + connection.msgcount
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.close()

    def need(self, topics: Collection[str]) -> None:
        """Make sure that topics are there.

        Raises:
            InputError: The bag has not all of them.
        """
        if missing := sorted(set(topics) - set(self.kinds)):
            raise InputError(f"bag {self.path} has no topic {', '.join(missing)}; it has {self.listed()}")

    def messages(self, topics: Collection[str] | None = None) -> Iterator[RawMessage]:
        """Read messages.

        Args:
            topics: Full names of the topics to read; None reads all.

        Raises:
            InputError: A topic is not there, has messages of two types, or the bag is damaged; the message tells how
                far it could be read.
        """
        self.need(topics or ())
        chosen = [c for c in self._reader.connections if topics is None or c.topic in topics]
        for connection in chosen:
            if connection.msgtype != self.kinds[connection.topic]:
                kinds = f"{self.kinds[connection.topic]} and {connection.msgtype}"
                raise InputError(f"topic {connection.topic} of bag {self.path} holds messages of two types: {kinds}")
        read, last_ns = 0, 0
        source = self._reader.messages(chosen) if chosen else iter(())
        while True:
            try:
                connection, recorded_ns, data = next(source)
            except StopIteration:
                return
            except Exception as error:  # records, zstd, sqlite's pages
                where = f"after {read} messages" + (f", the last recorded at {last_ns / 1e9:.3f} s" if read else "")
                raise InputError(f"cannot read bag {self.path} {where}: {_reason(error)}") from error
            read, last_ns = read + 1, recorded_ns
            yield RawMessage(connection.topic, connection.msgtype, recorded_ns, data)

    def listed(self) -> str:
        """The topics, for messages."""
        return ", ".join(sorted(self.kinds)) or "none at all"


def storage_files(path: Path) -> list[Path]:
    """The files of a bag that hold messages."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.name.endswith(BAG_SUFFIXES))


def _check_files(path: Path) -> None:
    """Refuse what rosbags would refuse in riddles, or read in part without a word."""
    if not path.exists():
        raise InputError(f"cannot read bag {path}: no such file or folder")
    files = storage_files(path)
    if path.is_dir() and not (path / "metadata.yaml").exists():
        held = f"`ros2 bag reindex {path}` makes one" if files else "and no .mcap or .db3 file: it is no bag"
        raise InputError(f"cannot read bag {path}: it has no metadata.yaml; {held}")
    if path.name.endswith(".zstd"):
        raise InputError(f"cannot read bag {path}: name the folder of a compressed bag, not one of its files")
    for file in files:
        size = file.stat().st_size
        if size == 0:
            raise InputError(f"cannot read bag {path}: {file.name} is empty: 0 bytes")
        wal = file.with_name(f"{file.name}-wal")
        if wal.exists() and wal.stat().st_size:
            raise InputError(
                f"cannot read bag {path}: it was not closed, and {wal.name} holds messages that are not in {file.name} "
                f"yet; `sqlite3 {file} 'PRAGMA wal_checkpoint(TRUNCATE)'` moves them there"
            )
        if file.suffix == ".mcap":
            _check_mcap(path, file, size)


def _check_mcap(path: Path, file: Path, size: int) -> None:
    with file.open("rb") as stream:
        head = stream.read(len(MCAP_MAGIC))
        stream.seek(max(0, size - len(MCAP_MAGIC)))
        tail = stream.read()
    if head == MCAP_MAGIC and tail != MCAP_MAGIC:
        raise InputError(
            f"cannot read bag {path}: {file.name} is cut off: it has no end mark at byte {size}; "
            f"`mcap recover {file}` saves what is whole"
        )


def _reason(error: Exception) -> str:
    """What rosbags says, with the type where the text alone says little."""
    return str(error) if type(error).__name__ == "ReaderError" and str(error) else repr(error)
