from __future__ import annotations

import json

import numpy as np

from objloc_ros.data.coco_document import CocoRecords
from objloc_ros.types import Detections


def test_document_of_two_images() -> None:
    records = CocoRecords({"method": "found"})
    boxes = np.array([[10, 20, 30.5, 60], [0, 0, 1, 1]], np.float32)
    records.add("a.jpg", (480, 640), Detections(boxes, np.array([0.75, 0.5], np.float32), ("object", "car")))
    records.add(
        "clip.mp4", (48, 64), Detections.class_free(np.zeros((0, 4), np.float32), np.zeros(0, np.float32)), frame=7
    )
    records.fail("b.jpg", "not an image")
    document = records.document()
    assert json.loads(json.dumps(document)) == document
    assert document["images"] == [
        {"id": 1, "file_name": "a.jpg", "width": 640, "height": 480},
        {"id": 2, "file_name": "clip.mp4", "width": 64, "height": 48, "frame": 7},
    ]
    assert document["annotations"] == [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 1,
            "bbox": [10, 20, 20.5, 40],
            "area": 820,
            "iscrowd": 0,
            "score": 0.75,
        },
        {"id": 2, "image_id": 1, "category_id": 2, "bbox": [0, 0, 1, 1], "area": 1, "iscrowd": 0, "score": 0.5},
    ]
    assert document["categories"] == [{"id": 1, "name": "object"}, {"id": 2, "name": "car"}]
    assert document["failures"] == [{"file_name": "b.jpg", "reason": "not an image"}]
    assert document["info"] == {"method": "found"}
