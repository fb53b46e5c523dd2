"""Label sets as vision_msgs."""

from __future__ import annotations

from rclpy.qos import QoSDurabilityPolicy, QoSHistoryPolicy, QoSProfile, QoSReliabilityPolicy
from std_msgs.msg import Header
from vision_msgs.msg import LabelInfo, VisionClass

from objloc_ros.types import LabelSet


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
