"""A rosbag2 bag, read only: its topics, and its messages in the order of their recording, as bytes or deserialised.

rosbags reads sqlite3 and mcap, plain, or compressed by zstd per file, per message or per chunk; a bag of compressed
files is unpacked into a temporary folder. Nothing is ever written beside the bag: sqlite opens it as immutable.
Errors name what is wrong with a bag; a bag that is incomplete is refused rather than read in part. Messages are
deserialised by rclpy, as rosbags only reads the container.
"""

from __future__ import annotations

import functools
import importlib
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from rclpy.serialization import deserialize_message
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


class BagMessage(NamedTuple):
    """One message of a bag.

    Args:
        topic: Full topic name.
        stamp_ns: Time of recording, nanoseconds.
        message: The message, of its own rclpy class.
    """

    topic: str
    stamp_ns: int
    message: Any


class BagReader:
    """Reads a bag; use it in a `with` block.

    Args:
        path: Folder of a bag, or one of its .mcap or .db3 files.

    `kinds` and `counts` hold the type and the announced number of messages of each topic, by its name.

    Raises:
        InputError: There is no bag, or it is damaged or empty; in the `with` statement, and while messages are read.
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
            raise InputError(f"cannot read bag {self.path}: {_describe(error)}") from error
        for connection in self._reader.connections:
            self.kinds.setdefault(connection.topic, connection.msgtype)
            self.counts[connection.topic] = self.counts.get(connection.topic, 0) + connection.msgcount
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reader.close()

    def require_topics(self, topics: Collection[str]) -> None:
        """Check that the bag has some topics.

        Raises:
            InputError: The bag lacks one of them.
        """
        if missing := sorted(set(topics) - set(self.kinds)):
            raise InputError(f"bag {self.path} has no topic {', '.join(missing)}; it has {self.format_topics()}")

    def messages(self, topics: Collection[str] | None = None) -> Iterator[RawMessage]:
        """Read messages.

        Args:
            topics: Full names of the topics to read; None reads all.

        Raises:
            InputError: A topic is missing or has messages of two types, or the bag is damaged; the error says how far
                it could be read.
        """
        self.require_topics(topics or ())
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
                raise InputError(f"cannot read bag {self.path} {where}: {_describe(error)}") from error
            read, last_ns = read + 1, recorded_ns
            yield RawMessage(connection.topic, connection.msgtype, recorded_ns, data)

    def format_topics(self) -> str:
        """List the topics for error messages."""
        return ", ".join(sorted(self.kinds)) or "none at all"


def read_bag(path: Path, topics: Collection[str] | None = None) -> Iterator[BagMessage]:
    """Read the messages of a bag in the order of their recording.

    Args:
        path: Folder of a bag, or one of its .mcap or .db3 files.
        topics: Full names of the topics to read; None reads all.

    Raises:
        InputError: There is no bag, or it is damaged, lacks a topic, or has a message type that is not installed here.
    """
    with BagReader(path) as bag:
        for topic, kind, stamp_ns, data in bag.messages(topics):
            yield BagMessage(topic, stamp_ns, deserialize(bag, kind, data))


def deserialize(bag: BagReader, kind: str, data: bytes) -> Any:
    """Deserialise a message into its rclpy class.

    Args:
        bag: Where it came from, for error messages.
        kind: Name of its type.
        data: CDR.

    Raises:
        InputError: The bytes are not a message of this type, or the type is not installed here.
    """
    try:
        return deserialize_message(data, load_message_class(kind))
    except InputError:
        raise
    except Exception as error:  # rclpy raises what the middleware raises
        raise InputError(f"cannot read bag {bag.path}: {len(data)} bytes are no {kind}: {error!r}") from error


@functools.cache
def load_message_class(name: str) -> type:
    """Import the class of a message type named as in `vision_msgs/msg/Detection2DArray`.

    Raises:
        InputError: The name is no message type, or its package is not installed.
    """
    match = re.fullmatch(r"([a-z]\w*)/msg/([A-Z]\w*)", name)
    if match is None:
        raise InputError(f"message type {name!r} is not of the form package/msg/Name")
    try:
        message_class: type = getattr(importlib.import_module(f"{match[1]}.msg"), match[2])
    except (ImportError, AttributeError) as error:
        raise InputError(f"message type {name!r} is not installed: {error}") from error
    return message_class


def list_storage_files(path: Path) -> list[Path]:
    """List the files of a bag that hold messages."""
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.iterdir() if file.name.endswith(BAG_SUFFIXES))


def _check_files(path: Path) -> None:
    """Refuse bags that rosbags would refuse with an obscure message, or silently read in part."""
    if not path.exists():
        raise InputError(f"cannot read bag {path}: no such file or folder")
    files = list_storage_files(path)
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


def _describe(error: Exception) -> str:
    """Repeat what rosbags says, with the type of the error where the text alone says little."""
    return str(error) if type(error).__name__ == "ReaderError" and str(error) else repr(error)
