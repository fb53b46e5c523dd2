"""The `discovery` node: class-free objects by unsupervised discovery, a mask each, with names that last."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from objloc_ros.engine.frame_stats import continues
from objloc_ros.engine.heads.discovery import METHODS
from objloc_ros.engine.results import InstanceResult
from objloc_ros.engine.temporal import Memory, Tracker
from objloc_ros.io import drawing
from objloc_ros.nodes import params, process
from objloc_ros.nodes.conversions import mask_to_image
from objloc_ros.nodes.encodings import RgbImage
from objloc_ros.nodes.messages import detections_to_msg
from objloc_ros.nodes.params import Spec, Table, Values
from objloc_ros.nodes.pipeline_node import PipelineNode, load_pipeline
from objloc_ros.types import size_of

if TYPE_CHECKING:
    from objloc_ros.engine.pipeline import Pipeline

PARAMETERS = Table(
    *params.BACKBONE,
    params.IDLE_PRIORITY,
    Spec("method", "maskcut", "Discovery method.", live=True, choices=tuple(METHODS)),
    Spec(
        "max_objects",
        3,
        "Most objects in one frame; without `temporal`, only `maskcut` finds more than one.",
        live=True,
        minimum=1,
        maximum=20,
    ),
    Spec(
        "min_score",
        0.0,
        "Least score: how much more an object's patches resemble each other than the rest, on average.",
        live=True,
        minimum=0.0,
        maximum=1.0,
    ),
    Spec(
        "temporal",
        True,
        "Keep objects from frame to frame, and hold a new one back for one frame; off, each frame stands alone.",
        live=True,
    ),
    Spec(
        "post",
        "none",
        "`bilateral` and `crf` fit masks to the edges of the image, at some cost.",
        live=True,
        choices=("none", "bilateral", "crf"),
    ),
)


class DiscoveryNode(PipelineNode):
    """Answers images with the boxes, ids and instance mask of the chosen method's objects.

    Args:
        pipeline_factory: Builds the engine from the arguments of `objloc_ros.load_pipeline`.
        options: Passed on to `rclpy.lifecycle.LifecycleNode`.
    """

    def __init__(self, *, pipeline_factory: Callable[..., Pipeline] = load_pipeline, **options: Any) -> None:
        self._tracker = Tracker()
        self._memories: dict[str, Memory] = {}
        self._latest_ns = 0
        super().__init__("discovery", PARAMETERS, tuple(METHODS), pipeline_factory, **options)
        self._settings = self.parameters.values()
        self.outputs.add("detections", Detection2DArray, depth=5)
        self.outputs.add("instance_mask", Image)

    def method_options(self, parameters: Values) -> Mapping[str, Mapping[str, Any]]:
        """Every method gets its options, so that it is ready when it is chosen."""
        chosen = {method: {"post": parameters["post"]} for method in METHODS}
        chosen["maskcut"]["n_masks"] = parameters["max_objects"]
        for method, (kind, _) in METHODS.items():
            kind(**chosen[method])
        return chosen

    def apply_parameters(self, parameters: Values) -> None:
        """Take over a complete set of values; they hold from the next frame on."""
        super().apply_parameters(parameters)
        self._settings = parameters

    def rest(self) -> None:
        """Forget the video, too."""
        self._memories = {}
        self._tracker.forget()
        super().rest()

    def answer(self, rgb: RgbImage, header: Header) -> None:
        """Run the method and publish what is listened to."""
        self._notice_cuts(header)
        settings = self._settings
        found = self._discover(rgb, settings).best(settings["max_objects"], settings["min_score"])
        ids = self._tracker.update(found.detections, size_of(rgb))
        self.outputs.publish("detections", lambda: detections_to_msg(found.detections, header, ids))
        self.outputs.publish("instance_mask", lambda: mask_to_image(found.instances_u16(), header))
        named = found.detections.with_labels(tuple(f"{name}:" for name in ids))
        self.publish_picture(lambda: drawing.overlay(rgb, found.instances_u16(), named), header)

    def _notice_cuts(self, header: Header) -> None:
        """Forget everything where the camera's time jumps: a bag that starts over, or a camera that was away."""
        now_ns = header.stamp.sec * 1_000_000_000 + header.stamp.nanosec
        if not continues(self._latest_ns, now_ns):
            self._memories = {}
            self._tracker.forget()
        self._latest_ns = now_ns

    def _discover(self, rgb: RgbImage, settings: Values) -> InstanceResult:
        method = settings["method"]
        if not settings["temporal"]:
            self._memories = {}
            return self.pipeline.run(rgb, (method,))[method]
        if method not in self._memories:  # what another method found is no guide to this one
            self._memories = {method: Memory()}
        return self.pipeline.follow(rgb, self._memories)[method]


def main() -> int:
    """Run the node; console script `discovery`."""
    return process.run(DiscoveryNode)


if __name__ == "__main__":
    sys.exit(main())
