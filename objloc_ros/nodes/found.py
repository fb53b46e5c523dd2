"""The `found` node: class-free objects of a camera, by FOUND or another map of saliency, as standard messages."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray, LabelInfo

from objloc_ros.engine.config import NODES, PipelineConfig
from objloc_ros.errors import ParameterError
from objloc_ros.methods.options import FoundOptions
from objloc_ros.nodes import process
from objloc_ros.nodes.adapter import (
    BACKBONE,
    OVERLAYS,
    Host,
    PipelineFactory,
    VideoAdapter,
    build_pipeline,
    publish_result,
)
from objloc_ros.nodes.camera import Frame
from objloc_ros.nodes.messages import labels_to_msg, stamp_ns
from objloc_ros.nodes.outputs import Output, Outputs
from objloc_ros.nodes.params import Table, Values, parameters
from objloc_ros.nodes.perception_node import PerceptionNode
from objloc_ros.options import Option, describe
from objloc_ros.types import CLASS_FREE

if TYPE_CHECKING:
    from objloc_ros.engine.pipeline import Pipeline

METHODS = tuple(method for method, node in NODES.items() if node == "found")
"""Methods that this node runs."""

PARAMETERS = Table(
    *BACKBONE,
    *parameters(PipelineConfig, "head_weights", "network"),
    Option("method", "found", "Method; `selfmask` looks at images with a network of its own.", choices=METHODS),
    *parameters(FoundOptions),
    Option("track", False, "Give each object an id that lasts from frame to frame.", live=True),
)


class FoundAdapter(VideoAdapter):
    """Publishes boxes, mask and confidence of one method, and announces what the ids in the mask stand for.

    Args:
        pipeline_factory: Builds the pipeline.
    """

    name = "found"
    parameters = PARAMETERS
    outputs = (
        Output("detections", Detection2DArray, depth=5),
        Output("mask", Image),
        Output("confidence", Image),
        Output("label_info", LabelInfo, latched=True),
        *OVERLAYS,
    )
    methods = METHODS
    leads = True

    def __init__(self, pipeline_factory: PipelineFactory = build_pipeline) -> None:
        super().__init__(pipeline_factory)
        self._outputs: Outputs | None = None
        self._announced = -1.0
        self._tracked: tuple[str, ...] = ()

    def method_options(self, values: Values) -> Mapping[str, Mapping[str, Any]]:
        """Return the method's options, which are FOUND's, and all of which are parameters of this node."""
        (method,) = self.choose_methods(values)
        return {method: {name: values[name] for name in describe(FoundOptions)}}

    def check(self, values: Values) -> None:
        """Refuse also what needs a package that a light installation may lack."""
        super().check(values)
        if (values["track"] or values["post"] != "none") and find_spec("scipy") is None:
            asked = "track" if values["track"] else f"post: {values['post']}"
            raise ParameterError(f"{asked} needs SciPy, which is not installed: pip install scipy")

    def configure(self, pipeline: Pipeline, values: Values) -> None:
        """Hand the method's options to a pipeline, and keep whether objects get ids."""
        super().configure(pipeline, values)
        self._tracked = self.choose_methods(values) if values["track"] else ()

    def apply(self, values: Values) -> None:
        """Take a set over, and announce its threshold if it is another one."""
        super().apply(values)
        if values["threshold"] != self._announced:
            self._announce(values["threshold"])

    def warm_up(self, pipeline: Pipeline, values: Values, host: Host) -> None:
        """Announce the labels, and run the pipeline once."""
        self._outputs = host.outputs
        self._announce(values["threshold"])
        super().warm_up(pipeline, values, host)

    def release(self) -> None:
        """Announce nothing any more, too."""
        self._outputs = None
        super().release()

    def process(self, frame: Frame, outputs: Outputs, wanted: frozenset[str]) -> None:
        """Run the method and publish what is wanted."""
        rgb, header, (method,) = frame.rgb(), frame.header, self._loaded
        video = self.follow(method)
        video.tracked = self._tracked
        publish_result(video(rgb, stamp_ns(header), key=frame)[method], rgb, header, outputs, wanted)

    def _announce(self, threshold: float) -> None:
        """Say what the ids stand for, in images of any stamp: they never change."""
        if self._outputs is not None:
            self._outputs.announce("label_info", labels_to_msg(CLASS_FREE, Header(), threshold))
            self._announced = threshold


def main() -> int:
    """Run the node; console script `found`."""
    return process.run(lambda: PerceptionNode(FoundAdapter()))


if __name__ == "__main__":
    sys.exit(main())
