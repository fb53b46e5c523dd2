"""`objloc evaluate corloc|coco|saliency|miou` on small files, good and bad."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from objloc_ros.cli.main import main

TRUTH: dict[str, Any] = {
    "images": [
        {"id": 7, "file_name": "a.jpg", "width": 40, "height": 30},
        {"id": 8, "file_name": "b.jpg", "width": 40, "height": 30},
    ],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 1, "bbox": [0, 0, 16, 8]},
        {"id": 2, "image_id": 8, "category_id": 1, "bbox": [4, 4, 10, 10], "difficult": 1},
        {"id": 3, "image_id": 8, "category_id": 1, "bbox": [20, 20, 8, 8], "iscrowd": 1},
    ],
    "categories": [{"id": 1, "name": "object"}],
}
RIGHT = {"image_id": 7, "category_id": 1, "bbox": [0, 0, 32, 8], "score": 0.5}
WRONG = {"image_id": 7, "category_id": 1, "bbox": [30, 20, 5, 5], "score": 0.4}
ON_CROWD = {"image_id": 8, "category_id": 1, "bbox": [20, 20, 8, 8], "score": 0.9}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    truth, predictions = tmp_path / "truth.json", tmp_path / "predictions.json"
    truth.write_text(json.dumps(TRUTH))
    return predictions, truth


def evaluate(what: str, files: tuple[Path, Path], predictions: Any, *more: str) -> int:
    if predictions is not None:
        files[0].write_text(predictions if isinstance(predictions, str) else json.dumps(predictions))
    return main(["evaluate", what, "--predictions", str(files[0]), "--ground-truth", str(files[1]), *more])


@pytest.mark.parametrize(
    ("predictions", "options", "expected"),
    [
        ([RIGHT, WRONG, ON_CROWD], (), (0.5, 1, 2)),  # the crowd is no object
        ([{**WRONG, "score": 0.5}, RIGHT], (), (0.0, 0, 2)),  # of equal scores the first
        ([RIGHT, ON_CROWD], ("--no-hard",), (1.0, 1, 1)),  # the image with nothing but a difficult object goes
        ([], (), (0.0, 0, 2)),
    ],
)
def test_corloc(
    files: tuple[Path, Path], capsys: Any, predictions: list[Any], options: tuple[str, ...], expected: tuple[float, int]
) -> None:
    assert evaluate("corloc", files, predictions, "--json", *options) == 0
    got = json.loads(capsys.readouterr().out)
    assert (got["corloc"], got["hits"], got["images"]) == expected


def test_documents_are_matched_by_file_name(files: tuple[Path, Path], capsys: Any) -> None:
    document = {"images": [{"id": 1, "file_name": "photos/a.png"}], "annotations": [{**RIGHT, "image_id": 1}]}
    assert evaluate("corloc", files, document) == 0
    assert capsys.readouterr().out == "corloc  0.5000\nhits         1\nimages       2\n"


def test_boxes_of_coco(files: tuple[Path, Path], tmp_path: Path, capsys: Any) -> None:
    found = [{**RIGHT, "bbox": [0, 0, 16, 8]}, {**ON_CROWD, "bbox": [4, 4, 10, 10]}]
    assert evaluate("coco", files, found, "--out", str(tmp_path / "out.json")) == 0
    assert ["ap50", "1.0000"] in map(str.split, capsys.readouterr().out.splitlines())
    assert json.loads((tmp_path / "out.json").read_text())["ar1"] == pytest.approx(1)


def test_objects_flagged_difficult_are_left_out_of_precision_where_asked(files: tuple[Path, Path], capsys: Any) -> None:
    found = [{**RIGHT, "bbox": [0, 0, 16, 8]}]
    assert evaluate("coco", files, found, "--json") == 0
    assert json.loads(capsys.readouterr().out)["ar100"] == pytest.approx(0.5)
    assert evaluate("coco", files, found, "--json", "--no-difficult") == 0
    assert json.loads(capsys.readouterr().out)["ar100"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("attributes", "hits"),
    [
        ({}, 0),  # COCO's own
        ({"attributes": {"occluded": False}}, 1),  # CVAT writes every mask as a crowd
        ({"attributes": {"is_crowd": True}}, 0),  # unless somebody has ticked it
    ],
)
def test_masks_from_cvat_are_no_crowds(
    files: tuple[Path, Path], capsys: Any, attributes: dict[str, Any], hits: int
) -> None:
    crowd = {**TRUTH["annotations"][2], **attributes}
    files[1].write_text(json.dumps({**TRUTH, "annotations": [*TRUTH["annotations"][:2], crowd]}))
    assert evaluate("corloc", files, [ON_CROWD], "--json") == 0
    assert json.loads(capsys.readouterr().out)["hits"] == hits


def test_limits_decide_the_exit_status(files: tuple[Path, Path], capsys: Any) -> None:
    assert evaluate("corloc", files, [RIGHT], "--fail-under", "corloc=0.5") == 0
    assert evaluate("corloc", files, [RIGHT], "--fail-under", "corloc=0.6") == 4
    assert "objloc: corloc is 0.5000, below 0.6" in capsys.readouterr().err
    assert evaluate("corloc", files, [RIGHT], "--fail-under", "ap=0.6") == 2


NAN = json.dumps([{**RIGHT, "bbox": [0, 0, float("nan"), 8]}])


@pytest.mark.parametrize(
    ("predictions", "message"),
    [
        (NAN, "prediction[0] of image 7 has the box [0, 0, nan, 8]: expected four finite numbers"),
        ([RIGHT, {**RIGHT, "bbox": [9, 0, -4, 8]}], "prediction[1] of image 7 has the box [9, 0, -4, 8]: [x, y, width"),
        ([{**RIGHT, "bbox": [9, 0, 0, 8]}], "its width and height must be > 0"),
        ([{**RIGHT, "bbox": [9, 0, 3]}], "has the box [9, 0, 3]: expected four finite numbers"),
        ([{**RIGHT, "bbox": [0, 0, 10**400, 8]}], "expected four finite numbers"),
        ([{**RIGHT, "score": 10**400}], "no finite number"),
        ([{**RIGHT, "score": None}], "has the score None: no finite number"),
        ([{"image_id": 7, "bbox": [0, 0, 1, 1]}], "prediction[0] has no score"),
        ([{**RIGHT, "image_id": 99}], "prediction[0] is for image 99, which the ground truth has not"),
        ({"images": [{"id": 1, "file_name": "c.jpg"}], "annotations": []}, "the ground truth has no image 'c.jpg'"),
        ("", "not JSON"),
        ('[{"image_id": 7', "not JSON"),
        ({}, "must be a list of COCO results or a document"),
        (None, "cannot read"),
    ],
)
def test_bad_predictions(files: tuple[Path, Path], capsys: Any, predictions: Any, message: str) -> None:
    assert evaluate("corloc", files, predictions) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": []}, "there are no images"),
        ({"images": TRUTH["images"] * 2}, "two images have the id 7"),
        (
            {"annotations": [{"image_id": 9, "bbox": [0, 0, 1, 1]}]},
            "annotations[0] is for image 9, which is not listed",
        ),
        (
            {"annotations": [{"image_id": 7, "bbox": [5, 5, -1, 1]}]},
            "annotations[0] of image 7 has the box [5, 5, -1, 1]",
        ),
        ({"annotations": None}, "must be a COCO document with lists images and annotations"),
    ],
)
def test_bad_truth(files: tuple[Path, Path], capsys: Any, change: dict[str, Any], message: str) -> None:
    files[1].write_text(json.dumps({**TRUTH, **change}))
    assert evaluate("corloc", files, []) == 2
    assert message in capsys.readouterr().err


def test_masks_of_the_wrong_size(files: tuple[Path, Path], capsys: Any) -> None:
    found = [{**RIGHT, "segmentation": {"size": [40, 30], "counts": "0"}}]
    assert evaluate("coco", files, found, "--iou-type", "segm") == 2
    assert "has a mask of [40, 30] rows and columns, the image [30, 40]" in capsys.readouterr().err
    assert evaluate("coco", files, [RIGHT], "--iou-type", "segm") == 2
    assert "has no RLE mask" in capsys.readouterr().err


MASK = {"size": [30, 40], "counts": [0, 240, 960]}
"""The first 8 columns."""


def with_masks(*masks: Any, sized: bool = True) -> dict[str, Any]:
    images = TRUTH["images"] if sized else [{"id": image["id"]} for image in TRUTH["images"]]
    given = [
        one if mask is None else {**one, "segmentation": mask}
        for one, mask in zip(TRUTH["annotations"], masks, strict=True)
    ]
    return {**TRUTH, "images": images, "annotations": given}


@pytest.mark.parametrize("sized", [True, False])
@pytest.mark.parametrize("first", [MASK, [[0, 0, 8, 0, 8, 30, 0, 30]]])
def test_masks_of_any_form(files: tuple[Path, Path], capsys: Any, first: Any, sized: bool) -> None:
    truth = with_masks(first, MASK, MASK, sized=sized)
    files[1].write_text(json.dumps(truth))
    found = [{**RIGHT, "segmentation": MASK}, {**ON_CROWD, "segmentation": MASK}]
    status = evaluate("coco", files, found, "--iou-type", "segm", "--json")
    if isinstance(first, list) and not sized:
        assert status == 2
        assert "truth.json: annotations[0] of image 7: neither the image nor a mask says" in capsys.readouterr().err
    else:
        assert status == 0
        assert json.loads(capsys.readouterr().out)["ap"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("truth", "mask", "message"),
    [
        ((MASK, None, MASK), MASK, "truth.json: annotations[1] of image 8: its segmentation is neither"),
        (({"size": [40, 30], "counts": [1200]},) * 3, MASK, "truth.json: annotations[0] of image 7: its mask has [40"),
        ((MASK, {"size": [30, 40], "counts": "!"}, MASK), MASK, "truth.json: annotations[1] of image 8: its run leng"),
        ((MASK,) * 3, {"size": [30, 40], "counts": "!"}, "predictions.json: prediction[0] of image 7: its run lengths"),
        ((MASK,) * 3, {"size": [30, 40], "counts": ["a"]}, "predictions.json: prediction[0] of image 7: its run leng"),
    ],
)
def test_bad_masks(files: tuple[Path, Path], capsys: Any, truth: tuple[Any, ...], mask: Any, message: str) -> None:
    files[1].write_text(json.dumps(with_masks(*truth)))
    assert evaluate("coco", files, [{**RIGHT, "segmentation": mask}], "--iou-type", "segm") == 2
    assert message in capsys.readouterr().err


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    both = tmp_path / "predictions", tmp_path / "truth"
    for folder in both:
        folder.mkdir()
    return both


def put(folder: Path, **maps: Any) -> None:
    for name, values in maps.items():
        cv2.imwrite(str(folder / f"{name}.png"), np.array(values, np.uint8))


BAR = np.repeat([[0, 255, 255, 0, 0, 0, 0, 0]], 8, axis=0)


def test_saliency(folders: tuple[Path, Path], capsys: Any) -> None:
    put(folders[0], a=BAR, b=BAR * 0)
    put(folders[1], a=BAR, b=BAR)
    assert evaluate("saliency", folders, None, "--json") == 0
    got = json.loads(capsys.readouterr().out)
    assert (got["iou"], got["accuracy"], got["images"]) == pytest.approx((0.5, (1 + 6 / 8) / 2, 2))
    assert got["maxf_selfmask"] == pytest.approx(0.5, abs=1e-5)


def test_miou(folders: tuple[Path, Path], capsys: Any) -> None:
    put(folders[0], a=[[0, 1, 1, 1]])
    put(folders[1], a=[[0, 0, 1, 255]])
    assert evaluate("miou", folders, None, "--classes", "3", "--json") == 0
    assert json.loads(capsys.readouterr().out)["per_class"] == [0.5, 0.5, None]
    assert evaluate("miou", folders, None, "--classes", "3", "--convention", "clip_diy", "--json") == 0
    assert json.loads(capsys.readouterr().out)["per_class"] == [0.5, 0.5, 0.0]


def test_palettes_are_class_ids_and_not_colours(folders: tuple[Path, Path], capsys: Any) -> None:
    import PIL.Image

    for folder in folders:
        image = PIL.Image.fromarray(np.array([[0, 1, 1, 2]], np.uint8)).convert("P")
        image.putdata([0, 1, 1, 2])
        image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
        image.save(folder / "a.png")
    assert evaluate("miou", folders, None, "--classes", "3", "--json") == 0
    assert json.loads(capsys.readouterr().out)["miou"] == 1


@pytest.mark.parametrize(
    ("predicted", "message"),
    [
        ({}, "holds no PNG file"),
        ({"b": BAR}, "lacks 1 of 1 maps: a"),
        ({"a": BAR, "b": BAR}, "lacks 1 of 1 maps: b"),
        ({"a": BAR[:4]}, "a: the map has shape (4, 8), the truth (8, 8)"),
        ({"a": np.dstack([BAR, BAR, BAR * 0])}, "is not a map of one channel of 8 bits, but RGB"),
    ],
)
def test_bad_maps(folders: tuple[Path, Path], capsys: Any, predicted: dict[str, Any], message: str) -> None:
    put(folders[1], a=BAR)
    put(folders[0], **predicted)
    assert evaluate("saliency", folders, None) == 2
    assert message in capsys.readouterr().err


def test_a_map_that_is_cut_off(folders: tuple[Path, Path], capsys: Any) -> None:
    rng = np.random.default_rng(0)
    put(folders[0], a=rng.integers(0, 255, (64, 64)))
    put(folders[1], a=np.zeros((64, 64)))
    whole = (folders[0] / "a.png").read_bytes()
    (folders[0] / "a.png").write_bytes(whole[: len(whole) // 2])
    assert evaluate("saliency", folders, None) == 2
    assert "cannot read" in capsys.readouterr().err


@pytest.mark.parametrize("classes", ["1", "256"])
def test_numbers_of_classes(folders: tuple[Path, Path], capsys: Any, classes: str) -> None:
    assert evaluate("miou", folders, None, "--classes", classes) == 2
    assert f"classes must be 2 to 255, got {classes}" in capsys.readouterr().err
