"""What is known about a bag before the work: cameras, stamps, namespaces, and which truth belongs to which frame."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")
import bag_making as making
import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String

from objloc_ros.bags.reader import BagReader
from objloc_ros.bags.survey import Stamps, choose_cameras, choose_namespaces, is_own_output, match_stamps, survey
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
    assert got.count_anomalies() == {"out_of_order": 0, "duplicate_stamps": 0, "unstamped": 0}


def test_stamp_anomalies_are_counted(tmp_path: Path) -> None:
    got = surveyed(tmp_path, (5, 10), (9, 20), (7, 30), (8, 40), (9, 50), (0, 60), (5, 70))
    assert list(got.keys) == [5, 9, 7, 8, 9, 60, 5], "without a stamp the time of recording counts"
    assert got.count_anomalies() == {"out_of_order": 3, "duplicate_stamps": 2, "unstamped": 1}
    assert got.unique_keys.tolist() == [5, 7, 8, 9, 60]


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
    assert is_own_output(topic) is own


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
    assert list(choose_namespaces(cameras).values()) == spaces


@pytest.mark.parametrize(
    ("recorded_ms", "period_ms"), [([0, 66, 132, 500], 66), ([0, 0, 40, 40], 40), ([7], 100), ([], 100), ([3, 3], 100)]
)
def test_period_of_a_camera(recorded_ms: list[int], period_ms: float) -> None:
    recorded = array("q", [one * 1_000_000 for one in recorded_ms])
    assert Stamps("", recorded, recorded).period_ns == period_ms * 1e6


def keys(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@pytest.mark.parametrize(
    ("frames", "truths", "slop", "pairs"),
    [
        ((1, 2, 3), (2, 3, 4), 0, [(2, 2), (3, 3)]),
        ((10, 20), (11, 22), 1, [(10, 11)]),
        ((10, 20), (11, 22), 2, [(10, 11), (20, 22)]),
        ((10, 12), (11,), 5, [(10, 11)]),  # as near as the other, and first
        ((10,), (8, 12), 5, [(10, 8)]),
        ((10, 13), (12,), 5, [(13, 12)]),
        ((5,), (5,), 0, [(5, 5)]),
    ],
)
def test_pairs(frames: tuple[int, ...], truths: tuple[int, ...], slop: int, pairs: list[tuple[int, int]]) -> None:
    got = match_stamps(keys(*frames), keys(*truths), slop)
    assert list(zip(got.frames.tolist(), got.truths.tolist(), strict=True)) == pairs
    assert (got.unmatched_frames, got.unmatched_truths) == (len(frames) - len(pairs), len(truths) - len(pairs))
    for index, (frame, truth) in enumerate(pairs):
        assert (got.find_frame(frame), got.find_truth(truth)) == (index, index)
    assert got.find_frame(999) is got.find_truth(999) is got.find_frame(-1) is None


def test_a_loop_finds_the_same() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        frames, truths = (np.unique(rng.integers(0, 60, rng.integers(1, 20))) for _ in range(2))
        slow = []
        for frame in frames.tolist():
            nearest = min(truths.tolist(), key=lambda t: (abs(t - frame), t))
            back = min(frames.tolist(), key=lambda f: (abs(f - nearest), f))
            if back == frame and abs(nearest - frame) <= 3:
                slow.append((frame, nearest))
        if not slow:
            continue
        got = match_stamps(frames, truths, 3)
        assert list(zip(got.frames.tolist(), got.truths.tolist(), strict=True)) == slow


@pytest.mark.parametrize(
    ("frames", "truths", "message"),
    [
        (
            (1_000_000, 9_000_000),
            (3_000_000,),
            "x has 1 stamps, but none is within 0 ms of one of the 2 frames' stamps; ",
        ),
        ((5,), (), "x holds 0 stamps of truth for 1 frames"),
        ((), (5,), "x holds 1 stamps of truth for 0 frames"),
    ],
)
def test_nothing_to_compare(frames: tuple[int, ...], truths: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        match_stamps(keys(*frames), keys(*truths), what="x")
