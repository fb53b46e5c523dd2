"""A locate node in a process of its own; frames are surveyed: nobody asks tf2.

Run as `locate_process.py --ros-args ...`. Diagnostics come ten times as often as else. The camera "camera" is that of
`depth_peer.HALL`, whose world every target frame is; no other camera is known.
"""

import sys

from depth_peer import HALL

from objloc_ros.engine.latest_slot import FrameDroppedError
from objloc_ros.nodes import diagnostics, process
from objloc_ros.nodes.locate import LocateAdapter, TfFrames
from objloc_ros.nodes.perception_node import PerceptionNode


class SurveyedFrames(TfFrames):
    def __init__(self, node):
        pass

    @classmethod
    def check(cls):
        pass

    def find(self, target, header, wait_s):
        if header.frame_id != "camera":
            raise FrameDroppedError("no_transform", f"no transform from {header.frame_id!r} to {target!r}: unknown")
        return HALL.rotation, HALL.translation


if __name__ == "__main__":
    diagnostics.PERIOD_S = 0.1
    sys.exit(process.run(lambda: PerceptionNode(LocateAdapter(SurveyedFrames))))
