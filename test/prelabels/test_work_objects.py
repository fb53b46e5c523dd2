"""A mask per detection: against a slow loop, against the pipeline's own masks, and through run lengths."""

from __future__ import annotations

from importlib import import_module

import cv2
import numpy as np
import pytest
from faster_coco_eval import mask as coco_mask

from objloc_ros.engine.config import PipelineConfig
from objloc_ros.engine.pipeline import Pipeline, build_pipeline
from objloc_ros.engine.results import HeadResult, InstanceResult, SemanticResult
from objloc_ros.io.rle import decode, encode
from objloc_ros.ops.geometry import Geometry
from objloc_ros.ops.regions import components
from objloc_ros.prelabels.work import describe_objects
from objloc_ros.types import UNLABELLED, Detections, LabelSet


def plain(height: int, width: int, source: tuple[int, int] | None = None) -> Geometry:
    return Geometry(source or (height, width), (height, width), (height, width), 1)


def rows(*lines: str) -> np.ndarray:
    return np.array([[int(c) for c in line] for line in lines], np.uint8)


def free(*boxes: tuple[int, int, int, int]) -> Detections:
    return Detections.class_free(
        np.array(boxes, np.float32).reshape(-1, 4), np.linspace(0.9, 0.5, len(boxes), dtype=np.float32)
    )


def test_run_lengths_column_by_column() -> None:
    mask = rows("0110", "0100", "0000").astype(bool)
    rle = encode(mask)
    assert rle["size"] == [3, 4]
    assert isinstance(rle["counts"], str)
    uncompressed = {"size": [3, 4], "counts": [3, 2, 1, 1, 5]}
    assert np.array_equal(coco_mask.decode(coco_mask.frPyObjects(uncompressed, 3, 4)), mask)
    assert coco_mask.frPyObjects(uncompressed, 3, 4)["counts"] in (rle["counts"], rle["counts"].encode())
    assert np.array_equal(decode(rle), mask)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 1), (33, 47)])
@pytest.mark.parametrize("library", ["faster_coco_eval.core.mask", "pycocotools.mask"])
def test_any_mask_comes_back_from_either_library(size: tuple[int, int], library: str) -> None:
    reader = import_module(library)
    rng = np.random.default_rng(0)
    for share in (0.0, 0.1, 0.5, 1.0):
        mask = rng.random(size) < share
        rle = encode(mask)
        assert np.array_equal(decode(rle), mask)
        assert np.array_equal(reader.decode(rle), mask)


def test_regions_of_found_are_told_apart_by_their_boxes() -> None:
    mask = rows("1100", "0001", "0001").astype(bool)
    found = HeadResult(free((3, 1, 4, 3), (0, 0, 2, 1)), plain(3, 4), mask)
    assert found.instances_u16().tolist() == rows("2200", "0001", "0001").tolist()


def test_a_region_that_was_not_reported_is_no_object() -> None:
    found = HeadResult(free((3, 1, 4, 3)), plain(3, 4), rows("1100", "0001", "0001").astype(bool))
    assert found.instances_u16().tolist() == rows("0000", "0001", "0001").tolist()


def test_regions_of_prompts_may_touch() -> None:
    u = UNLABELLED
    classes = np.array([[4, 4, 7, u], [4, 4, 7, 7], [u, u, u, 4]], np.uint8)
    boxes = np.array([[2, 0, 4, 2], [3, 2, 4, 3], [0, 0, 2, 2]], np.float32)
    detections = Detections(boxes, np.array([0.9, 0.8, 0.7], np.float32), ("dog", "cat", "cat"))
    labels = LabelSet(("cat", "dog"), (4, 7))
    found = SemanticResult(detections, plain(3, 4), classes != u, labels, classes, np.ones((3, 4), np.float32))
    assert found.instances_u16().tolist() == rows("3310", "3311", "0002").tolist()
    assert [label["label"] for label in describe_objects(found)] == ["dog", "cat", "cat"]


def test_regions_of_one_label_never_have_one_box() -> None:
    """What the boxes are matched by: of two regions that both span a box, one would have to cross the other."""
    rng = np.random.default_rng(2)
    for _ in range(300):
        boxes = components(rng.random((6, 6)) < 0.6).boxes.tolist()
        assert len({tuple(box) for box in boxes}) == len(boxes)


def test_what_is_described() -> None:
    instances = rows("0220", "1220", "1000").astype(np.uint16)
    detections = Detections(
        np.array([[0, 1, 1, 3], [1, 0, 3, 2]], np.float32), np.array([0.87654, 0.5], np.float32), ("object", "object")
    )
    found = InstanceResult(detections, plain(3, 4), instances > 0, instances)
    first, second = describe_objects(found.with_ids(("3", "1")))
    assert "track" not in describe_objects(found)[0]
    assert {name: first[name] for name in ("label", "score", "bbox", "area", "track")} == {
        "label": "object",
        "score": 0.8765,
        "bbox": [0, 1, 1, 2],
        "area": 2,
        "track": 3,
    }
    assert (second["bbox"], second["area"], second["track"]) == ([1, 0, 2, 2], 4, 1)
    assert np.array_equal(decode(first["segmentation"]), instances == 1)
    assert np.array_equal(decode(second["segmentation"]), instances == 2)


def test_boxes_are_those_of_the_masks() -> None:
    """Whatever the shape, the box is tight: FiftyOne cuts the mask to it."""
    rng = np.random.default_rng(1)
    for _ in range(50):
        mask = np.zeros((12, 17), bool)
        y, x = rng.integers(0, 12, 2), rng.integers(0, 17, 2)
        mask[min(y) : max(y) + 1, min(x) : max(x) + 1] = rng.random((np.ptp(y) + 1, np.ptp(x) + 1)) < 0.5
        if not mask.any():
            continue
        instances = mask.astype(np.uint16)
        (label,) = describe_objects(InstanceResult(free((0, 0, 17, 12)), plain(12, 17), mask, instances))
        where_y, where_x = mask.nonzero()
        left, top = where_x.min(), where_y.min()
        assert label["bbox"] == [left, top, where_x.max() + 1 - left, where_y.max() + 1 - top]
        assert label["area"] == mask.sum()


def test_an_object_that_vanishes_at_the_images_size_is_left_out() -> None:
    instances = np.zeros((8, 8), np.uint16)
    instances[:4] = 1
    instances[7, 7] = 2
    found = InstanceResult(free((0, 0, 2, 1), (1, 1, 2, 2)), plain(8, 8, source=(2, 2)), instances > 0, instances)
    assert [label["bbox"] for label in describe_objects(found)] == [[0, 0, 2, 1]]


def scene() -> np.ndarray:
    rgb = np.full((240, 320, 3), 40, np.uint8)
    rgb[40:110, 30:120] = (220, 60, 40)
    rgb[130:220, 190:290] = (60, 200, 90)
    return cv2.GaussianBlur(rgb, (0, 0), 1)


@pytest.fixture(scope="module")
def pipelines() -> dict[str, Pipeline]:
    prompts = dict.fromkeys(("clip_diy", "maskclip"), ("red object", "green object", "background"))
    methods = ("found", "lost", "maskcut", "clip_diy", "maskclip")
    configs = {m: PipelineConfig(methods=(m,), device="cpu", prompts=prompts.get(m, ())) for m in methods}
    return {method: build_pipeline(config) for method, config in configs.items()}


@pytest.mark.parametrize("method", ["found", "lost", "maskcut", "clip_diy", "maskclip"])
def test_every_detection_of_every_kind_of_method_has_its_pixels(pipelines: dict[str, Pipeline], method: str) -> None:
    """Each mask has its detection's box and label; where all regions are reported, together they are the mask."""
    found = pipelines[method].run(scene())[method]
    ids = found.instances_u16()
    assert ids.shape == (240, 320)
    assert len(found.detections) > 0
    assert set(np.unique(ids)) - {0} == set(range(1, len(found.detections) + 1))
    for number, (box, label) in enumerate(zip(found.detections.boxes, found.detections.labels, strict=True), start=1):
        y, x = (ids == number).nonzero()
        assert np.allclose([x.min(), y.min(), x.max() + 1, y.max() + 1], box, atol=2), "to a pixel of resampling"
        if isinstance(found, SemanticResult):
            own = {prompt: number for number, prompt in found.labels.names().items()}[label]
            assert (found.classes_u8()[y, x] == own).all()
    if method in ("found", "lost", "maskcut"):
        assert np.array_equal(ids > 0, found.mask_u8() > 0)
