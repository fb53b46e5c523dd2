"""Data sets in their published layouts, whole and damaged."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import miniature as mini
import numpy as np
import pytest

from objloc_ros.data import DATASETS, open_dataset
from objloc_ros.errors import InputError, ParameterError


def test_voc_boxes_lose_one_on_the_low_sides(tmp_path: Path) -> None:
    dataset = open_dataset("voc07", mini.make_voc(tmp_path))
    assert (dataset.name, dataset.split, dataset.kind) == ("voc07", "trainval", "boxes")
    assert [sample.key for sample in dataset.samples] == ["000003", "000002", "000001"], "the list's order"
    annotation = (tmp_path / "VOCdevkit/VOC2007/Annotations/000003.xml").read_text()
    assert "<xmin>9</xmin><ymin>7</ymin><xmax>40</xmax><ymax>30</ymax>" in annotation
    assert dataset.boxes(dataset.samples[0]).tolist() == [[8, 6, 40, 30]]
    dataset.check()


@pytest.mark.parametrize("where", [".", "VOCdevkit", "VOCdevkit/VOC2007"])
def test_voc_is_found_where_people_point(tmp_path: Path, where: str) -> None:
    mini.make_voc(tmp_path)
    assert len(open_dataset("voc07", tmp_path / where).samples) == 3


@pytest.mark.parametrize("flag", ["difficult", "truncated"])
def test_hard_objects_are_kept_unless_told_otherwise(tmp_path: Path, flag: str) -> None:
    mini.make_voc(tmp_path, hard=flag)
    everything, easy = open_dataset("voc07", tmp_path), open_dataset("voc07", tmp_path, no_hard=True)
    assert [len(everything.boxes(sample)) for sample in everything.samples] == [1, 1, 1]
    assert [sample.key for sample in easy.samples] == ["000003", "000002"], "an image with nothing else goes"


def test_class_maps_hold_ids_and_not_colours(tmp_path: Path) -> None:
    dataset = open_dataset("voc_seg", mini.make_voc(tmp_path, 2012))
    assert dataset.kind == "semantic"
    assert len(dataset.classes) == 21
    assert dataset.classes[7] == "car"
    np.testing.assert_array_equal(dataset.mask(dataset.samples[0]), mini.truth_mask(7))


def test_saliency_maps_are_paired_by_name(tmp_path: Path) -> None:
    dataset = open_dataset("ecssd", mini.make_ecssd(tmp_path))
    assert dataset.kind == "saliency"
    assert [sample.key for sample in dataset.samples] == ["0000", "0001", "0002", "0003", "0004"]
    np.testing.assert_array_equal(dataset.mask(dataset.samples[3]), mini.truth_mask())
    assert [sample.key for sample in dataset.first(2).samples] == ["0000", "0001"]


@pytest.mark.parametrize(
    ("name", "images", "maps"),
    [
        ("dut_omron", "DUT-OMRON-image", "pixelwiseGT-new-PNG"),
        ("duts_tr", "DUTS-TR/DUTS-TR-Image", "DUTS-TR/DUTS-TR-Mask"),
        ("duts_te", "DUTS-TE-Image", "DUTS-TE-Mask"),
    ],
)
def test_other_saliency_layouts(tmp_path: Path, name: str, images: str, maps: str) -> None:
    made = mini.make_ecssd(tmp_path / "made")
    for old, new in (("images", images), ("ground_truth_mask", maps)):
        (tmp_path / "root" / new).parent.mkdir(parents=True, exist_ok=True)
        (made / old).rename(tmp_path / "root" / new)
    dataset = open_dataset(name, tmp_path / "root")
    dataset.check()
    assert len(dataset.samples) == 5


def test_other_processes_see_the_same(tmp_path: Path) -> None:
    dataset = open_dataset("voc07", mini.make_voc(tmp_path))
    assert pickle.loads(pickle.dumps(dataset)) == dataset == open_dataset("voc07", tmp_path)


def test_what_is_missing_is_named_before_the_run(tmp_path: Path) -> None:
    dataset = open_dataset("voc07", mini.make_voc(tmp_path))
    base = tmp_path / "VOCdevkit/VOC2007"
    (base / "JPEGImages/000002.jpg").unlink()
    (base / "Annotations/000001.xml").unlink()
    with pytest.raises(InputError) as caught:
        dataset.check()
    assert str(caught.value) == (
        f"voc07 trainval: 2 of 6 files are missing: {base}/JPEGImages/000002.jpg, {base}/Annotations/000001.xml"
    )


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        ("<annotation>", "cannot read the annotation"),
        ("<a><object><name>car</name></object></a>", "object 0 has no bndbox with four numbers"),
        ("<a><object><bndbox>{}</bndbox></object></a>".format("<xmin>x</xmin>"), "no bndbox with four numbers"),
    ],
)
def test_damaged_annotations(tmp_path: Path, annotation: str, message: str) -> None:
    dataset = open_dataset("voc07", mini.make_voc(tmp_path))
    dataset.samples[0].truth.write_text(annotation)
    with pytest.raises(InputError, match=message):
        dataset.boxes(dataset.samples[0])


@pytest.mark.parametrize("box", [(9, 7, 8, 30), (40, 7, 9, 30), (0, 7, 40, 30)])
def test_boxes_that_are_none(tmp_path: Path, box: tuple[int, ...]) -> None:
    dataset = open_dataset("voc07", mini.make_voc(tmp_path))
    sides = "".join(f"<{n}>{v}</{n}>" for n, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    dataset.samples[0].truth.write_text(f"<a><object><bndbox>{sides}</bndbox></object></a>")
    with pytest.raises(InputError, match="empty, swapped or before pixel 1"):
        dataset.boxes(dataset.samples[0])


def test_splits_may_be_joined(tmp_path: Path) -> None:
    mini.make_voc(tmp_path)
    (tmp_path / "VOCdevkit/VOC2007/ImageSets/Main/test.txt").write_text("000009\n")
    dataset = open_dataset("voc07", tmp_path, split="trainval+test")
    assert [sample.key for sample in dataset.samples] == ["000003", "000002", "000001", "000009"]


def test_maps_of_another_size_are_named_before_the_run(tmp_path: Path) -> None:
    dataset = open_dataset("ecssd", mini.make_ecssd(tmp_path))
    mini.write(tmp_path / "ground_truth_mask/0002.png", mini.truth_mask(size=(48, 63)))
    (tmp_path / "images/0001.jpg").write_bytes(b"no image")
    with pytest.raises(InputError) as caught:
        dataset.check()
    assert str(caught.value) == (
        "ecssd: 1 of 5 maps are not of their image's size: "
        f"{tmp_path}/ground_truth_mask/0002.png (63x48, its image 64x48)"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "is empty"), ("\n \n", "is empty"), ("a\nb\na\n", "has 'a' twice"), (None, "cannot read")],
)
def test_lists_of_images(tmp_path: Path, text: str | None, message: str) -> None:
    mini.make_voc(tmp_path)
    names = tmp_path / "VOCdevkit/VOC2007/ImageSets/Main/trainval.txt"
    names.unlink()
    if text is not None:
        names.write_text(text)
    with pytest.raises(InputError, match=message):
        open_dataset("voc07", tmp_path)


@pytest.mark.parametrize("name", sorted(set(DATASETS) - {"coco_json"}))
def test_another_layout(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="has none of the folders"):
        open_dataset(name, tmp_path)
    with pytest.raises(InputError, match="there is no folder"):
        open_dataset(name, tmp_path / "absent")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [("voc08", {}, "data set must be one of voc07, "), ("ecssd", {"split": "val"}, "ecssd has no such option")],
)
def test_unknown_names(tmp_path: Path, name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        open_dataset(name, tmp_path, **options)
