"""What `objloc prelabel` writes, through the readers of those who import it: COCO's own, CVAT's and FiftyOne's.

The last two are no dependencies of this package (Datumaro refuses the Pillow that it pins, FiftyOne brings a database
server): their tests run where somebody has installed them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from prelabel_making import COCO_FILE, bag, document, pictures, video
from pycocotools import mask as coco_mask

from objloc_ros.io.rle import decode

METHODS = {
    "tracks of one class": ("--method", "maskcut"),
    "prompts": ("--method", "maskclip", "--prompts", "green object, red object", "--background", "none"),
}


@pytest.fixture(params=METHODS)
def out(request: pytest.FixtureRequest, prelabel: Callable[..., int], tmp_path: Path) -> Path:
    """Results of images, a video and a bag, with all images beside them."""
    video(pictures(tmp_path / "in", "a.png", "day/b.jpg") / "clip.mp4")
    bag(tmp_path / "in" / "run")
    assert prelabel(*METHODS[request.param], "--images") == 0
    return tmp_path / "out"


def annotations(found: dict[str, Any], image: dict[str, Any]) -> list[dict[str, Any]]:
    return [one for one in found["annotations"] if one["image_id"] == image["id"]]


def test_masks_are_as_every_importer_takes_them(out: Path) -> None:
    found = document(out)
    images = {image["id"]: image for image in found["images"]}
    categories = [category["id"] for category in found["categories"]]
    assert categories == list(range(1, len(categories) + 1)), "CVAT's reader takes 0 for none"
    assert len({image["file_name"] for image in found["images"]}) == len(images) == 11
    assert [one["id"] for one in found["annotations"]] == list(range(1, len(found["annotations"]) + 1))
    for one in found["annotations"]:
        image, rle = images[one["image_id"]], one["segmentation"]
        assert (out / "images" / image["file_name"]).is_file()
        assert rle["size"] == [image["height"], image["width"]]
        assert isinstance(rle["counts"], str)
        assert one["area"] == coco_mask.area(rle) > 0, "a mask without a pixel stops CVAT's import"
        assert one["bbox"] == coco_mask.toBbox(rle).tolist(), "FiftyOne cuts the mask to its box"
        assert (one["iscrowd"], one["category_id"] in categories, 0 <= one["score"] <= 1) == (0, True, True)
        followed = "topic" in image or "video" in image
        assert one.get("attributes") == ({"track_id": one["track_id"]} if followed else None)


def test_tracks_are_rectangles_with_keyframes(out: Path) -> None:
    found, tracks = document(out), json.loads((out / "tracks.json").read_text())
    assert tracks["images"] == found["images"]
    assert tracks["categories"] == found["categories"]
    followed = [one for one in found["annotations"] if "track_id" in one]
    assert len(tracks["annotations"]) == len(followed) > 0
    for track, one in zip(tracks["annotations"], followed, strict=True):
        assert track["segmentation"] == [], "CVAT has no tracks of masks"
        assert track["attributes"] == {"track_id": one["track_id"], "keyframe": True}
        assert (track["bbox"], track["image_id"], track["iscrowd"]) == (one["bbox"], one["image_id"], 0)


def test_cvats_reader_finds_every_mask_and_track(out: Path, tmp_path: Path) -> None:
    """Datumaro, of which CVAT uses a fork of its own; either will do."""
    datumaro = pytest.importorskip("datumaro")
    from datumaro.components.annotation import AnnotationType

    def read(folder: Path, kind: Any) -> dict[str, list[Any]]:
        items = datumaro.Dataset.import_from(str(folder), "coco_instances")
        found = {item.id: [one for one in item.annotations if one.type == kind] for item in items}
        return {name: sorted(each, key=lambda one: one.id) for name, each in found.items()}

    found, masks = document(out), read(out, AnnotationType.mask)
    (tmp_path / "tracks" / "images").mkdir(parents=True)
    (tmp_path / "tracks" / COCO_FILE.parent).mkdir()
    (out / "tracks.json").rename(tmp_path / "tracks" / COCO_FILE)
    rectangles = read(tmp_path / "tracks", AnnotationType.bbox)
    for image in found["images"]:
        name, expected = os.path.splitext(image["file_name"])[0], annotations(found, image)
        for mask, one in zip(masks[name], expected, strict=True):
            assert np.array_equal(np.asarray(mask.image).astype(bool), decode(one["segmentation"]))
            assert (mask.label, mask.attributes["score"]) == (one["category_id"] - 1, one["score"])
        tracks = [one for one in expected if "track_id" in one]
        for rectangle, one in zip(rectangles[name], tracks, strict=True):
            assert list(rectangle.get_bbox()) == one["bbox"]
            assert rectangle.attributes["track_id"] == one["track_id"]
            assert rectangle.attributes["keyframe"] is True


def test_fiftyones_reader_finds_every_mask(out: Path) -> None:
    readers = pytest.importorskip("fiftyone.utils.coco")
    found = document(out)
    named = {image["file_name"]: image for image in found["images"]}
    names = {category["id"]: category["name"] for category in found["categories"]}
    reader = readers.COCODetectionDatasetImporter(
        data_path=str(out / "images"), labels_path=str(out / COCO_FILE), label_types=["segmentations"]
    )
    reader.setup()
    seen = 0
    for path, _, labels in reader:
        image = named[str(Path(path).relative_to(out / "images"))]
        expected = annotations(found, image)
        detections = labels.detections if labels else []
        for detection, one in zip(detections, expected, strict=True):
            assert np.array_equal(pasted(detection, image), decode(one["segmentation"]))
            assert (detection.label, detection.confidence) == (names[one["category_id"]], one["score"])
            assert detection["track_id"] if "track_id" in one else True
        seen += 1
    assert seen == len(found["images"])


def pasted(detection: Any, image: dict[str, Any]) -> npt.NDArray[np.bool_]:
    """A mask that was cut to its box, at its place in the image."""
    mask = np.zeros((image["height"], image["width"]), bool)
    left, top = round(detection.bounding_box[0] * image["width"]), round(detection.bounding_box[1] * image["height"])
    height, width = detection.mask.shape
    mask[top : top + height, left : left + width] = detection.mask
    return mask
