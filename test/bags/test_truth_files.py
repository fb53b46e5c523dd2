"""Truth of frames in COCO documents, by stamp."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy")

import bag_making as making

from objloc_ros.bags.reader import BagReader
from objloc_ros.bags.survey import survey
from objloc_ros.bags.truth_files import CocoTruth, TruthSpec, open_truths
from objloc_ros.errors import InputError


def coco(path: Path, images: list[Any], annotations: list[Any] = ()) -> CocoTruth:  # type: ignore[assignment]
    path.write_text(json.dumps({"images": images, "annotations": list(annotations)}))
    return CocoTruth(path)


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
    assert {k: image["id"] for k, image in document.images("bag", "/front/image/compressed").items()} == {10: 1, 20: 2}
    assert {k: image["id"] for k, image in document.images("bag2", "/front/image").items()} == {10: 1, 20: 2, 40: 4}
    with pytest.raises(InputError, match="images 1 and 3 have one stamp, 10"):
        document.images("bag", "/rear/image")


def test_coco_objects(tmp_path: Path) -> None:
    image = {"id": 1, "stamp_ns": 10, "width": 3, "height": 2}
    mask = {"size": [2, 3], "counts": "123"}  # one pixel, two, three: 0 11 000 column by column
    first = {"image_id": 1, "bbox": [1, 0, 2, 2], "track_id": 5, "segmentation": mask}
    second = {"image_id": 1, "bbox": [0, 1, 1, 1], "attributes": {"track_id": 6}, "segmentation": mask}
    crowd = {"image_id": 1, "bbox": [0, 0, 3, 2], "iscrowd": 1}
    truth = coco(tmp_path / "t.json", [image], [first, second, crowd]).truth(image)
    assert (truth.objects, truth.lasting) == ({5: (1, 0, 3, 2), 6: (0, 1, 1, 2)}, True)
    assert truth.foreground is not None
    assert truth.foreground.T.ravel().tolist() == [False, True, True, False, False, False]
    plain = coco(tmp_path / "p.json", [image], [first, {"image_id": 1, "bbox": [0, 1, 1, 1]}]).truth(image)
    assert (plain.objects, plain.lasting) == ({0: (1, 0, 3, 2), 1: (0, 1, 1, 2)}, False)
    assert plain.foreground is None


def test_coco_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"image 1 has no stamp_ns, and its file name 'a.png' is no number"):
        coco(tmp_path / "t.json", [{"id": 1, "file_name": "a.png"}])
    image = {"id": 1, "stamp_ns": 10, "width": 4, "height": 2}
    mask = {"image_id": 1, "bbox": [0, 0, 1, 1], "segmentation": {"size": [2, 3], "counts": "123"}}
    with pytest.raises(InputError, match="image 1 has masks of other sizes than 4x2"):
        coco(tmp_path / "m.json", [image], [mask]).truth(image)


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
    truth = coco(tmp_path / "t.json", [image], [one]).truth(image)
    assert truth.foreground is not None
    assert truth.foreground.T.ravel().tolist() == columns
    boxes_only = coco(tmp_path / "b.json", [image], [one | {"segmentation": []}]).truth(image)
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
        coco(tmp_path / "t.json", [image], [one]).truth(image)


def test_a_document_may_be_of_some_cameras_only(tmp_path: Path) -> None:
    frames = [("/a/image", 10, making.grey(10)), ("/b/image", 11, making.grey(11))]
    coco(tmp_path / "t.json", [{"id": 1, "stamp_ns": 11}])
    with BagReader(making.write(tmp_path / "bag", frames)) as bag:
        stamps = survey(bag, ["/a/image", "/b/image"])
        found = open_truths(bag, stamps, ["/a/image", "/b/image"], TruthSpec(file=tmp_path / "t.json"))
        assert list(found) == ["/b/image"]
        assert found["/b/image"].at(11) is not None
        assert found["/b/image"].at(11) is None
        again = open_truths(bag, stamps, ["/b/image"], TruthSpec(file=tmp_path / "t.json"))
        assert again["/b/image"].at(11) is not None, "another reader begins anew"
        with pytest.raises(InputError, match=r"t.json has 1 stamps, but none is within 0 ms"):
            open_truths(bag, stamps, ["/a/image"], TruthSpec(file=tmp_path / "t.json"))
