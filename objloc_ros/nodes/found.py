"""The `found` node: class-free objects of a camera, by FOUND, as standard messages."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from objloc_ros.methods.found import FoundOptions
from objloc_ros.nodes import params, process
from objloc_ros.nodes.adapter import OVERLAYS, MethodAdapter, publish_result
from objloc_ros.nodes.camera import Frame
from objloc_ros.nodes.outputs import Output, Outputs
from objloc_ros.nodes.params import Spec, Table, Values
from objloc_ros.nodes.perception_node import PerceptionNode

DEFAULTS = FoundOptions()

PARAMETERS = Table(
    *params.BACKBONE,
    Spec("head_weights", "", "Path of the FOUND head's weights; empty takes the registered ones."),
    Spec(
        "threshold",
        DEFAULTS.threshold,
        "Saliency of an object's pixel, at least.",
        live=True,
        minimum=0.0,
        maximum=1.0,
    ),
    Spec(
        "mode",
        DEFAULTS.mode,
        "`single`: only the largest object; `multi`: every one.",
        live=True,
        choices=("multi", "single"),
    ),
    Spec(
        "post",
        DEFAULTS.post,
        "`bilateral` fits the mask to the edges of the image, at some cost.",
        live=True,
        choices=("none", "bilateral"),
    ),
    Spec(
        "min_area",
        DEFAULTS.min_area,
        "Smallest object, as a fraction of the image's area.",
        live=True,
        minimum=0.0,
        maximum=1.0,
    ),
    Spec("max_detections", DEFAULTS.max_detections, "Most objects in one frame.", live=True, minimum=1, maximum=1000),
)


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
        options = {field.name: values[field.name] for field in fields(FoundOptions)}
        FoundOptions(**options)
        return {"found": options}

    def process(self, frame: Frame, outputs: Outputs, wanted: frozenset[str]) -> None:
        """Run FOUND and publish what is wanted."""
        rgb = frame.rgb()
        publish_result(self.pipeline.run(rgb, key=frame)["found"], rgb, frame.header, outputs, wanted)


def main() -> int:
    """Run the node; console script `found`."""
    return process.run(lambda: PerceptionNode(FoundAdapter()))


if __name__ == "__main__":
    sys.exit(main())
