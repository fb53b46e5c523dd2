"""Follow the objects of a video by ids that last: python examples/track_video.py drive.mp4."""

import sys
from pathlib import Path

from objloc_ros import VideoTracker, load_pipeline
from objloc_ros.io.media import VideoReader

video = VideoReader(Path(sys.argv[1]))
tracker = VideoTracker(load_pipeline(methods=("maskcut",)))
for i, image in enumerate(video):
    detections = tracker(image, stamp_ns=round(i * 1e9 / video.fps))["maskcut"].detections
    for track, box in zip(detections.ids or (), detections.boxes, strict=True):
        print(f"frame {i}: object {track} at {box.round()}")
