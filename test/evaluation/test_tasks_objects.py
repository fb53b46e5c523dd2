"""CorLoc, AP and AR of records, computed by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from objloc_ros.data.base import Dataset, Kind, Object, Sample
from objloc_ros.engine.results import InstanceResult
from objloc_ros.evaluation.tasks import ObjectMetrics, record_objects
from objloc_ros.io.rle import encode
from objloc_ros.metrics import AveragePrecision, ScoredImage
from objloc_ros.ops.geometry import Geometry
from objloc_ros.types import Detections


def rectangle(x1: int, y1: int, x2: int, y2: int) -> dict[str, Any]:
    mask = np.zeros((20, 20), bool)
    mask[y1:y2, x1:x2] = True
    return encode(mask)


def record(**fields: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {"chosen": [], "boxes": [], "scores": [], "truth": [], "located": [], "ignored": []}
    return {**empty, **fields}


def summarise(*records: dict[str, Any]) -> dict[str, float]:
    metric = ObjectMetrics()
    for entry in records:
        metric.update(entry)
    return metric.compute()


def test_what_is_found_in_an_ignored_region_is_neither_right_nor_wrong() -> None:
    truth, inside, elsewhere = [0, 0, 10, 10], [12, 0, 16, 4], [12, 12, 18, 18]
    boxes = [inside, elsewhere, truth]
    found = {"boxes": boxes, "scores": [0.9, 0.8, 0.7], "truth": [truth], "located": [truth], "chosen": [inside]}
    strict = summarise(record(**found))
    assert strict["ap50"] == pytest.approx(1 / 3), "the third of three is right"
    lenient = summarise(record(**found, ignored=[[11, 0, 20, 8]]))
    assert lenient["ap50"] == pytest.approx(1 / 2), "the first does not count"
    assert lenient["corloc"] == 0, "CorLoc has no object there"
    assert (lenient["ar1"], lenient["ar10"]) == (0, 1), "but it takes a place among the best"


def test_corloc_goes_by_rounded_boxes_and_precision_by_exact_ones() -> None:
    # [0.5, 10.5] rounds to [0, 10], halves to even; against [0, 5] that is 50 of 100 pixels, but 45 of 105 exactly.
    image = record(
        chosen=[[0, 0, 5, 10]],
        boxes=[[0, 0, 5, 10]],
        scores=[1.0],
        truth=[[0.5, 0, 10.5, 10]],
        located=[[0, 0, 10, 10]],
    )
    metrics = summarise(image)
    assert (metrics["corloc"], metrics["ap50"]) == (1, 0)


def test_masks_are_compared_as_masks() -> None:
    left, right = rectangle(0, 0, 6, 20), rectangle(6, 0, 20, 20)
    whole = rectangle(0, 0, 20, 20)
    box = [0.0, 0.0, 20.0, 20.0]
    common = {"boxes": [box], "scores": [0.5], "truth": [box], "located": [box], "chosen": [box]}
    images = [
        record(**common, masks=[right], true_masks=[whole]),  # 280 of 400 pixels: right up to an IoU of 0.7
        record(**common, masks=[left], true_masks=[right]),  # nothing in common
    ]
    metrics = summarise(*images)
    assert (metrics["ap"], metrics["ap50"], metrics["ar100"]) == (1, 1, 1)
    # Equal scores keep their order: precision 1 at recall 1/2, which is 51 of the 101 recall levels, 0.5 to 0.7 only.
    assert metrics["mask_ap50"] == pytest.approx(51 / 101)
    assert metrics["mask_ap75"] == 0
    assert metrics["mask_ap"] == pytest.approx(5 / 10 * 51 / 101)
    assert metrics["mask_ar1"] <= metrics["mask_ar10"] <= metrics["mask_ar100"]
    assert metrics["mask_ar100"] == pytest.approx(5 / 10 * 1 / 2)


def test_a_found_mask_without_pixels_does_not_count() -> None:
    box = np.array([[0, 0, 4, 4]])
    truth = rectangle(0, 0, 4, 4)
    empty = rectangle(0, 0, 0, 0)
    image = ScoredImage(np.concatenate([box, box]), np.array([0.9, 0.5]), box, masks=[empty, truth], true_masks=[truth])
    metric = AveragePrecision("segm")
    metric.update(image)
    assert metric.compute()["ap"] == pytest.approx(1)


def test_images_without_truth_or_answers() -> None:
    box = [0, 0, 4, 4]
    metrics = summarise(record(), record(boxes=[box], scores=[1.0], chosen=[box]), record(truth=[box], located=[box]))
    assert (metrics["corloc"], metrics["ap"]) == (0, 0)


class FlaggedObjects(Dataset):
    """One image with an easy, a difficult and an ignored object."""

    @property
    def kind(self) -> Kind:
        return "boxes"

    def objects(self, sample: Sample) -> list[Object]:
        boxes = [(0, 0, 4, 4), (4, 4, 8, 8), (8, 8, 12, 12)]
        masks = [rectangle(*box) for box in boxes]
        return [
            Object(boxes[0], mask=masks[0]),
            Object(boxes[1], flags=("difficult",), mask=masks[1]),
            Object(boxes[2], ignored=True, mask=masks[2]),
        ]


def test_corloc_knows_difficult_objects_and_precision_does_not() -> None:
    sample = Sample("a", Path("a.jpg"), Path("a.xml"))
    found = np.array([[4, 4, 8, 8], [0, 0, 4, 4]], np.float32)
    geometry = Geometry((20, 20), (20, 20), (20, 20), 4)
    instances = np.zeros((20, 20), np.uint16)
    detections = Detections.class_free(found, np.array([0.9, 0.8], np.float32))
    result = InstanceResult(detections, geometry, instances > 0, instances)
    recorded = record_objects(result, FlaggedObjects("flagged", "", (sample,), masks=True), sample)
    assert (recorded["truth"], recorded["ignored"]) == ([[0, 0, 4, 4]], [[8, 8, 12, 12]])
    assert recorded["true_masks"] == [rectangle(0, 0, 4, 4), rectangle(8, 8, 12, 12)]
    assert recorded["located"] == [[0, 0, 4, 4], [4, 4, 8, 8]]
    metrics = summarise({name: value for name, value in recorded.items() if "masks" not in name})
    assert (metrics["corloc"], metrics["ap50"]) == (1, pytest.approx(0.5))


def test_precision_by_rank_is_corloc_at_the_first_rank() -> None:
    truth, wrong, near = [0, 0, 10, 10], [12, 12, 18, 18], [0, 0, 10, 9]
    first = record(chosen=[truth], boxes=[truth, wrong], scores=[0.9, 0.8], truth=[truth], located=[truth])
    second = record(chosen=[wrong], boxes=[wrong, near], scores=[0.2, 0.1], truth=[truth], located=[truth])
    metrics = summarise(first, second)
    assert metrics["corloc"] == 0.5
    assert metrics["rank_ap50"] == pytest.approx(0.5 * 0.5 + 2 / 4 * 0.5), "precision 1/2 at both ranks"
    # From the threshold 0.95 on, the box that is a tenth too low finds nothing.
    assert metrics["rank_ap"] == pytest.approx((9 * 0.5 + 0.25) / 10)
    assert metrics["ap50"] != pytest.approx(metrics["rank_ap50"]), "scores are compared between images there"
