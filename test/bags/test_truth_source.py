"""Truth found among the topics of a bag: whose it is, by stamp, in any order of recording."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
import bag_making as making
from std_msgs.msg import Header, String

from objloc_ros.bags.reader import BagReader
from objloc_ros.bags.survey import Stamps, survey
from objloc_ros.bags.truth import WAITING, Classes, TopicTruth
from objloc_ros.bags.truth_files import TruthSpec, open_truths, read_classes
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.nodes.conversions import mask_to_image

MASK = np.array([[0, 3, 3], [7, 0, 3]], np.uint8)


def camera_and_truth(stamps: list[int], truth: list[int], *, late: int = 0) -> list[Any]:
    """Frames of /cam/image, and truth masks whose only pixel is their place."""
    frames = [("/cam/image", stamp, making.grey(stamp, size=(2, 2))) for stamp in stamps]
    masks = [
        ("/cam/truth", stamp + late, mask_to_image(np.full((1, 1), i, np.uint16), making.header(stamp)))
        for i, stamp in enumerate(truth, start=1)
    ]
    return frames + masks


def open_topic(path: Path, messages: list[Any], **options: Any) -> tuple[TopicTruth, dict[str, Stamps]]:
    with BagReader(making.write(path, messages)) as bag:
        stamps = survey(bag, ["/cam/image", "/cam/truth"])
        truths = open_truths(bag, stamps, ["/cam/image"], TruthSpec((("", "/cam/truth"),), **options))
    (truth,) = truths.values()
    assert isinstance(truth, TopicTruth)
    return truth, stamps


def places(truth: TopicTruth, keys: list[int]) -> list[Any]:
    found = [truth.at(key) for key in keys]
    return [None if one is None or one.objects is None else next(iter(one.objects)) for one in found]


def test_truth_is_found_by_stamp_wherever_it_was_recorded(tmp_path: Path) -> None:
    truth, _ = open_topic(tmp_path / "a", camera_and_truth([10, 20, 30, 40], [5, 20, 40, 30], late=1000))
    assert places(truth, [10, 20, 30, 40, 40]) == [None, 2, 4, 3, None], "asked again, there is none"
    expected = {"messages": 4, "matched": 3, "frames_without_truth": 1, "truth_without_frame": 1, "duplicate_stamps": 0}
    assert truth.counts == expected
    truth.close()


def test_of_truth_with_one_stamp_the_first_counts(tmp_path: Path) -> None:
    truth, _ = open_topic(tmp_path / "a", camera_and_truth([10, 20], [10, 10, 20]))
    assert places(truth, [10, 20]) == [1, 3]
    assert (truth.counts["matched"], truth.counts["duplicate_stamps"]) == (2, 1)


def test_frames_that_are_dropped_leave_nothing_behind(tmp_path: Path) -> None:
    stamps = list(range(10, 10 + 3 * WAITING))
    truth, _ = open_topic(tmp_path / "a", camera_and_truth(stamps, stamps))
    assert places(truth, [stamps[-1]]) == [len(stamps)]
    assert len(truth._waiting) <= WAITING + 1
    with pytest.raises(InputError, match="is in another order than its frames"):
        truth.at(stamps[0])


def test_truth_near_in_time(tmp_path: Path) -> None:
    messages = camera_and_truth([1_000_000, 9_000_000], [1_400_000])
    truth, _ = open_topic(tmp_path / "a", messages, slop_ns=500_000)
    assert places(truth, [1_000_000, 9_000_000]) == [1, None]
    with pytest.raises(InputError, match=r"/cam/truth in bag .* has 1 stamps, but none is within 0 ms .* 0.4 ms away"):
        open_topic(tmp_path / "b", messages)


def test_bad_truth_names_its_message(tmp_path: Path) -> None:
    messages = [("/cam/image", 10, making.grey(10)), ("/cam/truth", 10, making.boxes(10, (5, 5, 1, 9)))]
    truth, _ = open_topic(tmp_path / "a", messages)
    with pytest.raises(InputError, match=r"/cam/truth at 0.000 s: a true box must have"):
        truth.at(10)


CAMERAS = ["/front/image", "/rear/image", "/rear/wide/image"]


@pytest.mark.parametrize(
    ("given", "owners"),
    [
        (
            [("", "/front/truth"), ("", "/rear/wide/truth")],
            {CAMERAS[0]: "/front/truth", CAMERAS[2]: "/rear/wide/truth"},
        ),
        ([("", "/rear/truth")], {CAMERAS[1]: "/rear/truth"}),
        ([("/rear/wide/image", "/front/truth")], {CAMERAS[2]: "/front/truth"}),
    ],
)
def test_whose_truth_it_is(tmp_path: Path, given: list[Any], owners: dict[str, str]) -> None:
    topics = ["/front/truth", "/rear/truth", "/rear/wide/truth"]
    with BagReader(making.write(tmp_path / "bag", [(topic, 1, making.boxes(1)) for topic in topics])) as bag:
        assert TruthSpec(tuple(given)).by_camera(bag, CAMERAS) == owners


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([("", "/truth")], "/truth may be the truth of /front/image, /rear/image, /rear/wide/image: say whose"),
        ([("", "/front/truth"), ("/front/image", "/truth")], "/front/truth and /truth cannot both be the truth"),
        ([("/side/image", "/truth")], "was to be the truth of /side/image, but the cameras are"),
        ([("", "/talk")], "/talk of bag .* holds std_msgs/msg/String messages: no truth"),
        ([("", "/none")], "has no topic /none"),
    ],
)
def test_truth_of_nobody(tmp_path: Path, given: list[Any], message: str) -> None:
    messages = [("/front/truth", 1, making.boxes(1)), ("/truth", 1, making.boxes(1)), ("/talk", 1, String())]
    with BagReader(making.write(tmp_path / "bag", messages)) as bag, pytest.raises(InputError, match=message):
        TruthSpec(tuple(given)).by_camera(bag, CAMERAS)


def test_names_of_classes_beside_the_masks(tmp_path: Path) -> None:
    spec, mask = TruthSpec((("", "/seg/mask"),)), mask_to_image(MASK, Header())
    info = ("/seg/label_info", 0, making.label_info(0, {3: "car", 7: "cone"}))
    with BagReader(making.write(tmp_path / "a", [("/seg/mask", 1, mask), info, info])) as bag:
        assert read_classes(bag, "/seg/mask", spec) == Classes({3: "car", 7: "cone"}, void=False)
        named = TruthSpec(spec.topics, labels=("background", "dog"))
        assert read_classes(bag, "/seg/mask", named) == Classes({0: "background", 1: "dog"})
    with BagReader(making.write(tmp_path / "b", [("/seg/mask", 1, mask)])) as bag:
        assert read_classes(bag, "/seg/mask", spec) is None
    other = ("/seg/label_info", 1, making.label_info(0, {3: "dog"}))
    path = making.write(tmp_path / "c", [("/seg/mask", 1, mask), info, other])
    with BagReader(path) as bag, pytest.raises(InputError, match=r"/seg/label_info in bag .* changes from"):
        read_classes(bag, "/seg/mask", spec)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"topics": (("", "/t"),), "file": Path("x")}, "from topics or from a file"),
        ({"slop_ns": -1}, "must not be negative"),
        ({"labels": ("a", "A")}, "different names"),
    ],
)
def test_contradictions(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        TruthSpec(**options)
