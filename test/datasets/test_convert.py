"""Data sets to COCO JSON and back: the same boxes, masks and maps; and other people's documents."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import miniature as mini
import numpy as np
import pytest

from objloc_ros.data import Dataset, open_dataset, to_coco
from objloc_ros.data.coco_json import from_levels, to_levels
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.io.files import write_json
from objloc_ros.io.rle import decode
from objloc_ros.metrics.saliency import RULES

STUFF = np.kron(np.array([[0, 1, 255], [12, 89, 91]], np.uint8), np.ones((24, 22), np.uint8))[:, :64]


def back(dataset: Dataset, root: Path, out: Path, **options: Any) -> Dataset:
    write_json(out, to_coco(dataset, root))
    return open_dataset("coco_json", root, annotations=str(out), **options)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("voc07", mini.make_voc),
        ("coco20k", mini.make_coco20k),
        ("coco_val2017", mini.make_coco),
        ("kitti", mini.make_kitti),
    ],
)
def test_boxes_survive(tmp_path: Path, name: str, make: Callable[[Path], Path]) -> None:
    dataset = open_dataset(name, make(tmp_path / "data"))
    again = back(dataset, tmp_path / "data", tmp_path / "all.json")
    assert (again.kind, again.masks, again.rounded) == ("boxes", dataset.masks, dataset.rounded)
    assert [sample.image for sample in again.samples] == [sample.image for sample in dataset.samples]
    for ours, theirs in zip(again.samples, dataset.samples, strict=True):
        for one, other in zip(again.objects(ours), dataset.objects(theirs), strict=True):
            np.testing.assert_allclose(one.box, other.box, rtol=0, atol=1e-12)
            assert (one.label, one.ignored, one.flags, one.mask) == (
                other.label,
                other.ignored,
                other.flags,
                other.mask,
            )


def test_the_document_is_what_other_tools_expect(tmp_path: Path) -> None:
    document = to_coco(open_dataset("kitti", mini.make_kitti(tmp_path, 1)), tmp_path)
    assert document["images"] == [{"id": 1, "file_name": "training/image_2/000000.png", "width": 64, "height": 48}]
    assert document["categories"] == [
        {"id": 1, "name": "Car"},
        {"id": 2, "name": "DontCare"},
        {"id": 3, "name": "Pedestrian"},
    ]
    about = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "segmentation": []}
    assert document["annotations"][0] == {**about, "bbox": [8, 6, 32, 24], "area": 768}
    assert document["annotations"][1]["bbox"] == [1.25, 2.5, 4.5, 17.6]
    assert document["annotations"][2]["iscrowd"] == 1


def test_decimals_stay_decimals(tmp_path: Path) -> None:
    path = mini.make_coco(tmp_path) / "annotations/instances_val2017.json"
    document = json.loads(path.read_text())
    document["annotations"][0]["bbox"] = [0.1, 0.2, 33.21, 40.07]  # 0.1 + 33.21 - 0.1 is 33.21000000000001
    path.write_text(json.dumps(document))
    written = to_coco(open_dataset("coco_val2017", tmp_path), tmp_path)
    assert written["annotations"][0]["bbox"] == [0.1, 0.2, 33.21, 40.07]


@pytest.mark.parametrize("flag", ["difficult", "truncated"])
def test_hard_objects_stay_hard(tmp_path: Path, flag: str) -> None:
    dataset = open_dataset("voc07", mini.make_voc(tmp_path / "data", hard=flag))
    assert len(back(dataset, tmp_path / "data", tmp_path / "all.json").samples) == 3
    easy = back(dataset, tmp_path / "data", tmp_path / "all.json", no_hard=True)
    assert [sample.image.stem for sample in easy.samples] == ["000003", "000002"]
    assert [len(easy.boxes(sample)) for sample in easy.samples] == [1, 1]


def test_saliency_survives(tmp_path: Path) -> None:
    root = mini.make_ecssd(tmp_path / "data", 3)
    soft = np.tile(np.arange(64, dtype=np.uint8) * 4, (48, 1))
    mini.write(root / "ground_truth_mask/0001.png", soft)
    mini.write(root / "ground_truth_mask/0002.png", np.zeros((48, 64), np.uint8))
    dataset = open_dataset("ecssd", root)
    again = back(dataset, root, tmp_path / "all.json")
    assert again.kind == "saliency"
    np.testing.assert_array_equal(again.mask(again.samples[0]), mini.truth_mask())
    assert not again.mask(again.samples[2]).any()
    for rule in RULES.values():
        np.testing.assert_array_equal(rule(again.mask(again.samples[1])), rule(soft))
    annotations = json.loads((tmp_path / "all.json").read_text())["annotations"]
    assert [annotation["image_id"] for annotation in annotations] == [1, 2], "nothing is in the third"
    assert annotations[0]["bbox"] == [8, 6, 32, 24]
    assert "levels" not in annotations[0]


@pytest.mark.parametrize("value", [0, 1, 127, 128, 129, 200, 254, 255])
def test_levels_are_the_values_that_rules_tell_apart(value: int) -> None:
    shown = np.array([[value, 0, 255]], np.uint8)
    solid, more = to_levels(shown)
    again = from_levels(solid, more.get("levels"), (1, 3))
    for limit in (1, 128, 129, 255):
        np.testing.assert_array_equal(again >= limit, shown >= limit)


@pytest.mark.parametrize("levels", [[], {"1": {}}, "x"])
def test_levels_that_are_none(levels: Any) -> None:
    with pytest.raises(InputError, match="levels must have the masks 1, 129, 255"):
        from_levels(np.zeros((1, 3), bool), levels, (1, 3))


def voc_with_border(root: Path) -> Path:
    mini.make_voc(root, 2012)
    shown = mini.truth_mask(7)
    shown[:6] = 255
    shown[40:, :9] = 20
    mini.write(root / "VOCdevkit/VOC2012/SegmentationClass/000003.png", shown)
    return root


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("voc_seg", voc_with_border),
        ("coco_object_stuff", lambda root: mini.make_stuff(root, STUFF)),
        ("coco_object_instances", lambda root: mini.make_coco(root, count=4)),
    ],
)
def test_class_maps_survive(tmp_path: Path, name: str, make: Callable[[Path], Path]) -> None:
    root = make(tmp_path / "data")
    if name == "coco_object_instances":  # larger objects, so that images count
        path = root / "annotations/instances_val2017.json"
        document = json.loads(path.read_text())
        document["annotations"].insert(0, mini.annotation(500, 10, 62, (0, 0, 60, 44)))
        path.write_text(json.dumps(document))
    dataset = open_dataset(name, root)
    again = back(dataset, root, tmp_path / "all.json")
    assert (again.kind, again.classes, again.convention) == ("semantic", dataset.classes, dataset.convention)
    for ours, theirs in zip(again.samples, dataset.samples, strict=True):
        np.testing.assert_array_equal(again.mask(ours), dataset.mask(theirs))


def test_pixels_without_truth_are_a_crowd(tmp_path: Path) -> None:
    document = to_coco(open_dataset("voc_seg", voc_with_border(tmp_path)), tmp_path)
    assert document["categories"][-1] == {"id": 255, "name": "unlabelled"}
    crowd = next(record for record in document["annotations"] if record["category_id"] == 255)
    assert (crowd["iscrowd"], crowd["ignore"], crowd["bbox"], crowd["area"]) == (1, 1, [0, 0, 64, 6], 384)
    assert decode(crowd["segmentation"])[:6].all()


def foreign(root: Path, **image: Any) -> Path:
    """Somebody's own document: two overlapping polygons, no info, ids of their own."""
    mini.write(root / "pictures/a.jpg", mini.picture(0))
    image = {"id": "a", "file_name": "pictures/a.jpg", "height": 48, "width": 64, **image}
    annotations = [mini.annotation(1, "a", 8, (8, 6, 40, 30)), mini.annotation(2, "a", 5, (20, 6, 60, 30))]
    categories = [{"id": 8, "name": "cup, blue"}, {"id": 5, "name": "tray"}]
    path = root / "mine.json"
    write_json(path, {"images": [image], "annotations": annotations, "categories": categories})
    return path


def test_documents_of_others(tmp_path: Path) -> None:
    path = str(foreign(tmp_path))
    boxes = open_dataset("coco_json", tmp_path, annotations=path)
    boxes.check()
    assert (boxes.kind, boxes.split, boxes.masks) == ("boxes", "mine", True)
    assert boxes.boxes(boxes.samples[0]).tolist() == [[8, 6, 40, 30], [20, 6, 60, 30]]
    classes = open_dataset("coco_json", tmp_path, annotations=path, kind="semantic")
    assert classes.classes == ("background", "tray", "cup, blue")
    shown = classes.mask(classes.samples[0])
    assert np.unique(shown[6:30, 8:40]).tolist() == [2], "the first stays"
    assert np.unique(shown[6:30, 40:60]).tolist() == [1]
    saliency = open_dataset("coco_json", tmp_path, annotations=path, kind="saliency")
    assert int((saliency.mask(saliency.samples[0]) == 255).sum()) == 24 * 52


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ({"height": None, "width": None}, "has no height and width"),
        ({"height": 0}, "has the height and width"),
        ({"width": "64"}, "has the height and width"),
    ],
)
def test_documents_must_say_how_large_images_are(tmp_path: Path, image: dict[str, Any], message: str) -> None:
    path = str(foreign(tmp_path, **image))
    dataset = open_dataset("coco_json", tmp_path, annotations=path, kind="semantic")
    with pytest.raises(InputError, match=message):
        dataset.mask(dataset.samples[0])


def test_sizes_must_agree(tmp_path: Path) -> None:
    path = str(foreign(tmp_path, height=64, width=48))
    with pytest.raises(InputError, match=r"pictures/a.jpg has 64x48 pixels, by .*/mine.json it has 48x64"):
        to_coco(open_dataset("coco_json", tmp_path, annotations=path), tmp_path)
    root = mini.make_ecssd(tmp_path / "ecssd", 1)
    mini.write(root / "ground_truth_mask/0000.png", np.zeros((64, 48), np.uint8))
    with pytest.raises(InputError, match="the map has 48x64 pixels, the image 64x48"):
        to_coco(open_dataset("ecssd", root), root)


def test_bad_options(tmp_path: Path) -> None:
    path = str(foreign(tmp_path))
    with pytest.raises(ParameterError, match="needs its annotations"):
        open_dataset("coco_json", tmp_path)
    with pytest.raises(ParameterError, match="kind must be one of boxes, saliency, semantic, got 'points'"):
        open_dataset("coco_json", tmp_path, annotations=path, kind="points")
    with pytest.raises(ParameterError, match="no_hard is for boxes"):
        open_dataset("coco_json", tmp_path, annotations=path, kind="saliency", no_hard=True)
    with pytest.raises(InputError, match=r"is not below .*/elsewhere"):
        to_coco(open_dataset("coco_json", tmp_path, annotations=path), tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"cannot read .*absent\.json"):
        open_dataset("coco_json", tmp_path, annotations=str(tmp_path / "absent.json"))
