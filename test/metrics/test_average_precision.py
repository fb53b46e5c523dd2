"""Average precision against pycocotools, the original."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from objloc_ros.metrics import average_precision

STATS = {"ap": 0, "ap50": 1, "ap75": 2, "ar1": 6, "ar10": 7, "ar100": 8}


def random_data(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    rng = np.random.default_rng(seed)

    def box() -> list[float]:
        return [*rng.uniform(0, 40, 2).tolist(), *rng.uniform(5, 60, 2).tolist()]

    def mask(bbox: list[float]) -> dict[str, Any]:
        x, y, w, h = (int(side) for side in bbox)
        pixels = np.zeros((100, 100), np.uint8, order="F")
        pixels[y : y + h, x : x + w] = 1
        encoded = rle.encode(pixels)
        return {"size": encoded["size"], "counts": encoded["counts"].decode()}

    annotations, results = [], []
    for image in range(40):
        for _ in range(rng.integers(0, 5)):
            bbox = box()
            crowd = int(rng.random() < 0.1)
            one = {"id": len(annotations) + 1, "image_id": image, "category_id": int(rng.integers(1, 4)), "bbox": bbox}
            annotations.append({**one, "area": bbox[2] * bbox[3], "iscrowd": crowd, "segmentation": mask(bbox)})
            near = [max(0.0, side) for side in (np.array(bbox) + rng.normal(0, 4, 4)).tolist()]
            near[2:] = [max(1.0, side) for side in near[2:]]
            guess = {"image_id": image, "category_id": int(rng.integers(1, 4)), "score": float(rng.random())}
            results.append({**guess, "bbox": near, "segmentation": mask(near)})
    images = [{"id": i, "height": 100, "width": 100} for i in range(40)]
    return {
        "info": {},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i} for i in (1, 2, 3)],
    }, results


def original(truth: dict[str, Any], results: list[dict[str, Any]], kind: str, *, agnostic: bool) -> dict[str, float]:
    with contextlib.redirect_stdout(io.StringIO()):
        expected = COCO()
        expected.dataset = truth
        expected.createIndex()
        evaluation = COCOeval(expected, expected.loadRes(results), kind)
        evaluation.params.useCats = int(not agnostic)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {name: float(evaluation.stats[place]) for name, place in STATS.items()}


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("agnostic", [True, False])
def test_agrees_with_the_original(kind: str, agnostic: bool) -> None:
    truth, results = random_data(5)
    keep = {"image_id", "category_id", "score", "bbox" if kind == "bbox" else "segmentation"}
    results = [{name: value for name, value in result.items() if name in keep} for result in results]
    got = average_precision(truth, results, iou_type=kind, class_agnostic=agnostic)  # type: ignore[arg-type]
    expected = original(truth, results, kind, agnostic=agnostic)
    assert 0.05 < expected["ap50"] < 0.95
    assert {name: got[name] for name in expected} == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("ids", [(0, 1), (1, 1), (0, 0)])
def test_ids_of_annotations_do_not_matter(ids: tuple[int, int]) -> None:
    boxes = [[0, 0, 10, 10], [20, 20, 10, 10]]
    common = {"category_id": 1, "iscrowd": 0, "area": 100}
    found = [{"image_id": i, "category_id": 1, "score": 0.9, "bbox": box} for i, box in enumerate(boxes)]

    def figures(numbers: tuple[int, int]) -> dict[str, float]:
        truth = [{**common, "id": n, "image_id": i, "bbox": boxes[i]} for i, n in enumerate(numbers)]
        images = [{"id": 0}, {"id": 1}]
        return average_precision({"images": images, "annotations": truth, "categories": [{"id": 1}]}, found)

    assert figures(ids) == figures((1, 2))
    assert figures(ids)["ap"] == pytest.approx(1)


def test_the_inputs_stay_as_they_are() -> None:
    truth, results = random_data(6)
    before = repr((truth, results))
    average_precision(truth, results)
    assert repr((truth, results)) == before
