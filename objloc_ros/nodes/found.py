"""The `found` node: class-free objects of a camera, by FOUND, as standard messages."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from objloc_ros.engine.config import PipelineConfig
from objloc_ros.methods.found import FoundOptions
from objloc_ros.nodes import process
from objloc_ros.nodes.adapter import BACKBONE, OVERLAYS, MethodAdapter, publish_result
from objloc_ros.nodes.camera import Frame
from objloc_ros.nodes.outputs import Output, Outputs
from objloc_ros.nodes.params import Table, Values, parameters
from objloc_ros.nodes.perception_node import PerceptionNode
from objloc_ros.options import describe

PARAMETERS = Table(*BACKBONE, *parameters(PipelineConfig, "head_weights"), *parameters(FoundOptions))


class FoundAdapter(MethodAdapter):
    """Publishes FOUND's boxes, mask and confidence."""

    name = "found"
    parameters = PARAMETERS
    outputs = (
        Output("detections", Detection2DArray, depth=5),
        Output("mask", Image),
        Output("confidence", Image),
        *OVERLAYS,
    )
    methods = ("found",)
    leads = True

    def method_options(self, values: Values) -> Mapping[str, Mapping[str, Any]]:
        """Return FOUND's options, all of which are parameters of this node."""
        return {"found": {name: values[name] for name in describe(FoundOptions)}}

    def process(self, frame: Frame, outputs: Outputs, wanted: frozenset[str]) -> None:
        """Run FOUND and publish what is wanted."""
        rgb = frame.rgb()
        publish_result(self.pipeline.run(rgb, key=frame)["found"], rgb, frame.header, outputs, wanted)


def main() -> int:
    """Run the node; console script `found`."""
    return process.run(lambda: PerceptionNode(FoundAdapter()))


if __name__ == "__main__":
    sys.exit(main())
