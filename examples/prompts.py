"""Name what a picture shows, and change the names: python examples/prompts.py photo.png "red circle" "blue star"."""

import sys
from pathlib import Path

from objloc_ros import load_pipeline
from objloc_ros.io.media import read_image

path, *prompts = sys.argv[1:]
image = read_image(Path(path))
pipeline = load_pipeline(methods=("clip_diy",))  # clip="clip_vitb32" knows the world, after `objloc weights fetch`
for wanted in (prompts, prompts[:1]):
    labels = pipeline.set_prompts(wanted)
    detections = pipeline.run(image)["clip_diy"].detections
    print(f"{', '.join(labels.prompts)}: {len(detections)} regions")
    for label, box, score in zip(detections.labels, detections.boxes, detections.scores, strict=True):
        print(f"  {label} at {box.round()}, {score:.2f}")
