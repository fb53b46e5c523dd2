"""The truth of a camera: from topics of the bag in any order of recording, or from a COCO document."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy")
import json

import bag_making as making
from std_msgs.msg import Header, String

from objloc_ros.bags.reader import BagReader
from objloc_ros.bags.survey import Stamps, survey
from objloc_ros.bags.truth import Classes
from objloc_ros.bags.truth_sources import (
    MAX_PENDING_TRUTHS,
    CocoDocument,
    TopicTruth,
    TruthSpec,
    open_truths,
    read_classes,
)
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
    found = [truth.take(key) for key in keys]
    return [None if one is None or one.boxes is None else next(iter(one.boxes)) for one in found]


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
    stamps = list(range(10, 10 + 3 * MAX_PENDING_TRUTHS))
    truth, _ = open_topic(tmp_path / "a", camera_and_truth(stamps, stamps))
    assert places(truth, [stamps[-1]]) == [len(stamps)]
    assert len(truth._pending) <= MAX_PENDING_TRUTHS + 1
    with pytest.raises(InputError, match="is in another order than its frames"):
        truth.take(stamps[0])


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
        truth.take(10)


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
        assert TruthSpec(tuple(given)).assign_topics(bag, CAMERAS) == owners


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([("", "/truth")], "/truth may be the truth of /front/image, /rear/image, /rear/wide/image: say whose"),
        ([("", "/front/truth"), ("/front/image", "/truth")], "/front/truth and /truth cannot both be the truth"),
        ([("/side/image", "/truth")], "/truth cannot be the truth of /side/image: the cameras are"),
        ([("", "/talk")], "/talk of bag .* holds std_msgs/msg/String messages, not truth"),
        ([("", "/none")], "has no topic /none"),
    ],
)
def test_truth_of_nobody(tmp_path: Path, given: list[Any], message: str) -> None:
    messages = [("/front/truth", 1, making.boxes(1)), ("/truth", 1, making.boxes(1)), ("/talk", 1, String())]
    with BagReader(making.write(tmp_path / "bag", messages)) as bag, pytest.raises(InputError, match=message):
        TruthSpec(tuple(given)).assign_topics(bag, CAMERAS)


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


def coco(path: Path, images: list[Any], annotations: list[Any] = ()) -> CocoDocument:  # type: ignore[assignment]
    path.write_text(json.dumps({"images": images, "annotations": list(annotations)}))
    return CocoDocument(path)


def test_coco_images_say_when_they_were_taken(tmp_path: Path) -> None:
    document = coco(
        tmp_path / "t.json",
        [
            {"id": 1, "stamp_ns": 10, "file_name": "a.png"},
            {"id": 2, "file_name": "frames/20.png"},
            {"id": 3, "stamp_ns": 10, "topic": "/rear/image"},
            {"id": 4, "stamp_ns": 40, "bag": "other/bag2"},
        ],
    )
    assert {k: image["id"] for k, image in document.select_images("bag", "/front/image/compressed").items()} == {
        10: 1,
        20: 2,
    }
    assert {k: image["id"] for k, image in document.select_images("bag2", "/front/image").items()} == {
        10: 1,
        20: 2,
        40: 4,
    }
    with pytest.raises(InputError, match="images 1 and 3 have one stamp, 10"):
        document.select_images("bag", "/rear/image")


def test_coco_objects(tmp_path: Path) -> None:
    image = {"id": 1, "stamp_ns": 10, "width": 3, "height": 2}
    mask = {"size": [2, 3], "counts": "123"}  # one pixel, two, three: 0 11 000 column by column
    first = {"image_id": 1, "bbox": [1, 0, 2, 2], "track_id": 5, "segmentation": mask}
    second = {"image_id": 1, "bbox": [0, 1, 1, 1], "attributes": {"track_id": 6}, "segmentation": mask}
    crowd = {"image_id": 1, "bbox": [0, 0, 3, 2], "iscrowd": 1}
    truth = coco(tmp_path / "t.json", [image], [first, second, crowd]).read_truth(image)
    assert (truth.boxes, truth.tracked) == ({5: (1, 0, 3, 2), 6: (0, 1, 1, 2)}, True)
    assert truth.foreground is not None
    assert truth.foreground.T.ravel().tolist() == [False, True, True, False, False, False]
    plain = coco(tmp_path / "p.json", [image], [first, {"image_id": 1, "bbox": [0, 1, 1, 1]}]).read_truth(image)
    assert (plain.boxes, plain.tracked) == ({0: (1, 0, 3, 2), 1: (0, 1, 1, 2)}, False)
    assert plain.foreground is None


def test_coco_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"image 1 has no stamp_ns, and its file name 'a.png' is no number"):
        coco(tmp_path / "t.json", [{"id": 1, "file_name": "a.png"}])
    image = {"id": 1, "stamp_ns": 10, "width": 4, "height": 2}
    mask = {"image_id": 1, "bbox": [0, 0, 1, 1], "segmentation": {"size": [2, 3], "counts": "123"}}
    with pytest.raises(InputError, match="image 1 has masks of other sizes than 4x2"):
        coco(tmp_path / "m.json", [image], [mask]).read_truth(image)


RECTANGLE = [[0, 0, 3, 0, 3, 2, 0, 2]]


@pytest.mark.parametrize(
    ("size", "segmentation", "columns"),
    [
        ({"width": 3, "height": 2}, RECTANGLE, [1, 1, 1, 1, 1, 1]),
        ({"width": 3, "height": 2}, {"size": [2, 3], "counts": [1, 2, 3]}, [0, 1, 1, 0, 0, 0]),
        ({}, {"size": [2, 3], "counts": [1, 2, 3]}, [0, 1, 1, 0, 0, 0]),
    ],
)
def test_masks_of_every_kind(tmp_path: Path, size: Any, segmentation: Any, columns: list[int]) -> None:
    image = {"id": 1, "stamp_ns": 10, **size}
    one = {"image_id": 1, "bbox": [0, 0, 3, 2], "segmentation": segmentation}
    truth = coco(tmp_path / "t.json", [image], [one]).read_truth(image)
    assert truth.foreground is not None
    assert truth.foreground.T.ravel().tolist() == columns
    boxes_only = coco(tmp_path / "b.json", [image], [one | {"segmentation": []}]).read_truth(image)
    assert boxes_only.foreground is None


@pytest.mark.parametrize(
    ("size", "segmentation", "message"),
    [
        (
            {"width": 3, "height": 2},
            {"size": [2, 3], "counts": "~~~~"},
            "image 1, an object: its run lengths are damaged",
        ),
        ({"width": 3, "height": 2}, {"size": [2, 3], "counts": 5}, "image 1, an object: its run lengths are damaged"),
        ({"width": 3, "height": 2}, [[0, 0, "x"]], "image 1, an object: its segmentation is neither"),
        ({}, RECTANGLE, "image 1 has masks, but no height and width"),
    ],
)
def test_masks_that_are_none(tmp_path: Path, size: Any, segmentation: Any, message: str) -> None:
    image = {"id": 1, "stamp_ns": 10, **size}
    one = {"image_id": 1, "bbox": [0, 0, 3, 2], "segmentation": segmentation}
    with pytest.raises(InputError, match=f"t.json: {message}"):
        coco(tmp_path / "t.json", [image], [one]).read_truth(image)


def test_a_document_may_be_of_some_cameras_only(tmp_path: Path) -> None:
    frames = [("/a/image", 10, making.grey(10)), ("/b/image", 11, making.grey(11))]
    coco(tmp_path / "t.json", [{"id": 1, "stamp_ns": 11}])
    with BagReader(making.write(tmp_path / "bag", frames)) as bag:
        stamps = survey(bag, ["/a/image", "/b/image"])
        found = open_truths(bag, stamps, ["/a/image", "/b/image"], TruthSpec(file=tmp_path / "t.json"))
        assert list(found) == ["/b/image"]
        assert found["/b/image"].take(11) is not None
        assert found["/b/image"].take(11) is None
        again = open_truths(bag, stamps, ["/b/image"], TruthSpec(file=tmp_path / "t.json"))
        assert again["/b/image"].take(11) is not None, "another reader begins anew"
        with pytest.raises(InputError, match=r"t.json has 1 stamps, but none is within 0 ms"):
            open_truths(bag, stamps, ["/a/image"], TruthSpec(file=tmp_path / "t.json"))
