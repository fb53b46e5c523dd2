"""A segmentation node in a process of its own, with the embedded models.

Run as `segmentation_process.py --ros-args ...`.
"""

import sys

from objloc_ros.nodes import process
from objloc_ros.nodes.perception_node import PerceptionNode
from objloc_ros.nodes.segmentation import SegmentationAdapter

if __name__ == "__main__":
    sys.exit(process.run(lambda: PerceptionNode(SegmentationAdapter())))
