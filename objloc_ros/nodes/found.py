"""The `found` node: class-free objects of a camera, by FOUND, as standard messages."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from objloc_ros.io import drawing
from objloc_ros.methods.found import FoundOptions
from objloc_ros.nodes import params, process
from objloc_ros.nodes.conversions import mask_to_image
from objloc_ros.nodes.encodings import RgbImage
from objloc_ros.nodes.messages import detections_to_msg
from objloc_ros.nodes.params import Spec, Table, Values
from objloc_ros.nodes.pipeline_node import PipelineNode, load_pipeline

if TYPE_CHECKING:
    from objloc_ros.engine.pipeline import Pipeline

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


class FoundNode(PipelineNode):
    """Answers images with FOUND's boxes, mask and confidence.

    Args:
        pipeline_factory: Builds the engine from the arguments of `objloc_ros.load_pipeline`.
        options: Passed on to `rclpy.lifecycle.LifecycleNode`.
    """

    leads = True

    def __init__(self, *, pipeline_factory: Callable[..., Pipeline] = load_pipeline, **options: Any) -> None:
        super().__init__("found", PARAMETERS, ("found",), pipeline_factory, **options)
        self.outputs.add("detections", Detection2DArray, depth=5)
        self.outputs.add("mask", Image)
        self.outputs.add("confidence", Image)

    def method_options(self, parameters: Values) -> Mapping[str, Mapping[str, Any]]:
        """All of FOUND's options are parameters of this node."""
        options = {field.name: parameters[field.name] for field in fields(FoundOptions)}
        FoundOptions(**options)
        return {"found": options}

    def answer(self, rgb: RgbImage, header: Header) -> None:
        """Run FOUND and publish what is listened to."""
        found = self.pipeline.run(rgb)["found"]
        self.outputs.publish("detections", lambda: detections_to_msg(found.detections, header))
        self.outputs.publish("mask", lambda: mask_to_image(found.mask_u8(), header))
        self.outputs.publish("confidence", lambda: mask_to_image(found.saliency_u8(), header))
        self.publish_picture(lambda: drawing.overlay(rgb, found.mask_u8(), found.detections), header)


def main() -> int:
    """Run the node; console script `found`."""
    return process.run(FoundNode)


if __name__ == "__main__":
    sys.exit(main())
