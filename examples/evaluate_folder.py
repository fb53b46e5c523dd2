"""Measure a method on pictures with a COCO document: python examples/evaluate_folder.py images/ annotations.json."""

import sys
from pathlib import Path

from objloc_ros import load_pipeline
from objloc_ros.data import open_dataset
from objloc_ros.io.media import read_image
from objloc_ros.metrics import CorLoc

images, annotations = map(Path, sys.argv[1:])
dataset = open_dataset("coco_json", images, annotations=annotations)
pipeline = load_pipeline(methods=("lost",))
corloc = CorLoc()
for sample in dataset.samples:
    boxes = pipeline.run(read_image(sample.image))["lost"].detections.boxes
    corloc.update([boxes[0] if len(boxes) else None], [dataset.boxes(sample)])
print(f"CorLoc {corloc.compute():.3f} on {len(dataset.samples)} images")
