"""Objects of a fleet as a document with labels of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fleet_making import annotation, picture, prelabels

from objloc_ros.data.coco_document import PRELABELS
from objloc_ros.errors import InputError
from objloc_ros.fleet.documents import name_images, write_objects
from objloc_ros.fleet.objects import Fleet, read_fleet
from objloc_ros.training.detector_labels import read_labels

LEFT, RIGHT = (8, 8, 40, 40), (60, 8, 100, 48)


def make_fleet(*folders: Path, **more: Any) -> Fleet:
    rgb = picture((200, 40, 40), LEFT)
    return read_fleet([prelabels(folder, [(rgb, [LEFT, RIGHT]), (rgb, [LEFT])], **more) for folder in folders])


def test_a_detector_reads_the_labels(tmp_path: Path) -> None:
    fleet = make_fleet(tmp_path / "a")
    images = write_objects(tmp_path / "out.json", fleet, np.array([1, -1, 0]), ["cup", "box"], info={"k": 2})
    labels = read_labels(tmp_path / "out.json", images)
    assert labels.classes == ("cup", "box")
    assert [image.categories.tolist() for image in labels.images] == [[1], [0]]
    assert [image.boxes.tolist() for image in labels.images] == [[list(LEFT)], [list(LEFT)]]
    assert all(image.masks.sum() == 32 * 32 for image in labels.images)
    assert json.loads((tmp_path / "out.json").read_text())["info"] == {"k": 2}


def test_scores_may_be_others_than_the_documents(tmp_path: Path) -> None:
    fleet = make_fleet(tmp_path / "a")
    labels = np.zeros(3, int)
    for scores, expected in ((None, [0.5] * 3), (np.array([0.1, 0.2, 0.3]), [0.1, 0.2, 0.3])):
        write_objects(tmp_path / "out.json", fleet, labels, ["object"], scores=scores, info={})
        written = json.loads((tmp_path / "out.json").read_text())["annotations"]
        assert [record["score"] for record in written] == expected


def test_images_keep_their_names_or_get_such_that_tell_them_apart(tmp_path: Path) -> None:
    one = make_fleet(tmp_path / "a")
    assert name_images(one) == (tmp_path / "a/images", ["000.png", "001.png"])
    two = make_fleet(tmp_path / "b", tmp_path / "c")
    root, names = name_images(two)
    assert names == ["b/images/000.png", "b/images/001.png", "c/images/000.png", "c/images/001.png"]
    assert [root / name for name in names] == [image.file for image in two.images]
    deep = make_fleet(tmp_path / "d", about=[{"file_name": "front/0.png"}, {"file_name": "front/1.png"}])
    assert name_images(deep) == (tmp_path / "d/images", ["front/0.png", "front/1.png"])


def test_tracks_of_two_documents_stay_apart(tmp_path: Path) -> None:
    for name in "ab":
        path = prelabels(tmp_path / name, [(picture((200, 40, 40), LEFT), [LEFT, RIGHT])]) / PRELABELS
        document = json.loads(path.read_text())
        document["annotations"][0] |= {"track_id": 7, "attributes": {"track_id": 7}}
        path.write_text(json.dumps(document))
    fleet = read_fleet([tmp_path / "a", tmp_path / "b"])
    write_objects(tmp_path / "out.json", fleet, np.zeros(4, int), ["object"], info={})
    written = json.loads((tmp_path / "out.json").read_text())["annotations"]
    assert [record.get("track_id") for record in written] == [1, None, 2, None]
    assert written[2]["attributes"] == {"track_id": 2}


def test_stamps_cameras_and_boxes_without_masks_stay(tmp_path: Path) -> None:
    about = [{"stamp_ns": 5, "topic": "/front", "bag": "drive"}]
    path = prelabels(tmp_path / "a", [(picture((200, 40, 40), LEFT), [LEFT])], about=about) / PRELABELS
    document = json.loads(path.read_text())
    document["annotations"][0]["segmentation"] = []
    path.write_text(json.dumps(document))
    write_objects(tmp_path / "out.json", read_fleet([tmp_path / "a"]), np.zeros(1, int), ["object"], info={})
    written = json.loads((tmp_path / "out.json").read_text())
    assert (written["images"][0]["stamp_ns"], written["images"][0]["topic"]) == (5, "/front")
    assert written["annotations"][0]["segmentation"] == []
    assert written["annotations"][0]["bbox"] == annotation(1, LEFT)["bbox"]


def test_a_damaged_mask_is_named(tmp_path: Path) -> None:
    path = prelabels(tmp_path / "a", [(picture((200, 40, 40), LEFT), [LEFT])]) / PRELABELS
    document = json.loads(path.read_text())
    document["annotations"][0]["segmentation"]["size"] = [5, 5]
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match=r"annotation 1 of 000.png: its mask has \[5, 5\] rows"):
        write_objects(tmp_path / "out.json", read_fleet([tmp_path / "a"]), np.zeros(1, int), ["object"], info={})
