"""Find the objects of a picture, and draw them: python examples/detect_image.py photo.jpg objects.jpg."""

import sys
from pathlib import Path

from objloc_ros import load_pipeline
from objloc_ros.io.drawing import overlay
from objloc_ros.io.media import read_image, write_image

image = read_image(Path(sys.argv[1]))
pipeline = load_pipeline(methods=("maskcut",))  # backbone="dino_vits16" once that is fetched
result = pipeline.run(image)["maskcut"]
for box, score in zip(result.detections.boxes, result.detections.scores, strict=True):
    print(f"box {box.round()}, score {score:.2f}")
write_image(Path(sys.argv[2]), overlay(image, result.maps()["instance_mask"], result.detections))
