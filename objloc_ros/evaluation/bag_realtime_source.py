"""A bag's images as they lie on the disk, for playing them again: bytes, not messages."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rosbags.rosbag2 import Reader
from sensor_msgs.msg import CompressedImage, Image

from objloc_ros.errors import InputError
from objloc_ros.nodes.read_ahead import Recorded

KINDS: dict[str, type] = {"sensor_msgs/msg/Image": Image, "sensor_msgs/msg/CompressedImage": CompressedImage}
"""Message types that can be played."""


@dataclass(frozen=True)
class Playable:
    """What is to be played of a bag.

    Args:
        path: Folder of the bag, or one of its files.
        topics: Message class by topic, in the order asked for.
        start_ns: Recording time of the first image, nanoseconds.
        stop_ns: Recording time before which it ends.
    """

    path: Path
    topics: dict[str, type]
    start_ns: int
    stop_ns: int

    @property
    def seconds(self) -> float:
        """Seconds of the bag that are played."""
        return (self.stop_ns - self.start_ns) / 1e9

    def messages(self) -> Generator[Recorded, None, None]:
        """Read the bag once, in the order of recording; its files are only read.

        Raises:
            InputError: The bag is damaged.
        """
        with _open(self.path) as reader:
            chosen = [connection for connection in reader.connections if connection.topic in self.topics]
            for connection, recorded_ns, data in reader.messages(chosen, self.start_ns, self.stop_ns):
                yield Recorded(connection.topic, recorded_ns, data)


def playable(
    path: Path, topics: Collection[str] | None = None, *, start_s: float = 0.0, duration_s: float | None = None
) -> Playable:
    """Look into a bag and choose image topics.

    Args:
        path: Folder of a bag, or one of its .mcap or .db3 files.
        topics: Full topic names; None takes all images of the bag.
        start_s: Seconds to leave out at the beginning of the bag.
        duration_s: Seconds of the bag to play; None plays to its end.

    Raises:
        InputError: No bag, a damaged or empty one, no images in it, a topic that it has not or that holds no images,
            or a window without any.
    """
    with _open(path) as reader:
        chosen = _choose(path, {connection.topic: connection.msgtype for connection in reader.connections}, topics)
        begin_ns, end_ns = reader.start_time, reader.end_time
    if not start_s >= 0 or (duration_s is not None and not duration_s > 0):
        raise InputError(f"start must be at least 0 s and the duration positive, got {start_s} and {duration_s}")
    start_ns = begin_ns + round(start_s * 1e9)
    stop_ns = end_ns if duration_s is None else min(end_ns, start_ns + round(duration_s * 1e9))
    found = Playable(path, chosen, start_ns, stop_ns)
    with closing(found.messages()) as messages:
        first = next(messages, None)
    if first is None:
        window = f"seconds {start_s:g} to {max(0, stop_ns - begin_ns) / 1e9:g} of " if start_s or duration_s else ""
        raise InputError(f"{window}bag {path} hold no image of {', '.join(chosen)}")
    # What lies before the first image would be played as silence.
    return replace(found, start_ns=first.stamp_ns)


def _choose(path: Path, known: dict[str, str], topics: Collection[str] | None) -> dict[str, type]:
    images = sorted(topic for topic, kind in known.items() if kind in KINDS)
    if not images:
        raise InputError(f"bag {path} holds no images; it has {', '.join(sorted(known)) or 'no topic'}")
    for topic in images if topics is None else topics:
        if topic not in known:
            raise InputError(f"bag {path} has no topic {topic}; its images are {', '.join(images)}")
        if topic not in images:
            raise InputError(f"topic {topic} of bag {path} holds {known[topic]}, not images")
    if topics is not None and (not topics or len(set(topics)) != len(topics)):
        raise InputError(f"topics must be different ones of {', '.join(images)}; got {list(topics)}")
    return {topic: KINDS[known[topic]] for topic in (images if topics is None else topics)}


@contextmanager
def _open(path: Path) -> Iterator[Reader]:
    """Open a bag; whatever is wrong with it becomes an InputError, but what the caller raises stays as it is."""
    try:
        with Reader(path) as reader:
            yield reader
    except (InputError, GeneratorExit):
        raise
    except Exception as error:  # a damaged bag fails anywhere: in its YAML, its records or zstd
        raise InputError(f"cannot read bag {path}: {error!r}") from error
