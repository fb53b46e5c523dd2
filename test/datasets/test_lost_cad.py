"""What LOST's class-agnostic detector is trained on and judged by: one discovered box per image, and two truths."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from golden_cases import Case, find_cases, load_case

from objloc_ros.data import open_dataset, to_coco
from objloc_ros.data.base import stack_boxes
from objloc_ros.data.coco_document import CocoRecords, read_predictions, read_truth, select_best_boxes
from objloc_ros.data.voc_kitti_saliency import CLASSES
from objloc_ros.io.media import write_image
from objloc_ros.types import Detections

CASES = find_cases("lost_cad_boxes")


def make_voc(root: Path, case: Case) -> Path:
    """VOC07's layout with the objects of a case."""
    base = root / "VOCdevkit/VOC2007"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (base / folder).mkdir(parents=True)
    for number, name in enumerate(case["image_ids"].tolist()):
        write_image(
            base / "JPEGImages" / f"{name}.jpg", np.zeros((case["height"][number], case["width"][number], 3), np.uint8)
        )
        objects = case["voc_objects"][case["voc_objects"][:, 0] == number].tolist()
        text = "".join(
            f"<object><name>{CLASSES[kind + 1]}</name>"
            f"<difficult>{difficult}</difficult><truncated>{truncated}</truncated>"
            f"<bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
            for _, kind, difficult, truncated, x1, y1, x2, y2 in objects
        )
        (base / "Annotations" / f"{name}.xml").write_text(f"<annotation>{text}</annotation>")
    (base / "ImageSets/Main/trainval.txt").write_text("".join(f"{name}\n" for name in case["image_ids"].tolist()))
    return root


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_a_discovered_box_becomes_a_record_unchanged(path: Path, tmp_path: Path) -> None:
    case = load_case(path)
    records = CocoRecords({"method": "lost"})
    for name, height, width, box in zip(
        case["image_ids"].tolist(), case["height"], case["width"], case["pseudo"], strict=True
    ):
        found = Detections.class_free(box[None].astype(np.float32), np.ones(1, np.float32))
        records.add(f"{name}.jpg", (int(height), int(width)), found)
    file = tmp_path / "pseudo.json"
    file.write_text(json.dumps(records.document()))
    truth = read_truth(file)
    np.testing.assert_array_equal(np.concatenate(list(truth.boxes().values())), case["bbox_xyxy"])
    assert list(select_best_boxes(read_predictions(file, truth)).values()) == case["bbox_xyxy"].tolist()
    assert {record["category_id"] - 1 for record in truth.document["annotations"]} == set(case["category"].tolist())


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_average_precision_leaves_difficult_objects_out_and_corloc_does_not(path: Path, tmp_path: Path) -> None:
    case = load_case(path)
    root = make_voc(tmp_path, case)
    dataset = open_dataset("voc07", root)
    located = np.concatenate([dataset.boxes(sample) for sample in dataset.samples])
    np.testing.assert_array_equal(located, case["voc_objects"][:, 4:] - np.array([1, 1, 0, 0]))
    for number, sample in enumerate(dataset.samples):
        detectable = [item for item in dataset.objects(sample) if not item.difficult]
        np.testing.assert_array_equal(stack_boxes(detectable), case["truth_xyxy"][case["truth_image"] == number])
    document = root / "voc07.json"
    document.write_text(json.dumps(to_coco(dataset, root)))
    truth = read_truth(document)
    np.testing.assert_array_equal(np.concatenate(list(truth.boxes().values())), located)
    easy = np.concatenate(list(truth.without_difficult().boxes().values()))
    np.testing.assert_array_equal(easy, case["truth_xyxy"])
