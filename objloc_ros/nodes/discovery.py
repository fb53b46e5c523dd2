"""The `discovery` node: class-free objects by unsupervised discovery, a mask each, with names that last."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from objloc_ros.engine.frame_stats import continues
from objloc_ros.engine.heads.discovery import METHODS
from objloc_ros.engine.results import HeadResult
from objloc_ros.engine.temporal import Memory, Tracker
from objloc_ros.methods.maskcut import MaskCutOptions
from objloc_ros.nodes import process
from objloc_ros.nodes.adapter import (
    BACKBONE,
    OVERLAYS,
    MethodAdapter,
    PipelineFactory,
    build_pipeline,
    publish_result,
)
from objloc_ros.nodes.camera import Frame
from objloc_ros.nodes.messages import stamp_ns
from objloc_ros.nodes.outputs import Output, Outputs
from objloc_ros.nodes.params import IDLE_PRIORITY, Table, Values, parameters
from objloc_ros.nodes.perception_node import PerceptionNode
from objloc_ros.options import Option
from objloc_ros.types import size_of

if TYPE_CHECKING:
    from objloc_ros.engine.pipeline import Pipeline

PARAMETERS = Table(
    *BACKBONE,
    IDLE_PRIORITY,
    Option("method", "maskcut", "Discovery method.", live=True, choices=tuple(METHODS)),
    *parameters(FollowOptions),
    *parameters(MaskCutOptions, "post", post="none"),
)


class DiscoveryAdapter(MethodAdapter):
    """Publishes the boxes, ids and instance mask of the chosen method's objects.

    Args:
        pipeline_factory: Builds the pipeline.
    """

    name = "discovery"
    parameters = PARAMETERS
    outputs = (Output("detections", Detection2DArray, depth=5), Output("instance_mask", Image), *OVERLAYS)
    methods = tuple(METHODS)

    def __init__(self, pipeline_factory: PipelineFactory = build_pipeline) -> None:
        super().__init__(pipeline_factory)
        self._settings: Values = {}
        self._tracker = Tracker()
        self._memories: dict[str, Memory] = {}
        self._latest_ns = 0

    def method_options(self, values: Values) -> Mapping[str, Mapping[str, Any]]:
        """Return the options of every method, so that each is ready when it is chosen."""
        options = {method: {"post": values["post"]} for method in METHODS}
        options["maskcut"]["n_masks"] = values["max_objects"]
        return options

    def configure(self, pipeline: Pipeline, values: Values) -> None:
        """Hand the methods' options to a pipeline, and keep what is chosen frame by frame."""
        super().configure(pipeline, values)
        self._settings = values

    def process(self, frame: Frame, outputs: Outputs, wanted: frozenset[str]) -> None:
        """Run the chosen method and publish what is wanted."""
        rgb, header, settings = frame.rgb(), frame.header, self._settings
        now_ns = stamp_ns(header)
        if not continues(self._latest_ns, now_ns):
            self.reset()
        self._latest_ns = now_ns
        result = self._discover(frame, settings).best(settings["max_objects"], settings["min_score"])
        ids = self._tracker.update(result.detections, size_of(rgb))
        publish_result(result.with_ids(ids), rgb, header, outputs, wanted)

    def reset(self) -> None:
        """Forget the video: the next frame begins another one."""
        self._memories = {}
        self._tracker.forget()

    def free_memory(self) -> None:
        """Forget the video, whose features are on the device."""
        self.reset()
        super().free_memory()

    def _discover(self, frame: Frame, settings: Values) -> HeadResult:
        method = settings["method"]
        if not settings["temporal"]:
            self._memories = {}
            return self.pipeline.run(frame.rgb(), (method,), key=frame)[method]
        if method not in self._memories:  # what another method found is no guide to this one
            self._memories = {method: Memory()}
        return self.pipeline.follow(frame.rgb(), self._memories, key=frame)[method]


def main() -> int:
    """Run the node; console script `discovery`."""
    return process.run(lambda: PerceptionNode(DiscoveryAdapter()))


if __name__ == "__main__":
    sys.exit(main())
