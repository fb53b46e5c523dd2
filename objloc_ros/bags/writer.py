"""Rosbag2 bags without rosbag2: rosbags does the container (what is written is mcap), rclpy the messages.

Messages are (de)serialised by rclpy alone, and their definitions in the bag are taken from the very classes that
serialise them, so that custom types such as vision_msgs need no registration anywhere.
"""

from __future__ import annotations

import functools
import importlib
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple

from rclpy.serialization import deserialize_message, serialize_message
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from objloc_ros.bags.reader import BagReader
from objloc_ros.errors import InputError

METADATA_VERSION: Literal[8] = 8
"""Bag metadata version: the newest that rosbag2 of Humble reads as well."""

_PRIMITIVES = {"double": "float64", "float": "float32", "boolean": "bool", "octet": "byte"}


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


class BagWriter:
    """Write a bag that appears under its name only when it is complete.

    Until then it grows in a hidden folder beside it, which an exception inside the `with` block removes.

    Args:
        path: Folder of the bag to be, in an existing folder.
        overwrite: Replace an older bag of this name.

    Raises:
        InputError: `path` exists and `overwrite` is false.
    """

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        self.path = path
        self._overwrite = overwrite
        self._check_free()
        self._scratch = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        self._writer = Writer(self._scratch / path.name, version=METADATA_VERSION, storage_plugin=StoragePlugin.MCAP)
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._writer.open()
        self._typestore = get_typestore(Stores.EMPTY)
        self._connections: dict[tuple[str, str], Any] = {}

    def write(self, topic: str, message: Any, stamp_ns: int) -> None:
        """Append a message.

        Args:
            topic: Full topic name.
            message: An rclpy message.
            stamp_ns: Time of recording, nanoseconds.
        """
        self.write_serialized(topic, type(message), serialize_message(message), stamp_ns)

    def write_serialized(self, topic: str, message_class: type, data: bytes, stamp_ns: int) -> None:
        """Append a message as it came from the wire, CDR bytes of `message_class`."""
        name = type_name(message_class)
        connection = self._connections.get((topic, name))
        if connection is None:
            register(self._typestore, message_class)
            connection = self._writer.add_connection(topic, name, typestore=self._typestore)
            self._connections[topic, name] = connection
        self._writer.write(connection, stamp_ns, data)

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._writer.close()
            if kind is None:
                self._publish()
        finally:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _publish(self) -> None:
        self._check_free()
        if self.path.exists():
            self.path.rename(self._scratch / "replaced")
        (self._scratch / self.path.name).rename(self.path)

    def _check_free(self) -> None:
        if self.path.exists() and not self._overwrite:
            raise InputError(f"bag {self.path} exists already")


def read_bag(path: Path, topics: Collection[str] | None = None) -> Iterator[BagMessage]:
    """Read messages in the order of their recording.

    Args:
        path: Folder of a bag, or one of its .mcap or .db3 files.
        topics: Full names of the topics to read; None reads all.

    Raises:
        InputError: No bag, a damaged bag, a topic that is not in it, or a message type that is not installed here.
    """
    with BagReader(path) as bag:
        for topic, kind, stamp_ns, data in bag.messages(topics):
            yield BagMessage(topic, stamp_ns, decoded(bag, kind, data))


def decoded(bag: BagReader, kind: str, data: bytes) -> Any:
    """Make a message of its bytes.

    Args:
        bag: Where it came from, for error messages.
        kind: Name of its type.
        data: CDR.

    Raises:
        InputError: The bytes are none of this type, or the type is not installed here.
    """
    try:
        return deserialize_message(data, message_class(kind))
    except InputError:
        raise
    except Exception as error:  # rclpy raises what the middleware raises
        raise InputError(f"cannot read bag {bag.path}: {len(data)} bytes are no {kind}: {error!r}") from error


def type_name(message_class: type) -> str:
    """Name of a message class as in `vision_msgs/msg/Detection2DArray`."""
    return f"{message_class.__module__.split('.')[0]}/msg/{message_class.__name__}"


@functools.cache
def message_class(name: str) -> type:
    """Class of a message type named as in `vision_msgs/msg/Detection2DArray`.

    Raises:
        InputError: Not a message type, or its package is not installed.
    """
    match = re.fullmatch(r"([a-z]\w*)/msg/([A-Z]\w*)", name)
    if match is None:
        raise InputError(f"message type {name!r} is not of the form package/msg/Name")
    try:
        found: type = getattr(importlib.import_module(f"{match[1]}.msg"), match[2])
    except (ImportError, AttributeError) as error:
        raise InputError(f"message type {name!r} is not installed: {error}") from error
    return found


def register(typestore: Typestore, root: type) -> None:
    """Add a message class and all that it contains to a type store."""
    name = type_name(root)
    if name in typestore.fielddefs:
        return
    for package, short in re.findall(r"(\w+)/(\w+)", " ".join(root.get_fields_and_field_types().values())):  # type: ignore[attr-defined]
        register(typestore, message_class(f"{package}/msg/{short}"))
    typestore.register(get_types_from_msg(definition(root), name))


def definition(message_class: type) -> str:
    """Write the .msg text of a message class: its fields, without comments, constants and defaults.

    None of these enter the type hash, so the text stands for the same type.
    """
    fields = message_class.get_fields_and_field_types()  # type: ignore[attr-defined]
    return "".join(f"{_field_type(kind)} {name}\n" for name, kind in fields.items())


def _field_type(kind: str) -> str:
    """Translate rclpy's spelling, `sequence<double, 3>`, to that of .msg files, `float64[<=3]`."""
    if match := re.fullmatch(r"sequence<(.+?)(?:, (\d+))?>", kind):
        return f"{_field_type(match[1])}[{'<=' + match[2] if match[2] else ''}]"
    if match := re.fullmatch(r"(.+)\[(\d+)\]", kind):
        return f"{_field_type(match[1])}[{match[2]}]"
    if match := re.fullmatch(r"(w?string)<(\d+)>", kind):
        return f"{match[1]}<={match[2]}"
    return _PRIMITIVES.get(kind, kind)
