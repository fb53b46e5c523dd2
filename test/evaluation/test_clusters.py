"""Clusters in files against classes in files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from objloc_ros.data.coco_document import Truth, read_categories, read_predictions, read_truth
from objloc_ros.errors import InputError
from objloc_ros.evaluation.clusters import evaluate_clusters, read_class_truth

IMAGES = [{"id": 1, "file_name": "front/a.jpg"}, {"id": 2, "file_name": "rear/b.jpg"}]
CAR, DOG = {"category_id": 5}, {"category_id": 3}
LEFT, RIGHT = {"bbox": [0, 0, 10, 10]}, {"bbox": [20, 0, 10, 10]}


def write(path: Path, annotations: list[dict[str, Any]], **more: Any) -> Path:
    path.write_text(json.dumps({"images": IMAGES, "annotations": annotations, **more}))
    return path


@pytest.fixture
def truth(tmp_path: Path) -> Truth:
    annotations = [
        {"image_id": 1, **CAR, **LEFT},
        {"image_id": 1, **DOG, **RIGHT},
        {"image_id": 2, **CAR, **LEFT},
        {"image_id": 2, **CAR, **RIGHT, "iscrowd": 1},
    ]
    categories = [{"id": 3, "name": "dog"}, {"id": 5, "name": "car"}, {"id": 9, "name": "cat"}]
    return read_truth(write(tmp_path / "truth.json", annotations, categories=categories))


def evaluate(tmp_path: Path, truth: Truth, *found: dict[str, Any], **more: Any) -> dict[str, Any]:
    path = write(tmp_path / "found.json", [{"score": 0.5, **record} for record in found], **more)
    predictions = read_predictions(path, truth)
    return evaluate_clusters(truth, predictions, read_categories(path, predictions))


def test_clusters_get_the_classes_that_they_agree_with(tmp_path: Path, truth: Truth) -> None:
    found = [
        {"image_id": 1, "category_id": 7, **LEFT},
        {"image_id": 2, "category_id": 7, **LEFT},
        {"image_id": 2, "category_id": 7, **RIGHT},  # a crowd of cars is neither
        {"image_id": 1, "category_id": 2, **RIGHT},
    ]
    names = [{"id": 2, "name": "cluster_02"}, {"id": 7, "name": "cluster_01"}]
    figures = evaluate(tmp_path, truth, *found, categories=names)
    assert figures["classes"]["car"] == {"cluster": "cluster_01", "ap50": 1, "ap": 1}
    assert figures["classes"]["dog"] == {"cluster": "cluster_02", "ap50": 1, "ap": 1}
    assert figures["classes"]["cat"] is None
    assert figures["ap50"] == 1


def test_unnamed_clusters_go_by_their_ids(tmp_path: Path, truth: Truth) -> None:
    figures = evaluate(tmp_path, truth, {"image_id": 1, "category_id": 7, **RIGHT})
    assert figures["classes"]["dog"]["cluster"] == "7"
    assert figures["classes"]["car"]["cluster"] is None
    assert figures["ap50"] == 0.5


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([{"id": 1, "name": "a"}], "there is no category 7"),
        ([{"id": 7, "name": "a"}, {"id": 7, "name": "b"}], "two categories have one id"),
        ([{"name": "a"}], "categories.0. has no id"),
    ],
)
def test_categories_must_fit(tmp_path: Path, truth: Truth, categories: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(tmp_path, truth, {"image_id": 1, "category_id": 7, **LEFT}, categories=categories)


def test_a_class_that_the_truth_does_not_list_is_named(tmp_path: Path) -> None:
    path = write(
        tmp_path / "truth.json", [{"image_id": 1, "category_id": 4, **LEFT}], categories=[{"id": 1, "name": "a"}]
    )
    with pytest.raises(InputError, match="image 1 has the category_id 4: no such class"):
        evaluate(tmp_path, read_truth(path))


def test_only_the_named_images_count(truth: Truth) -> None:
    chosen = read_class_truth(truth.path, ["b.png"])
    assert chosen.ids == (2,)
    assert [record["image_id"] for record in chosen.document["annotations"]] == [2, 2]
    with pytest.raises(
        InputError, match=r"no truth for 1 of the 2 images, the first is c\.jpg: is it that of other images"
    ):
        read_class_truth(truth.path, ["a.jpg", "c.jpg"])


def test_images_of_one_name_in_two_folders_are_told_apart(tmp_path: Path) -> None:
    twins = [{"id": 1, "file_name": "front/0.jpg"}, {"id": 2, "file_name": "rear/0.jpg"}]
    (tmp_path / "truth.json").write_text(json.dumps({"images": twins, "annotations": []}))
    truth = read_truth(tmp_path / "truth.json")
    found = [{"image_id": 5, "category_id": 1, "score": 1.0, **LEFT}]
    path = tmp_path / "found.json"
    for name, expected in (("rear/0.png", 2), ("front/0.jpg", 1)):
        path.write_text(json.dumps({"images": [{"id": 5, "file_name": name}], "annotations": found}))
        assert [record["image_id"] for record in read_predictions(path, truth)] == [expected]
    path.write_text(json.dumps({"images": [{"id": 5, "file_name": "0.jpg"}], "annotations": found}))
    with pytest.raises(InputError, match=r"the ground truth has 2 images of the name of '0.jpg'"):
        read_predictions(path, truth)
