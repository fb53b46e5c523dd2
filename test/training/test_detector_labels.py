"""Labels of a detector: every form in which tools give masks back, and every damage that is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from objloc_ros.errors import InputError
from objloc_ros.io.rle import encode
from objloc_ros.training.detector_labels import NO_TRACK, Labels, read_labels, write_labels

SIZE = (40, 60)


def mask(x1: int, y1: int, x2: int, y2: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    drawn = np.zeros(SIZE, np.bool_)
    drawn[y1:y2, x1:x2] = True
    return drawn


def uncompressed(drawn: np.ndarray[Any, np.dtype[np.bool_]]) -> dict[str, Any]:
    """Run lengths as numbers, column by column, zeros first."""
    flat = drawn.ravel(order="F").astype(int)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [2]])))
    return {"size": list(SIZE), "counts": np.diff(np.concatenate([[0], edges])).tolist()}


def annotation(number: int, image: int, **fields: Any) -> dict[str, Any]:
    about = {"id": number, "image_id": image, "category_id": 1, "bbox": [10, 5, 20, 10], "iscrowd": 0}
    return about | {"segmentation": [], **fields}


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write three pictures and a document about the first two."""
    (tmp_path / "images" / "day").mkdir(parents=True)
    for name in ("a.png", "day/b.png", "c.png"):
        cv2.imwrite(str(tmp_path / "images" / name), np.zeros((*SIZE, 3), np.uint8))

    def write_document(*annotations: dict[str, Any], **members: Any) -> Path:
        images = [{"id": 7, "file_name": "a.png", "height": 40, "width": 60}, {"id": 3, "file_name": "day/b.png"}]
        document = {"images": images, "annotations": list(annotations), "categories": [{"id": 1, "name": "object"}]}
        path = tmp_path / "labels" / "annotations" / "instances_default.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document | members))
        return tmp_path / "labels"

    return write_document


def read(folder: Path, **options: Any) -> Labels:
    return read_labels(folder, folder.parent / "images", **options)


@pytest.mark.parametrize(
    "segmentation",
    [encode(mask(10, 5, 30, 15)), uncompressed(mask(10, 5, 30, 15)), [[10, 5, 30, 5, 30, 15, 10, 15]]],
    ids=["compressed", "uncompressed", "polygon"],
)
@pytest.mark.parametrize("iscrowd", [0, 1])
def test_masks_are_read_in_every_form(write: Write, segmentation: Any, iscrowd: int) -> None:
    labels = read(write(annotation(1, 7, segmentation=segmentation, iscrowd=iscrowd, bbox=[0, 0, 60, 40])))
    (image,) = labels.images
    assert image.masks.tolist() == [mask(10, 5, 30, 15).tolist()]
    assert image.boxes.tolist() == [[10, 5, 30, 15]], "the box is that of the mask"
    assert (image.box_only.tolist(), image.scores.tolist(), image.tracks.tolist()) == ([False], [1.0], [NO_TRACK])
    assert labels.crowds == iscrowd, "CVAT writes every mask as a crowd"


def test_a_box_alone_fills_its_pixels(write: Write) -> None:
    (image,) = read(write(annotation(1, 3, bbox=[9.5, 5.25, 20, 10], score=0.25, track_id=4))).images
    assert (image.name, image.size) == ("day/b.png", SIZE), "the file says how large it is"
    assert image.box_only.tolist() == [True]
    assert image.boxes.tolist() == [[9.5, 5.25, 29.5, 15.25]]
    assert image.masks.tolist() == [mask(9, 5, 30, 16).tolist()]
    assert (image.scores.tolist(), image.tracks.tolist()) == ([0.25], [4])


def test_classes_are_in_the_order_of_the_categories(write: Write) -> None:
    categories = [{"id": 9, "name": "cone"}, {"id": 0, "name": "car"}, {"id": 4, "name": "dog"}]
    labels = read(write(annotation(1, 7, category_id=9), annotation(2, 7, category_id=0), categories=categories))
    assert labels.classes == ("car", "dog", "cone")
    assert labels.images[0].categories.tolist() == [2, 0]


def test_images_without_labels_count_only_where_they_are_said_to_be_empty(write: Write) -> None:
    folder = write(annotation(1, 7))
    labels = read(folder)
    assert ([image.name for image in labels.images], labels.left_out) == (["a.png"], 2)
    labels = read(folder, empty_ok=True)
    assert ([image.name for image in labels.images], labels.left_out) == (["a.png", "day/b.png", "c.png"], 0)
    assert [len(image) for image in labels.images] == [1, 0, 0]
    assert labels.images[2].masks.shape == (0, *SIZE)
    (folder.parent / "images" / "c.png").write_bytes(b"no picture")
    labels = read(folder, empty_ok=True)
    assert ([image.name for image in labels.images], labels.left_out) == (["a.png", "day/b.png"], 1)


def test_a_document_may_have_no_label_where_that_is_expected(write: Write) -> None:
    labels = read(write(), empty_ok=True, none_ok=True)
    assert (len(labels.images), labels.count) == (3, 0)


def test_crowds_may_be_left_out(write: Write) -> None:
    folder = write(annotation(1, 7, iscrowd=1), annotation(2, 7, bbox=[0, 0, 5, 5]))
    assert [read(folder, skip_crowds=skip).count for skip in (False, True)] == [2, 1]


def test_fiftyones_layout_is_found(write: Write, tmp_path: Path) -> None:
    folder = write(annotation(1, 7))
    (tmp_path / "labels.json").write_bytes((folder / "annotations" / "instances_default.json").read_bytes())
    assert read_labels(tmp_path, tmp_path / "images").count == 1


def test_what_is_written_is_read_again(write: Write, tmp_path: Path) -> None:
    rle = encode(mask(10, 5, 30, 15))
    categories = [{"id": 1, "name": "car"}, {"id": 2, "name": "dog"}]
    before = read(
        write(
            annotation(1, 3, segmentation=rle, category_id=2, score=0.5, track_id=3),
            annotation(2, 7, bbox=[1.5, 2, 3, 4]),
            categories=categories,
        ),
        empty_ok=True,
    )
    write_labels(tmp_path / "again.json", before, {"round": 2})
    after = read_labels(tmp_path / "again.json", tmp_path / "images", empty_ok=True)
    assert (after.classes, len(after.images)) == (before.classes, 3)
    for old, new in zip(before.images, after.images, strict=True):
        assert (new.name, new.size, new.rles) == (old.name, old.size, old.rles)
        for name in ("boxes", "categories", "scores", "tracks"):
            assert getattr(new, name).tolist() == getattr(old, name).tolist()


WRONG_SIZE = {"size": [60, 40], "counts": encode(mask(10, 5, 30, 15))["counts"]}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"segmentation": WRONG_SIZE}, r"annotations\[1\] of image 'a.png'.*\[60, 40\].*\[40, 60\]"),
        ({"segmentation": uncompressed(mask(0, 0, 0, 0))}, r"annotations\[1\].*no pixel: draw it again"),
        ({"segmentation": {"size": list(SIZE), "counts": [5, 5]}}, r"annotations\[1\].*damaged"),
        ({"segmentation": [[10, 5, 70, 5, 30, 15]]}, r"annotations\[1\].*reaches 10 pixels beyond.*60x40.*clip it"),
        ({"segmentation": [[10, 5, float("nan"), 5, 30, 15]]}, r"annotations\[1\].*neither run lengths nor"),
        ({"bbox": [10, 5, 80, 50]}, r"annotations\[1\].*reaches 30 pixels beyond its image of 60x40"),
        ({"bbox": [100, 100, 5, 5]}, r"annotations\[1\].*beyond its image"),
        ({"bbox": [60.5, 3, 0.3, 5]}, r"annotations\[1\].*no area in the image"),
        ({"bbox": [10, 5, 0, 5]}, r"annotations\[1\].*\[10.0, 5.0, 0.0, 5.0\] has no area"),
        ({"bbox": [10, 5, -3, 5]}, r"annotations\[1\].*negative size"),
        ({"bbox": [10, float("nan"), 3, 5]}, r"annotations\[1\].*finite numbers"),
        ({"bbox": None}, r"annotations\[1\].*four finite numbers"),
        ({"id": 1}, r"annotations\[0\] and annotations\[1\] have the same id 1"),
        ({"category_id": 0}, r"annotations\[1\].*no category 0 among 1: list it"),
        ({"category_id": 5}, r"annotations\[1\].*no category 5"),
        ({"score": 1.5}, r"annotations\[1\].*score 1.5.*\[0, 1\]"),
        ({"image_id": 99}, r"annotations\[1\].*99.*not listed"),
    ],
)
def test_a_damaged_annotation_is_named(write: Write, fields: dict[str, Any], words: str) -> None:
    folder = write(annotation(1, 7), annotation(2, 7) | fields)
    with pytest.raises(InputError, match="instances_default.json.*" + words):
        read(folder)


def test_a_pixel_beyond_the_image_is_rounding(write: Write) -> None:
    (image,) = read(write(annotation(1, 7, bbox=[-0.5, 5, 61, 35.25]))).images
    assert image.boxes.tolist() == [[0, 5, 60, 40]]


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"annotations": []}, "there are no labels, in 2 images: make some with objloc prelabel"),
        ({"annotations": [annotation(1, 7, iscrowd=1)]}, "no labels.*leave --skip-crowds out: all 1 have iscrowd"),
        ({"images": []}, "there are no images"),
        ({"images": [{"id": 7, "file_name": "lost.png"}]}, r"1 of 1 labelled images.*lost.png.*--images"),
        ({"images": [{"id": 7, "file_name": "a.png", "height": 40, "width": 61}]}, r"\[40, 61\].*\[40, 60\].*resized"),
        ({"images": [{"id": i, "file_name": "a.png"} for i in (7, 8)]}, "two images have the file_name 'a.png'"),
        ({"images": [{"id": 7, "file_name": "a.png"}] * 2}, "two images have the id 7"),
        ({"images": [{"id": 7}]}, "file_name None"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, "two categories have the id 1"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}, "two categories are called 'a'"),
        ({"categories": [{"id": 1}]}, "an id and a name"),
    ],
)
def test_a_document_that_teaches_nothing_is_refused(write: Write, members: dict[str, Any], words: str) -> None:
    folder = write(**{"annotations": [annotation(1, 7)], **members})
    with pytest.raises(InputError, match=words):
        read(folder, skip_crowds=True)


def test_a_folder_without_a_document_or_with_two_is_refused(write: Write, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"has no labels: there is no annotations/instances_default\.json"):
        read_labels(tmp_path / "images", tmp_path / "images")
    folder = write(annotation(1, 7)) / "annotations"
    (folder / "instances_default.json").rename(folder / "instances_train.json")
    (folder / "instances_val.json").write_text("{}")
    with pytest.raises(InputError, match=r"2 documents, instances_train\.json and instances_val\.json: name one"):
        read(folder.parent)
    with pytest.raises(InputError, match=r"cannot read .*nowhere\.json"):
        read_labels(tmp_path / "nowhere.json", tmp_path / "images")
