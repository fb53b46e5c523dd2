"""Results as messages, and stamps as nanoseconds."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from rclpy.qos import QoSDurabilityPolicy, QoSHistoryPolicy, QoSProfile, QoSReliabilityPolicy
from std_msgs.msg import Header
from vision_msgs.msg import Detection2D, Detection2DArray, LabelInfo, ObjectHypothesisWithPose, VisionClass

from objloc_ros.errors import InputError
from objloc_ros.types import Detections, LabelSet


def stamp_ns(data: bytes) -> int:
    """Read `header.stamp` of a message that begins with a std_msgs/Header.

    Args:
        data: CDR: four bytes of preamble, the second of which tells the byte order (1 = little endian), then the
            fields, an int32 of seconds and a uint32 of nanoseconds first.

    Returns:
        Nanoseconds.

    Raises:
        InputError: Too short to hold a stamp, or no CDR.
    """
    if len(data) < 12 or data[0] != 0 or data[1] > 1:
        raise InputError(f"no serialised message with a header: {len(data)} bytes, {bytes(data[:4]).hex(' ')!r}")
    seconds, nanoseconds = struct.unpack_from("<iI" if data[1] else ">iI", data, 4)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


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


def label_info_qos() -> QoSProfile:
    """Latched: whoever comes later gets the set in force."""
    return QoSProfile(
        history=QoSHistoryPolicy.KEEP_LAST,
        depth=1,
        reliability=QoSReliabilityPolicy.RELIABLE,
        durability=QoSDurabilityPolicy.TRANSIENT_LOCAL,
    )


def labels_to_msg(labels: LabelSet, header: Header, threshold: float) -> LabelInfo:
    """Describe a label set.

    Args:
        labels: Prompts and ids.
        header: The set holds for images from this stamp on.
        threshold: Least confidence of a label, in [0, 1].
    """
    classes = [VisionClass(class_id=number, class_name=prompt) for number, prompt in labels.names().items()]
    return LabelInfo(header=header, class_map=classes, threshold=threshold)


def names_of(message: LabelInfo) -> dict[int, str]:
    """The name of each value, as a message says."""
    return {int(one.class_id): one.class_name for one in message.class_map}
