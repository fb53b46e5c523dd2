"""Results as messages, and stamps as nanoseconds."""

from __future__ import annotations

import struct

from builtin_interfaces.msg import Time
from std_msgs.msg import Header
from vision_msgs.msg import Detection2D, Detection2DArray, LabelInfo, ObjectHypothesisWithPose, VisionClass

from objloc_ros.errors import InputError
from objloc_ros.types import Detections, LabelSet


def stamp_ns(header: Header) -> int:
    """Return a header's stamp, nanoseconds."""
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)


def time_from_ns(nanoseconds: int) -> Time:
    """Return nanoseconds as a message."""
    seconds, rest = divmod(nanoseconds, 1_000_000_000)
    return Time(sec=seconds, nanosec=rest)


def serialized_stamp_ns(data: bytes) -> int:
    """Read the stamp of a serialised message that begins with a std_msgs/Header, without deserialising it.

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


def detections_to_msg(detections: Detections, header: Header) -> Detection2DArray:
    """Describe detections in the source image's pixels.

    Args:
        detections: Boxes (x1, y1, x2, y2), maximum exclusive: the width is `x2 - x1`, and a centre may be half-integer.
            Without track ids, `id` stays empty.
        header: The source image's, shared by the array and each detection.

    Returns:
        One hypothesis per detection, its pose left at the default: an image says nothing about it.
    """
    ids = ("",) * len(detections) if detections.ids is None else detections.ids
    message = Detection2DArray(header=header)
    columns = (detections.boxes.tolist(), detections.scores.tolist(), detections.labels, ids)
    for (x1, y1, x2, y2), score, label, track in zip(*columns, strict=True):
        detection = Detection2D(header=header, id=track)
        detection.bbox.center.position.x = (x1 + x2) / 2
        detection.bbox.center.position.y = (y1 + y2) / 2
        detection.bbox.size_x = x2 - x1
        detection.bbox.size_y = y2 - y1
        hypothesis = ObjectHypothesisWithPose()
        hypothesis.hypothesis.class_id = label
        hypothesis.hypothesis.score = score
        detection.results = [hypothesis]
        message.detections.append(detection)
    return message


def labels_to_msg(labels: LabelSet, header: Header, threshold: float) -> LabelInfo:
    """Describe a label set.

    Args:
        labels: Prompts and ids.
        header: The set holds for images from this stamp on.
        threshold: Least confidence of a label, in [0, 1].
    """
    classes = [VisionClass(class_id=number, class_name=prompt) for number, prompt in labels.names().items()]
    return LabelInfo(header=header, class_map=classes, threshold=threshold)


def parse_label_info(message: LabelInfo) -> dict[int, str]:
    """Return the name of each value in the masks that a message is about."""
    return {int(entry.class_id): entry.class_name for entry in message.class_map}
