"""COCO20k, COCO val2017 and KITTI: which objects count, which are ignored, and what is wrong with damaged files."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import miniature as mini
import numpy as np
import pytest

from objloc_ros.data import open_dataset
from objloc_ros.data.base import stack_boxes
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.io.rle import decode


def test_coco20k_is_what_the_list_names_in_its_order(tmp_path: Path) -> None:
    dataset = open_dataset("coco20k", mini.make_coco20k(tmp_path))
    assert (dataset.name, dataset.split, dataset.kind, dataset.masks) == ("coco20k", "", "boxes", True)
    assert [sample.key for sample in dataset.samples] == [
        "COCO_train2014_000000000011.jpg",
        "COCO_train2014_000000000009.jpg",
    ]
    assert dataset.samples[0].image == tmp_path / "train2014/COCO_train2014_000000000011.jpg"
    dataset.check()


def test_crowds_are_ignored_and_boxes_kept_as_they_are(tmp_path: Path) -> None:
    dataset = open_dataset("coco20k", mini.make_coco20k(tmp_path))
    first = dataset.samples[0]
    assert dataset.boxes(first).tolist() == [[8, 6, 40, 30], [8.5, 6, 40, 30], [9, 6, 40, 30]]
    assert dataset.rounded, "CorLoc rounds: 8.5 to 8, the even neighbour"
    objects = dataset.objects(first)
    assert stack_boxes(objects, ignored=True).tolist() == [[50, 40, 64, 48]]
    assert [item.label for item in objects] == ["car", "person", "person", "cat"]
    assert objects[0].mask is not None
    np.testing.assert_array_equal(decode(objects[0].mask), mini.truth_mask() == 255)
    assert [int(decode(item.mask).sum()) for item in objects if item.mask][::3] == [32 * 24, 14 * 8]


def test_the_list_may_lie_elsewhere(tmp_path: Path) -> None:
    root = mini.make_coco20k(tmp_path / "datasets/COCO")
    listed = root / "coco_20k_filenames.txt"
    assert len(open_dataset("coco20k", root).samples) == 2
    listed.rename(tmp_path / "datasets/coco_20k_filenames.txt")
    assert len(open_dataset("coco20k", tmp_path / "datasets").samples) == 2, "as LOST has it"
    with pytest.raises(InputError, match="the list of images, from LOST's repository"):
        open_dataset("coco20k", root)
    other = tmp_path / "mine.txt"
    other.write_text("COCO_train2014_000000000010.jpg\n")
    assert [sample.key for sample in open_dataset("coco20k", root, chosen=str(other)).samples] == [
        "COCO_train2014_000000000010.jpg"
    ]


def test_losts_selection_is_taken_where_there_is_one(tmp_path: Path) -> None:
    path = mini.make_coco20k(tmp_path, (11,)) / "annotations/instances_train2014.json"
    document = json.loads(path.read_text())
    path.rename(tmp_path / "instances_train2014_sel20k.json")
    dataset = open_dataset("coco20k", tmp_path)
    assert [sample.truth.name for sample in dataset.samples] == ["instances_train2014_sel20k.json"]
    assert len(dataset.objects(dataset.samples[0])) == len(
        [record for record in document["annotations"] if record["image_id"] == 11]
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train2014/COCO_train2014_000000000007.jpg\n9\n", "lacks 1 of the 2 images of .*: 7$"),
        ("a dog.jpg\n", "has 'a': expected names such as train2014/COCO_train2014_000000000009.jpg"),
        ("9\n9\n", "has '9' twice"),
        ("", "is empty"),
    ],
)
def test_lists_that_are_none(tmp_path: Path, text: str, message: str) -> None:
    mini.make_coco20k(tmp_path)
    (tmp_path / "coco_20k_filenames.txt").write_text(text)
    with pytest.raises(InputError, match=message):
        open_dataset("coco20k", tmp_path)


@pytest.mark.parametrize("images", ["val2017", "images/val2017"])
def test_val2017(tmp_path: Path, images: str) -> None:
    mini.make_coco(tmp_path)
    (tmp_path / images).parent.mkdir(exist_ok=True)
    (tmp_path / "val2017").rename(tmp_path / images)
    dataset = open_dataset("coco_val2017", tmp_path)
    dataset.check()
    assert (dataset.split, dataset.masks, dataset.rounded) == ("val2017", True, False)
    assert [len(dataset.boxes(sample)) for sample in dataset.samples] == [1, 2, 3]
    assert dataset.size(dataset.samples[0]) == (48, 64)
    assert pickle.loads(pickle.dumps(dataset)) == dataset == open_dataset("coco_val2017", tmp_path)


def test_an_image_that_is_listed_but_missing(tmp_path: Path) -> None:
    dataset = open_dataset("coco_val2017", mini.make_coco(tmp_path))
    (tmp_path / "val2017/000000000010.jpg").unlink()
    with pytest.raises(InputError, match=r"val2017: 1 of 4 files are missing: .*/val2017/000000000010.jpg$"):
        dataset.check()


def changed(change: Callable[[Any], None]) -> Callable[[str], str]:
    def apply(text: str) -> str:
        document = json.loads(text)
        change(document)
        return json.dumps(document)

    return apply


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[: len(text) // 2], "not JSON"),
        (lambda text: "", "not JSON"),
        (lambda text: "[]", "must be a COCO document"),
        (changed(lambda d: d["images"][1].pop("file_name")), "image 10 has the file_name None"),
        (changed(lambda d: d["images"][1].update(file_name="000000000009.jpg")), "two images have the same file_name"),
        (changed(lambda d: d.update(categories=[{"id": 1}])), "categories must be a list of objects with an id"),
        (changed(lambda d: d["annotations"][0].update(bbox=[1, 2, -3, 4])), "with a negative size"),
        (changed(lambda d: d["annotations"][0].update(image_id=77)), "is for image 77, which is not listed"),
    ],
)
def test_damaged_documents(tmp_path: Path, damage: Callable[[str], str], message: str) -> None:
    path = mini.make_coco(tmp_path) / "annotations/instances_val2017.json"
    path.write_text(damage(path.read_text()))
    with pytest.raises(InputError, match=message):
        open_dataset("coco_val2017", tmp_path)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([[1, 2, 3]], "its segmentation is neither run lengths nor a list of polygons"),
        ([[1, 1, 5, 1, 5, float("nan")]], "its segmentation is neither run lengths nor a list of polygons"),
        ([[1, 1, 5, 1, 1e9, 4]], "its segmentation is neither run lengths nor a list of polygons"),
        ("abc", "its segmentation is neither run lengths nor a list of polygons"),
        ({"size": [64, 48], "counts": [3072]}, r"its mask has \[64, 48\] rows and columns, the image \[48, 64\]"),
        ({"size": [48, 64], "counts": [8, 3]}, "its run lengths are damaged"),
        ({"size": [48, 64], "counts": "abc"}, "its run lengths are damaged"),
        ({"size": [48, 64]}, "its run lengths are damaged"),
    ],
)
def test_damaged_masks_name_their_annotation(tmp_path: Path, segmentation: Any, message: str) -> None:
    path = mini.make_coco(tmp_path) / "annotations/instances_val2017.json"
    changed_text = changed(lambda d: d["annotations"][0].update(segmentation=segmentation))(path.read_text())
    path.write_text(changed_text)
    dataset = open_dataset("coco_val2017", tmp_path)
    with pytest.raises(InputError, match=f"annotation 1 of image '000000000009.jpg': {message}"):
        dataset.objects(dataset.samples[0])


def test_a_document_that_changes_is_read_again(tmp_path: Path) -> None:
    path = mini.make_coco(tmp_path) / "annotations/instances_val2017.json"
    assert len(open_dataset("coco_val2017", tmp_path).samples) == 3
    path.write_text(changed(lambda d: d["images"].append({"id": 1, "file_name": "new.jpg"}))(path.read_text()))
    assert len(open_dataset("coco_val2017", tmp_path).samples) == 4


def test_kitti_counts_all_that_was_labelled(tmp_path: Path) -> None:
    dataset = open_dataset("kitti", mini.make_kitti(tmp_path))
    dataset.check()
    first = dataset.samples[0]
    assert (dataset.kind, first.key, dataset.masks) == ("boxes", "000000", False)
    assert dataset.boxes(first).tolist() == [[8, 6, 40, 30], [1.25, 2.5, 5.75, 20.1]], "occluded and truncated ones too"
    assert stack_boxes(dataset.objects(first), ignored=True).tolist() == [[44, 2, 60, 12]]
    assert [item.label for item in dataset.objects(first)] == ["Car", "Pedestrian", "DontCare"]


@pytest.mark.parametrize("folder", ["training/image_2", "training/label_2"])
def test_kitti_names_what_has_no_partner(tmp_path: Path, folder: str) -> None:
    mini.make_kitti(tmp_path)
    lost = next(iter(sorted((tmp_path / folder).iterdir())))
    lost.unlink()
    with pytest.raises(InputError, match=f"kitti: 1 of 6 files are missing: {lost}"):
        open_dataset("kitti", tmp_path).check()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Car 0.0 0 -1.57 8.0", "line 2: a label has 15 words, this one 5"),
        ("Car 0 0 0 a 6 40 30 1 1 1 1 1 1 1", r"line 2: the box \['a', '6', '40', '30'\] must be four numbers"),
        ("Car 0 0 0 40 6 8 30 1 1 1 1 1 1 1", r"line 2: the box \[40.0, 6.0, 8.0, 30.0\] is empty or swapped"),
        ("Car 0 0 0 8 6 nan 30 1 1 1 1 1 1 1", "line 2: the box .* is empty or swapped"),
    ],
)
def test_damaged_labels(tmp_path: Path, line: str, message: str) -> None:
    dataset = open_dataset("kitti", mini.make_kitti(tmp_path))
    dataset.samples[0].truth.write_text(f"\n{line}\n")
    with pytest.raises(InputError, match=message):
        dataset.objects(dataset.samples[0])


def test_options_are_those_of_the_data_set(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="kitti has no such option: split"):
        open_dataset("kitti", mini.make_kitti(tmp_path), split="val")
