"""The `found` node: class-free objects of a camera, by FOUND or another map of saliency, as standard messages."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from objloc_ros.engine.config import NODES, PipelineConfig
from objloc_ros.methods.found import FoundOptions
from objloc_ros.nodes import process
from objloc_ros.nodes.adapter import BACKBONE, OVERLAYS, MethodAdapter, publish_result
from objloc_ros.nodes.camera import Frame
from objloc_ros.nodes.outputs import Output, Outputs
from objloc_ros.nodes.params import Table, Values, parameters
from objloc_ros.nodes.perception_node import PerceptionNode
from objloc_ros.options import Option, describe

METHODS = tuple(method for method, node in NODES.items() if node == "found")
"""Methods that this node runs."""

PARAMETERS = Table(
    *BACKBONE,
    *parameters(PipelineConfig, "head_weights", "network"),
    Option("method", "found", "Method; `selfmask` looks at images with a network of its own.", choices=METHODS),
    *parameters(FoundOptions),
)


class FoundAdapter(MethodAdapter):
    """Publishes boxes, mask and confidence of one method."""

    name = "found"
    parameters = PARAMETERS
    outputs = (
        Output("detections", Detection2DArray, depth=5),
        Output("mask", Image),
        Output("confidence", Image),
        *OVERLAYS,
    )
    methods = METHODS
    leads = True

    def method_options(self, values: Values) -> Mapping[str, Mapping[str, Any]]:
        """Return the method's options, which are FOUND's, and all of which are parameters of this node."""
        (method,) = self.choose_methods(values)
        return {method: {name: values[name] for name in describe(FoundOptions)}}

    def process(self, frame: Frame, outputs: Outputs, wanted: frozenset[str]) -> None:
        """Run the method and publish what is wanted."""
        rgb, (method,) = frame.rgb(), self._loaded
        publish_result(self.pipeline.run(rgb, key=frame)[method], rgb, frame.header, outputs, wanted)


def main() -> int:
    """Run the node; console script `found`."""
    return process.run(lambda: PerceptionNode(FoundAdapter()))


if __name__ == "__main__":
    sys.exit(main())
