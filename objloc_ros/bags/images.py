"""The images of a bag as arrays, with the headers, stamps and times of recording that their predictions need."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from objloc_ros.bags.reader import BagReader, deserialize
from objloc_ros.bags.survey import parse_key
from objloc_ros.nodes.conversions import ImageMessageError, compressed_to_rgb, image_to_rgb
from objloc_ros.types import Image


class BagImage(NamedTuple):
    """One image message.

    Args:
        topic: Full topic name.
        key: Stamp of the header, nanoseconds; the time of recording where it has none.
        recorded_ns: Time of recording, nanoseconds.
        header: The message's own std_msgs/Header.
        image: RGB uint8 [H, W, 3]; None if the message holds no usable image.
        cause: Why not, in a word, as the nodes count it: "encoding", "size" or "decode".
        problem: Why not, in a sentence.
    """

    topic: str
    key: int
    recorded_ns: int
    header: Any
    image: Image | None
    cause: str = ""
    problem: str = ""


def read_images(bag: BagReader, topics: Collection[str]) -> Iterator[BagImage]:
    """Read images in the order of their recording.

    Args:
        bag: An open bag.
        topics: Topics of Image or CompressedImage messages.

    Raises:
        InputError: The bag is damaged.
    """
    for raw in bag.messages(topics):
        message = deserialize(bag, raw.kind, raw.data)
        known = (raw.topic, parse_key(raw), raw.recorded_ns, message.header)
        try:
            decode = image_to_rgb if raw.kind.endswith("/Image") else compressed_to_rgb
            yield BagImage(*known, decode(message))
        except ImageMessageError as error:
            yield BagImage(*known, None, error.cause, str(error))
