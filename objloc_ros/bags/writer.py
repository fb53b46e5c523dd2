"""A rosbag2 bag written without rosbag2: rosbags writes the container (mcap), rclpy serialises the messages.

The definitions of the messages in the bag are made from the same classes that serialise them, so that custom types such
as vision_msgs need no registration.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from rclpy.serialization import serialize_message
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from objloc_ros.bags.reader import load_message_class
from objloc_ros.errors import InputError

METADATA_VERSION: Literal[8] = 8
"""Bag metadata version: the newest that rosbag2 of Humble reads, too."""

MSG_PRIMITIVES = {"double": "float64", "float": "float32", "boolean": "bool", "octet": "byte"}
"""Names of primitive types in .msg files, by their IDL names."""


class BagWriter:
    """Writes a bag that appears under its name only when it is complete.

    Until then it grows in a hidden folder beside it, which an exception inside the `with` block removes.

    Args:
        path: Folder to make, in an existing folder.
        overwrite: Whether to replace an older bag of this name.

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

    def write_serialized(self, topic: str, message_type: type, data: bytes, stamp_ns: int) -> None:
        """Append a message that is serialised already, CDR bytes of an rclpy message class."""
        name = format_type_name(message_type)
        connection = self._connections.get((topic, name))
        if connection is None:
            register_type(self._typestore, message_type)
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
            raise InputError(f"bag {self.path} exists already: choose another name, or remove it first")


def format_type_name(message_type: type) -> str:
    """Name a message class as in `vision_msgs/msg/Detection2DArray`."""
    return f"{message_type.__module__.split('.')[0]}/msg/{message_type.__name__}"


def register_type(typestore: Typestore, root: type) -> None:
    """Add a message class and all that it contains to a type store."""
    name = format_type_name(root)
    if name in typestore.fielddefs:
        return
    for package, short in re.findall(r"(\w+)/(\w+)", " ".join(root.get_fields_and_field_types().values())):  # type: ignore[attr-defined]
        register_type(typestore, load_message_class(f"{package}/msg/{short}"))
    typestore.register(get_types_from_msg(format_definition(root), name))


def format_definition(message_type: type) -> str:
    """Write the .msg text of a message class: its fields, without comments, constants and defaults.

    None of these enter the type hash, so that the text defines the same type.
    """
    fields = message_type.get_fields_and_field_types()  # type: ignore[attr-defined]
    return "".join(f"{_translate_type(kind)} {name}\n" for name, kind in fields.items())


def _translate_type(kind: str) -> str:
    """Translate rclpy's spelling, `sequence<double, 3>`, to that of .msg files, `float64[<=3]`."""
    if match := re.fullmatch(r"sequence<(.+?)(?:, (\d+))?>", kind):
        return f"{_translate_type(match[1])}[{'<=' + match[2] if match[2] else ''}]"
    if match := re.fullmatch(r"(.+)\[(\d+)\]", kind):
        return f"{_translate_type(match[1])}[{match[2]}]"
    if match := re.fullmatch(r"(w?string)<(\d+)>", kind):
        return f"{match[1]}<={match[2]}"
    return MSG_PRIMITIVES.get(kind, kind)
