"""COCO-Object: the two constructions of its class maps, pixel by pixel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import miniature as mini
import numpy as np
import pytest

from objloc_ros.data import open_dataset
from objloc_ros.data.coco_object import MIN_PIXELS, THING_IDS, THINGS
from objloc_ros.errors import InputError
from objloc_ros.evaluation.report.published import BENCHMARKS, find_benchmark, find_published


def make_instances(root: Path, *annotations: dict[str, Any]) -> Path:
    """One image, 40 rows and 60 columns, with rectangles as instances."""
    mini.write(root / "val2017/000000000005.jpg", mini.picture(0, (40, 60)))
    image = {"id": 5, "file_name": "000000000005.jpg", "height": 40, "width": 60}
    path = root / "annotations/instances_val2017.json"
    path.parent.mkdir(parents=True)
    categories = [{"id": number, "name": name} for number, name in zip(THING_IDS, THINGS, strict=True)]
    path.write_text(json.dumps({"images": [image], "annotations": annotations, "categories": categories}))
    return root


def test_classes_are_the_papers() -> None:
    assert (len(THINGS), len(THING_IDS), THING_IDS[0], THING_IDS[-1]) == (80, 80, 1, 90)
    named = dict(zip(THING_IDS, THINGS, strict=True))
    assert (named[1], named[11], named[13], named[44], named[62], named[90]) == (
        *("person", "fire hydrant", "stop sign", "bottle", "chair", "toothbrush"),
    )


def test_instances_are_drawn_in_order_and_the_first_stays(tmp_path: Path) -> None:
    root = make_instances(
        tmp_path,
        mini.annotation(1, 5, 3, (0, 0, 30, 40)),  # car: class 3
        mini.annotation(2, 5, 90, (20, 0, 50, 20)),  # toothbrush: class 80; the car keeps columns 20 to 29
        {**mini.annotation(3, 5, 13, (40, 0, 60, 40)), "iscrowd": 1},  # stop sign: class 12; crowds are drawn
        mini.annotation(4, 5, 12, (0, 0, 60, 40)),  # an id that COCO never used
    )
    dataset = open_dataset("coco_object_instances", root)
    assert (dataset.kind, dataset.convention, dataset.split) == ("semantic", "clip_diy", "val2017")
    assert dataset.classes == ("background", *THINGS)
    expected = np.zeros((40, 60), np.uint8)
    expected[:, 40:] = 12
    expected[:20, 30:50] = 80
    expected[:, :30] = 3
    np.testing.assert_array_equal(dataset.mask(dataset.samples[0]), expected)


@pytest.mark.parametrize(("columns", "kept"), [(50, True), (49, False)])
def test_images_with_few_pixels_of_objects_are_left_out(tmp_path: Path, columns: int, kept: bool) -> None:
    assert MIN_PIXELS == 20 * 50
    twice = [mini.annotation(i, 5, 1, (0, 0, columns, 20)) for i in (1, 2)]  # overlapping pixels count once
    root = make_instances(tmp_path, *twice, mini.annotation(3, 5, 12, (0, 0, 60, 40)))
    if kept:
        assert len(open_dataset("coco_object_instances", root).samples) == 1
    else:
        with pytest.raises(InputError, match="has no image with 1000 pixels of objects"):
            open_dataset("coco_object_instances", root)


def test_stuff_maps(tmp_path: Path) -> None:
    values = np.array([[0, 1, 10], [12, 89, 91], [181, 255, 11]], np.uint8)
    dataset = open_dataset("coco_object_stuff", mini.make_stuff(tmp_path, np.kron(values, np.ones((16, 16), np.uint8))))
    expected = np.array([[1, 2, 11], [12, 80, 0], [0, 0, 0]], np.uint8)
    np.testing.assert_array_equal(dataset.mask(dataset.samples[1])[::16, ::16], expected)
    assert (dataset.kind, dataset.convention, len(dataset.samples)) == ("semantic", "mmseg", 2)
    assert [dataset.classes[i] for i in (0, 1, 5, 11, 80)] == [
        *("background", "person", "aeroplane", "fire hydrant", "toothbrush"),
    ]


def test_stuff_maps_are_checked(tmp_path: Path) -> None:
    root = mini.make_stuff(tmp_path, np.zeros((48, 64), np.uint8))
    open_dataset("coco_object_stuff", root).check()
    mini.write(root / "stuffthingmaps/val2017/000000000001.png", np.zeros((64, 48), np.uint8))
    with pytest.raises(InputError, match=r"1 of 2 maps .* \(48x64, its image 64x48\)"):
        open_dataset("coco_object_stuff", root).check()
    (root / "stuffthingmaps/val2017/000000000001.png").unlink()
    with pytest.raises(InputError, match="1 of 4 files are missing"):
        open_dataset("coco_object_stuff", root).check()


@pytest.mark.parametrize(
    ("name", "split", "method", "backbone", "metric", "value"),
    [
        ("coco20k", "", "lost", "dino_vits16", "corloc", 0.507),
        ("coco_val2017", "val2017", "rcnn", "cutler_cascade", "ap50", 0.219),
        ("kitti", "", "rcnn", "cutler_cascade", "ap50", 0.184),
        ("coco_object_instances", "val2017", "clip_diy", "clip_vitb32", "miou", 0.31),
    ],
)
def test_published_numbers_stand_beside(
    name: str, split: str, method: str, backbone: str, metric: str, value: float
) -> None:
    assert find_published(name, method, backbone, {}, split=split)[metric].value == value
    other = {"coco_object_instances": "coco_object_stuff", "coco_object_stuff": "coco_object_instances"}.get(name, "x")
    assert not find_published(other, method, backbone, {}, split=split), "the two constructions are not mixed"


@pytest.mark.parametrize("name", ["coco20k", "coco_val2017", "coco_object_instances", "coco_object_stuff", "kitti"])
def test_published_numbers_are_found_by_these_names(name: str) -> None:
    split = "val2017" if name.startswith("coco_") else ""
    benchmark = find_benchmark(name, split)
    assert benchmark is not None
    assert benchmark == BENCHMARKS["coco" if name == "coco_val2017" else name]
