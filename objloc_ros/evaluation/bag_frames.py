"""The images of a bag as plain arrays, for what knows nothing of ROS."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from rosbags.rosbag2 import Reader
from sensor_msgs import msg as sensor_msgs

from objloc_ros.errors import InputError
from objloc_ros.evaluation.bag import read_bag
from objloc_ros.nodes.conversions import ImageMessageError, compressed_to_rgb, image_to_rgb
from objloc_ros.types import Image

IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")


class BagFrame(NamedTuple):
    """One image message.

    Args:
        topic: Full topic name.
        stamp_ns: Time in the message's header, nanoseconds; that of recording where the header has none.
        image: RGB uint8 [H, W, 3]; None if the message holds no usable image.
        problem: Why not.
    """

    topic: str
    stamp_ns: int
    image: Image | None
    problem: str = ""


def image_topics(path: Path) -> dict[str, int]:
    """Find the image topics of a bag, and how many messages each has.

    A topic `x/compressed` beside a topic `x` of raw images holds the same pictures and is left out.

    Raises:
        InputError: No bag, a damaged one, or one without images.
    """
    try:
        with Reader(path) as reader:
            counts = {c.topic: 0 for c in reader.connections if c.msgtype in IMAGE_TYPES}
            for connection in reader.connections:
                if connection.topic in counts:
                    counts[connection.topic] += connection.msgcount
            others = sorted({connection.topic for connection in reader.connections} - set(counts))
    except Exception as error:  # a damaged bag fails anywhere
        raise InputError(f"cannot read bag {path}: {error!r}") from error
    if not counts:
        raise InputError(f"bag {path} has no image topic; it has {', '.join(others) or 'none at all'}")
    return {t: n for t, n in sorted(counts.items()) if not (t.endswith("/compressed") and t[:-11] in counts)}


def bag_frames(path: Path, topics: Collection[str] | None = None) -> Iterator[BagFrame]:
    """Read images in the order of their recording.

    Args:
        path: Folder of a bag, or one of its files.
        topics: Full names of image topics; None takes all.

    Raises:
        InputError: No bag, a damaged one, one without images or without one of the topics, or a topic of another type.
    """
    known = image_topics(path) if topics is None else topics
    for topic, recorded_ns, message in read_bag(path, known):
        if not isinstance(message, sensor_msgs.Image | sensor_msgs.CompressedImage):
            raise InputError(f"topic {topic} of bag {path} holds no images but {type(message).__name__} messages")
        stamp = message.header.stamp
        stamp_ns = stamp.sec * 1_000_000_000 + stamp.nanosec or recorded_ns
        try:
            decode = compressed_to_rgb if isinstance(message, sensor_msgs.CompressedImage) else image_to_rgb
            yield BagFrame(topic, stamp_ns, decode(message))
        except ImageMessageError as error:
            yield BagFrame(topic, stamp_ns, None, str(error))
