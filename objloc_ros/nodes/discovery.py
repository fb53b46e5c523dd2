"""The `discovery` node: class-free objects by unsupervised discovery, a mask each, with names that last."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sensor_msgs.msg import Image
from vision_msgs.msg import Detection2DArray

from objloc_ros.backbones.registry import is_present
from objloc_ros.engine.config import DISCOVERY, HEADS, PipelineConfig
from objloc_ros.engine.video_tracker import VideoOptions
from objloc_ros.methods.options import MaskCutOptions
from objloc_ros.nodes import process
from objloc_ros.nodes.adapter import (
    BACKBONE,
    OVERLAYS,
    PipelineFactory,
    VideoAdapter,
    build_pipeline,
    publish_result,
)
from objloc_ros.nodes.camera import Frame
from objloc_ros.nodes.messages import stamp_ns
from objloc_ros.nodes.outputs import Output, Outputs
from objloc_ros.nodes.params import IDLE_PRIORITY, Table, Values, parameters
from objloc_ros.nodes.perception_node import PerceptionNode
from objloc_ros.options import Option, describe

if TYPE_CHECKING:
    from objloc_ros.engine.pipeline import Pipeline

PARAMETERS = Table(
    *BACKBONE,
    *parameters(PipelineConfig, "head_weights", "network"),
    IDLE_PRIORITY,
    Option("method", "maskcut", "Discovery method.", live=True, choices=DISCOVERY),
    *parameters(VideoOptions, max_objects=3),
    *parameters(MaskCutOptions, "post", post="none"),
)


class DiscoveryAdapter(VideoAdapter):
    """Publishes the boxes, ids and instance mask of the chosen method's objects.

    Args:
        pipeline_factory: Builds the pipeline.
    """

    name = "discovery"
    parameters = PARAMETERS
    outputs = (Output("detections", Detection2DArray, depth=5), Output("instance_mask", Image), *OVERLAYS)
    methods = DISCOVERY

    def __init__(self, pipeline_factory: PipelineFactory = build_pipeline) -> None:
        super().__init__(pipeline_factory)
        self._settings: Values = {}

    def method_options(self, values: Values) -> Mapping[str, Mapping[str, Any]]:
        """Return the options of every method, so that each is ready when it is chosen."""
        options: dict[str, dict[str, Any]] = {}
        for method in self.choose_methods(values):
            known = describe(HEADS[method])
            given = {"post": values["post"], "n_masks": values["max_objects"]}
            if "threshold" in known:  # what is below it no least score can bring back
                given["threshold"] = values["min_score"] or known["threshold"].default
            options[method] = {name: given[name] for name in known if name in given}
        return options

    def choose_methods(self, values: Values) -> tuple[str, ...]:
        """Return the heads to load: the detector only where it was chosen or given, or is known to fit the backbone."""
        methods = super().choose_methods(values)
        fits = not values["weights"] and is_present(f"{values['backbone']}_detector")
        if fits or values["head_weights"] or values["method"] == "detector":
            return methods
        return tuple(method for method in methods if method != "detector")

    def configure(self, pipeline: Pipeline, values: Values) -> None:
        """Hand the methods' options to a pipeline, and keep what is chosen frame by frame."""
        super().configure(pipeline, values)
        self._settings = values

    def process(self, frame: Frame, outputs: Outputs, wanted: frozenset[str]) -> None:
        """Run the chosen method and publish what is wanted."""
        rgb, header, settings = frame.rgb(), frame.header, self._settings
        method = settings["method"]
        video = self.follow(method)
        video.options = VideoOptions(settings["temporal"], settings["max_objects"], settings["min_score"])
        publish_result(video(rgb, stamp_ns(header), key=frame)[method], rgb, header, outputs, wanted)


def main() -> int:
    """Run the node; console script `discovery`."""
    return process.run(lambda: PerceptionNode(DiscoveryAdapter()))


if __name__ == "__main__":
    sys.exit(main())
