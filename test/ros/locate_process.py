"""A locate node in a process of its own; frames are surveyed: nobody asks tf2.

Run as `locate_process.py --ros-args ...`. Diagnostics come ten times as often as else. The camera "camera" looks along
the x axis of every target frame, a metre above its origin; no other camera is known.
"""

import sys

import numpy as np

from objloc_ros.engine.latest_slot import FrameDroppedError
from objloc_ros.nodes import diagnostics, process
from objloc_ros.nodes.locate import LocateAdapter, TfFrames
from objloc_ros.nodes.perception_node import PerceptionNode

ROTATION = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
TRANSLATION = np.array([0.0, 0.0, 1.0])


class SurveyedFrames(TfFrames):
    def __init__(self, node):
        pass

    @classmethod
    def check(cls):
        pass

    def find(self, target, header, wait_s):
        if header.frame_id != "camera":
            raise FrameDroppedError("no_transform", f"no transform from {header.frame_id!r} to {target!r}: unknown")
        return ROTATION, TRANSLATION


if __name__ == "__main__":
    diagnostics.PERIOD_S = 0.1
    sys.exit(process.run(lambda: PerceptionNode(LocateAdapter(SurveyedFrames))))
