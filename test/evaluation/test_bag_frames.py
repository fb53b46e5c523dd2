"""Images of a bag as arrays."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header, String

from objloc_ros.errors import InputError
from objloc_ros.evaluation.bag import BagWriter
from objloc_ros.evaluation.bag_frames import bag_frames, image_topics
from objloc_ros.nodes.conversions import rgb_to_compressed, rgb_to_image


def grey(level: int) -> np.ndarray:
    return np.full((4, 6, 3), level, np.uint8)


def header(sec: int) -> Header:
    return Header(stamp=Time(sec=sec, nanosec=5))


def bag(path: Path, *messages: tuple[str, Any]) -> Path:
    """A bag with a message per nanosecond."""
    with BagWriter(path) as writer:
        for stamp_ns, (topic, message) in enumerate(messages, start=1):
            writer.write(topic, message, stamp_ns)
    return path


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    return bag(
        tmp_path / "bag",
        ("/a/image", rgb_to_image(grey(10), header(7))),
        ("/a/image/compressed", rgb_to_compressed(grey(10), header(7))),
        ("/b/compressed", rgb_to_compressed(grey(20), header(8))),
        ("/talk", String(data="hello")),
        ("/a/image", Image(header=header(9), height=4, width=6, encoding="rgb8", step=18, data=array("B", [1] * 5))),
        ("/b/compressed", CompressedImage(header=header(10), format="jpeg", data=array("B", b"\xff\xd8no"))),
        ("/a/image", rgb_to_image(grey(30), Header())),
    )


def test_topics_and_their_messages(mixed: Path) -> None:
    assert image_topics(mixed) == {"/a/image": 3, "/b/compressed": 2}, "the compressed twin is left out"


def test_frames_in_order_with_stamps_and_problems(mixed: Path) -> None:
    frames = list(bag_frames(mixed))
    assert [(frame.topic, frame.stamp_ns) for frame in frames] == [
        ("/a/image", 7_000_000_005),
        ("/b/compressed", 8_000_000_005),
        ("/a/image", 9_000_000_005),
        ("/b/compressed", 10_000_000_005),
        ("/a/image", 7),
    ], "the last has no stamp but was recorded at 7"
    levels = [None if frame.image is None else int(frame.image[0, 0, 0]) for frame in frames]
    assert levels == [10, 20, None, None, 30]
    assert "5" in frames[2].problem
    assert "truncated" in frames[3].problem
    assert frames[0].problem == ""


def test_chosen_topics(mixed: Path) -> None:
    assert [frame.topic for frame in bag_frames(mixed, ["/a/image/compressed"])] == ["/a/image/compressed"]


@pytest.mark.parametrize(
    ("topics", "message"),
    [(["/c"], "has no topic /c; it has /a/image"), (["/talk"], "topic /talk .* holds no images but String messages")],
)
def test_topics_that_are_none(mixed: Path, topics: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(bag_frames(mixed, topics))


def test_a_bag_without_images(tmp_path: Path) -> None:
    path = bag(tmp_path / "words", ("/talk", String(data="hello")))
    with pytest.raises(InputError, match="has no image topic; it has /talk"):
        list(bag_frames(path))


def test_no_bag(tmp_path: Path) -> None:
    (tmp_path / "a.mcap").write_bytes(b"")
    with pytest.raises(InputError, match="cannot read bag"):
        list(bag_frames(tmp_path / "a.mcap"))
