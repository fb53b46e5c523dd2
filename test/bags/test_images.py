"""Images of a bag as arrays."""

from __future__ import annotations

from array import array
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy")
import bag_making as making
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from objloc_ros.bags.images import read_images
from objloc_ros.bags.reader import BagReader
from objloc_ros.bags.survey import choose_cameras, count_images
from objloc_ros.nodes.conversions import rgb_to_compressed, rgb_to_image

S = 1_000_000_000


def grey(level: int) -> np.ndarray:
    return np.full((4, 6, 3), level, np.uint8)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    short, torn = array("B", [1] * 5), array("B", b"\xff\xd8no")
    messages = [
        ("/a/image", rgb_to_image(grey(10), making.header(7 * S))),
        ("/a/image/compressed", rgb_to_compressed(grey(10), making.header(7 * S))),
        ("/b/compressed", rgb_to_compressed(grey(20), making.header(8 * S))),
        ("/a/image", Image(header=making.header(9 * S), height=4, width=6, encoding="rgb8", step=18, data=short)),
        ("/b/compressed", CompressedImage(header=making.header(10 * S), format="jpeg", data=torn)),
        ("/a/image", rgb_to_image(grey(30), Header())),
    ]
    return making.write(tmp_path / "bag", [(topic, place, message) for place, (topic, message) in enumerate(messages)])


def test_images_in_order_with_stamps_and_problems(mixed: Path) -> None:
    with BagReader(mixed) as bag:
        found = list(read_images(bag, choose_cameras(bag)))
    assert [(one.topic, one.key, one.recorded_ns) for one in found] == [
        ("/a/image", 7 * S, 0),
        ("/b/compressed", 8 * S, 2),
        ("/a/image", 9 * S, 3),
        ("/b/compressed", 10 * S, 4),
        ("/a/image", 5, 5),
    ], "the last has no stamp but was recorded at 5"
    levels = [None if one.image is None else int(one.image[0, 0, 0]) for one in found]
    assert levels == [10, 20, None, None, 30]
    assert [one.cause for one in found] == ["", "", "size", "decode", ""]
    assert "5" in found[2].problem
    assert "truncated" in found[3].problem
    assert found[0].problem == ""
    assert found[0].header == making.header(7 * S)


def test_chosen_topics(mixed: Path) -> None:
    with BagReader(mixed) as bag:
        assert [one.topic for one in read_images(bag, ["/a/image/compressed"])] == ["/a/image/compressed"]


def test_counts_are_those_of_the_cameras(mixed: Path) -> None:
    assert count_images(mixed) == 5
    assert count_images(mixed, ["/b/compressed"]) == 2
    assert count_images(mixed, truth=["/a/image"]) == 2
