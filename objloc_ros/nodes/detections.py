"""Detections as vision_msgs."""

from __future__ import annotations

from collections.abc import Sequence

from std_msgs.msg import Header
from vision_msgs.msg import Detection2D, Detection2DArray, ObjectHypothesisWithPose

from objloc_ros.types import Detections


def detections_to_msg(detections: Detections, header: Header, ids: Sequence[str] | None = None) -> Detection2DArray:
    """Describe detections in the source image's pixels.

    Args:
        detections: Boxes (x1, y1, x2, y2), maximum exclusive: the width is `x2 - x1`, and a centre may be half-integer.
        header: The source image's, shared by the array and each detection.
        ids: Name of each detection's track; None leaves `id` empty.

    Returns:
        One hypothesis per detection, its pose left at the default: an image says nothing about it.
    """
    ids = [""] * len(detections) if ids is None else ids
    each = zip(detections.boxes, detections.scores, detections.labels, ids, strict=True)
    return Detection2DArray(
        header=header,
        detections=[
            _detection([float(side) for side in box], float(score), label, track, header)
            for box, score, label, track in each
        ],
    )


def _detection(box: list[float], score: float, label: str, track: str, header: Header) -> Detection2D:
    x1, y1, x2, y2 = box
    detection = Detection2D(header=header, id=track)
    detection.bbox.center.position.x = (x1 + x2) / 2
    detection.bbox.center.position.y = (y1 + y2) / 2
    detection.bbox.size_x = x2 - x1
    detection.bbox.size_y = y2 - y1
    hypothesis = ObjectHypothesisWithPose()
    hypothesis.hypothesis.class_id = label
    hypothesis.hypothesis.score = score
    detection.results = [hypothesis]
    return detection
