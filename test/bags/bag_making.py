"""Small bags with exact truth, in every container, for tests."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.serialization import serialize_message
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from std_msgs.msg import Header
from vision_msgs.msg import Detection2D, Detection2DArray, LabelInfo, ObjectHypothesisWithPose, VisionClass

from objloc_ros.bags.writer import format_type_name, register_type
from objloc_ros.nodes.conversions import mask_to_image, rgb_to_compressed, rgb_to_image
from objloc_ros.scenes.video import drive_video

START = 1_000_000_000_000
STEP = 66_000_000
SIZE = (120, 160)

CONTAINERS = {
    "sqlite3": (StoragePlugin.SQLITE3, CompressionMode.NONE),
    "sqlite3, files": (StoragePlugin.SQLITE3, CompressionMode.FILE),
    "sqlite3, messages": (StoragePlugin.SQLITE3, CompressionMode.MESSAGE),
    "mcap": (StoragePlugin.MCAP, CompressionMode.NONE),
    "mcap, files": (StoragePlugin.MCAP, CompressionMode.FILE),
    "mcap, messages": (StoragePlugin.MCAP, CompressionMode.MESSAGE),
    "mcap, chunks": (StoragePlugin.MCAP, CompressionMode.STORAGE),
}

Message = tuple[str, int, Any]
"""Topic, time of recording in nanoseconds, message."""


def header(stamp_ns: int, frame: str = "cam") -> Header:
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    return Header(stamp=Time(sec=seconds, nanosec=nanoseconds), frame_id=frame)


def write(path: Path, messages: Iterable[Message], container: str = "mcap, chunks") -> Path:
    plugin, mode = CONTAINERS[container]
    writer, store = Writer(path, version=8, storage_plugin=plugin), get_typestore(Stores.EMPTY)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    connections: dict[tuple[str, str], Any] = {}
    with writer:
        for topic, recorded_ns, message in messages:
            name = format_type_name(type(message))
            if (topic, name) not in connections:
                register_type(store, type(message))
                connections[topic, name] = writer.add_connection(topic, name, typestore=store)
            writer.write(connections[topic, name], recorded_ns, serialize_message(message))
    return path


def write_unknown(path: Path, messages: Iterable[Message], topic: str = "/odd", kind: str = "odd_msgs/msg/Odd") -> Path:
    """A bag that also holds a message of a type that nobody has installed."""
    writer, store = Writer(path, version=8, storage_plugin=StoragePlugin.MCAP), get_typestore(Stores.EMPTY)
    with writer:
        odd = writer.add_connection(topic, kind, msgdef="int32 x\n", rihs01="RIHS01_" + "0" * 64)
        writer.write(odd, START, bytes(array("B", b"\0\1\0\0\7\0\0\0")))
        for name_, recorded_ns, message in messages:
            name = format_type_name(type(message))
            register_type(store, type(message))
            known = [c for c in writer.connections if c.topic == name_]
            connection = known[0] if known else writer.add_connection(name_, name, typestore=store)
            writer.write(connection, recorded_ns, serialize_message(message))
    return path


def drive(
    frames: int = 6,
    *,
    camera: str = "/front/image",
    truth: str | None = "/front/truth",
    seed: int = 0,
    start: int = START,
) -> list[Message]:
    """A drive's frames and the identities in them; recorded 5 and 6 ms after their stamps."""
    messages: list[Message] = []
    for number, (image, identities) in enumerate(drive_video(size=SIZE, frames=frames, seed=seed)):
        stamp = start + number * STEP
        wrap = rgb_to_compressed if camera.endswith("/compressed") else rgb_to_image
        messages.append((camera, stamp + 5_000_000, wrap(image, header(stamp))))
        if truth is not None:
            messages.append((truth, stamp + 6_000_000, mask_to_image(identities, header(stamp))))
    return messages


def square(frames: int = 6, *, camera: str = "/front/image", truth: str | None = "/front/truth") -> list[Message]:
    """A square of 48 pixels that slides to the right, 8 pixels a frame, and back after ten; every method finds it."""
    noise = np.random.default_rng(0).integers(90, 110, (*SIZE, 1)).astype(np.uint8).repeat(3, axis=2)
    messages: list[Message] = []
    for number in range(frames):
        stamp, left = START + number * STEP, 20 + 8 * (number % 10)
        image, identities = noise.copy(), np.zeros(SIZE, np.uint8)
        image[40:88, left : left + 48] = (220, 60, 40)
        image[50:78, left + 10 : left + 38] = (240, 200, 40)
        identities[40:88, left : left + 48] = 7
        messages.append((camera, stamp, rgb_to_image(image, header(stamp))))
        if truth is not None:
            messages.append((truth, stamp, mask_to_image(identities, header(stamp))))
    return messages


def boxes(stamp_ns: int, *rows: tuple[float, float, float, float], ids: Sequence[str] = ()) -> Detection2DArray:
    """Corners as a Detection2DArray."""
    detections = []
    for place, (x1, y1, x2, y2) in enumerate(rows):
        one = Detection2D(header=header(stamp_ns), id=ids[place] if ids else "")
        one.bbox.center.position.x, one.bbox.center.position.y = (x1 + x2) / 2, (y1 + y2) / 2
        one.bbox.size_x, one.bbox.size_y = float(x2 - x1), float(y2 - y1)
        hypothesis = ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id, hypothesis.hypothesis.score = "object", 0.5
        one.results = [hypothesis]
        detections.append(one)
    return Detection2DArray(header=header(stamp_ns), detections=detections)


def label_info(stamp_ns: int, names: dict[int, str]) -> LabelInfo:
    classes = [VisionClass(class_id=number, class_name=name) for number, name in names.items()]
    return LabelInfo(header=header(stamp_ns), class_map=classes)


def grey(stamp_ns: int, level: int = 0, size: tuple[int, int] = SIZE) -> Any:
    return rgb_to_image(np.full((*size, 3), level, np.uint8), header(stamp_ns))


def fingerprint(folder: Path) -> dict[str, tuple[str, int]]:
    """Content and time of change of everything below a folder."""
    return {
        str(file.relative_to(folder)): (hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_mtime_ns)
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }
