"""What is told about a bag before the work: cameras, stamps, namespaces."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")
import bag_making as making
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

from objloc_ros.bags.reader import BagReader
from objloc_ros.bags.survey import Stamps, choose_cameras, is_own, namespaces, survey
from objloc_ros.errors import InputError


def stamped(*pairs: tuple[int, int]) -> list[Any]:
    """Images of /cam with the given stamps and times of recording."""
    return [("/cam", recorded, Image(header=making.header(stamp))) for stamp, recorded in pairs]


def surveyed(tmp_path: Path, *pairs: tuple[int, int]) -> Stamps:
    with BagReader(making.write(tmp_path / "bag", stamped(*pairs))) as bag:
        return survey(bag, ["/cam"])["/cam"]


def test_stamps_in_order(tmp_path: Path) -> None:
    got = surveyed(tmp_path, (5, 10), (7, 20))
    assert (list(got.keys), list(got.recorded), len(got)) == ([5, 7], [10, 20], 2)
    assert got.oddities() == {"out_of_order": 0, "duplicate_stamps": 0, "unstamped": 0}


def test_oddities_are_counted(tmp_path: Path) -> None:
    got = surveyed(tmp_path, (5, 10), (9, 20), (7, 30), (8, 40), (9, 50), (0, 60), (5, 70))
    assert list(got.keys) == [5, 9, 7, 8, 9, 60, 5], "without a stamp the time of recording counts"
    assert got.oddities() == {"out_of_order": 3, "duplicate_stamps": 2, "unstamped": 1}
    assert got.different.tolist() == [5, 7, 8, 9, 60]


def test_messages_come_as_recorded_not_as_written(tmp_path: Path) -> None:
    assert list(surveyed(tmp_path, (1, 30), (2, 10), (3, 20)).keys) == [2, 3, 1]


def test_a_bag_that_holds_less_than_it_says(tmp_path: Path) -> None:
    path = making.write(tmp_path / "bag", stamped((1, 1), (2, 2)), "sqlite3")
    text = (path / "metadata.yaml").read_text()
    (path / "metadata.yaml").write_text(text.replace("message_count: 2", "message_count: 3"))
    with BagReader(path) as bag, pytest.raises(InputError, match="announces 3 messages of /cam, its files hold 2"):
        survey(bag, ["/cam"])


def test_messages_without_a_header(tmp_path: Path) -> None:
    path = making.write(tmp_path / "bag", [("/x", 1, String(data=""))])
    with BagReader(path) as bag, pytest.raises(InputError, match="topic /x: no serialised message with a header"):
        survey(bag, ["/x"])


IMAGES = (
    "/a/image",
    "/a/image/compressed",
    "/b/compressed",
    "/a/found/mask",
    "/a/found/overlay/compressed",
    "/a/truth",
)


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    kinds = {True: CompressedImage, False: Image}
    messages = [(topic, 1, kinds[topic.endswith("/compressed")]()) for topic in IMAGES]
    return making.write(tmp_path / "bag", [*messages, ("/talk", 1, String())])


def test_cameras_are_images_but_twins_results_and_truth(mixed: Path) -> None:
    with BagReader(mixed) as bag:
        assert choose_cameras(bag, truth=["/a/truth"]) == ["/a/image", "/b/compressed"]
        assert choose_cameras(bag, ["/a/found/mask", "/a/image", "/a/image"]) == ["/a/found/mask", "/a/image"]
        with pytest.raises(InputError, match=r"topic /talk of bag .* holds std_msgs/msg/String messages, not images"):
            choose_cameras(bag, ["/talk"])
        with pytest.raises(InputError, match="has no topic /c"):
            choose_cameras(bag, ["/c"])


@pytest.mark.parametrize("topics", [[], ["/talk"], ["/a/found/mask"]])
def test_a_bag_without_cameras(tmp_path: Path, topics: list[str]) -> None:
    messages = [(topic, 1, String() if topic == "/talk" else Image()) for topic in topics]
    has = f"it has {topics[0]}" if topics else "it is empty"
    with (
        BagReader(making.write(tmp_path / "bag", messages)) as bag,
        pytest.raises(InputError, match=f"no camera.*{has}"),
    ):
        choose_cameras(bag)


@pytest.mark.parametrize(
    ("topic", "own"),
    [
        ("/front/found/mask", True),
        ("/front/discovery_lost/instance_mask", True),
        ("/front/image_source/truth", True),
        ("/found/overlay/compressed", True),
        ("/front/founder/mask", False),
        ("/front/image", False),
        ("/mask", False),
        ("/x/mask", False),
    ],
)
def test_own_outputs_by_name(topic: str, own: bool) -> None:
    assert is_own(topic) is own


@pytest.mark.parametrize(
    ("cameras", "spaces"),
    [
        (["/front/image"], ["/front"]),
        (["/image"], [""]),
        (["/front/image/compressed", "/rear/image_raw"], ["/front", "/rear"]),
        (["/left", "/right"], ["/left", "/right"]),
        (["/a/left/compressed", "/a/right", "/b/image"], ["/a/left", "/a/right", "/b"]),
        (["/a/image", "/a/image/compressed"], ["/a/image", "/a/image/compressed"]),
    ],
)
def test_namespaces(cameras: list[str], spaces: list[str]) -> None:
    assert list(namespaces(cameras).values()) == spaces


@pytest.mark.parametrize(
    ("recorded_ms", "period_ms"), [([0, 66, 132, 500], 66), ([0, 0, 40, 40], 40), ([7], 100), ([], 100), ([3, 3], 100)]
)
def test_period_of_a_camera(recorded_ms: list[int], period_ms: float) -> None:
    recorded = array("q", [one * 1_000_000 for one in recorded_ms])
    assert Stamps("", recorded, recorded).period_ns == period_ms * 1e6
