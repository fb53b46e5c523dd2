"""The `found` node: class-free objects of a camera, by FOUND, as standard messages."""

from __future__ import annotations

import functools
import gc
import sys
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray

from objloc_ros.methods.found import FoundOptions
from objloc_ros.nodes import process
from objloc_ros.nodes.base import SPECS, PerceptionNode
from objloc_ros.nodes.conversions import mask_to_image, rgb_to_compressed, rgb_to_image
from objloc_ros.nodes.detections import detections_to_msg
from objloc_ros.nodes.diagnostics import device_memory_mb
from objloc_ros.nodes.encodings import RgbImage
from objloc_ros.nodes.live import Values
from objloc_ros.nodes.params import Spec, Table
from objloc_ros.ops import drawing

if TYPE_CHECKING:
    from objloc_ros.engine.pipeline import Pipeline

WARM_UP_SIZE = (480, 640)
"""Height and width of the image that the engine sees before the node becomes active."""

DEFAULTS = FoundOptions()

PARAMETERS = Table(
    Spec("backbone", "tiny", "Backbone by its name in the weights registry."),
    Spec("device", "auto", "`auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:N`."),
    Spec("weights", "", "Path of the backbone's weights; empty takes the registered ones."),
    Spec("head_weights", "", "Path of the FOUND head's weights; empty takes the registered ones."),
    Spec(
        "short_side",
        0,
        "Images are scaled down until their shorter side has this many pixels; 0 takes the backbone's own size.",
        minimum=0,
        maximum=4096,
    ),
    *SPECS,
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


def load_pipeline(**arguments: Any) -> Pipeline:
    """Load the pipeline; its imports take seconds and wait until the parameters have been found good."""
    from objloc_ros.engine import pipeline

    return pipeline.load_pipeline(**arguments)


class FoundNode(PerceptionNode):
    """Answers images with FOUND's boxes, mask and confidence.

    Args:
        pipeline_factory: Builds the engine from the arguments of `objloc_ros.load_pipeline`.
        options: Passed on to `rclpy.lifecycle.LifecycleNode`.
    """

    def __init__(self, *, pipeline_factory: Callable[..., Pipeline] = load_pipeline, **options: Any) -> None:
        self._pipeline_factory = pipeline_factory
        self._pipeline: Pipeline | None = None
        super().__init__("found", PARAMETERS, **options)
        self.outputs.add("detections", Detection2DArray, depth=5)
        self.outputs.add("mask", Image)
        self.outputs.add("confidence", Image)
        self.outputs.add("overlay", Image)
        self.outputs.add("overlay/compressed", CompressedImage)

    def load_engine(self, parameters: Values) -> None:
        """Load backbone and head, and run them once: the first real frame must not pay for the first run."""
        pipeline = self._pipeline_factory(
            methods=("found",),
            backbone=parameters["backbone"],
            device=parameters["device"],
            short_side=parameters["short_side"] or None,
            weights=parameters["weights"] or None,
            head_weights=parameters["head_weights"] or None,
        )
        pipeline.configure("found", **_options(parameters))
        pipeline.warm_up(WARM_UP_SIZE)
        self._pipeline = pipeline
        self.get_logger().info(f"loaded {parameters['backbone']} on {pipeline.device}")

    def release_engine(self) -> None:
        """Drop the pipeline and give the device's memory back, which PyTorch would keep for itself."""
        on_cuda = self._pipeline is not None and str(self._pipeline.device).startswith("cuda")
        self._pipeline = None
        if on_cuda:
            import torch

            gc.collect()
            torch.cuda.empty_cache()

    def check_parameters(self, parameters: Values) -> None:
        """Let FOUND's options judge for themselves."""
        FoundOptions(**_options(parameters))

    def apply_parameters(self, parameters: Values) -> None:
        """Hand the options to the pipeline; they hold from the next frame on."""
        if self._pipeline is not None:
            self._pipeline.configure("found", **_options(parameters))

    def answer(self, rgb: RgbImage, header: Header) -> None:
        """Run FOUND and publish what is listened to."""
        pipeline = self._pipeline
        if pipeline is None:
            raise RuntimeError("no pipeline is loaded")
        found = pipeline.run(rgb)["found"]
        self.outputs.publish("detections", lambda: detections_to_msg(found.detections, header))
        self.outputs.publish("mask", lambda: mask_to_image(found.mask_u8(), header))
        self.outputs.publish("confidence", lambda: mask_to_image(found.saliency_u8(), header))

        @functools.cache
        def picture() -> RgbImage:
            return drawing.overlay(rgb, found.mask_u8(), found.detections)

        self.outputs.publish("overlay", lambda: rgb_to_image(picture(), header))
        self.outputs.publish("overlay/compressed", lambda: rgb_to_compressed(picture(), header))

    def describe_engine(self) -> dict[str, str]:
        """Device, its memory, and the weights."""
        parameters = self.parameters.values()
        device = "" if self._pipeline is None else str(self._pipeline.device)
        return {
            "device": device,
            "device_memory_mb": f"{device_memory_mb(device):.0f}",
            "backbone": parameters["backbone"],
            "weights": parameters["weights"] or "registered",
            "head_weights": parameters["head_weights"] or "registered",
        }


def _options(parameters: Values) -> dict[str, Any]:
    return {field.name: parameters[field.name] for field in fields(FoundOptions)}


def main() -> int:
    """Run the node; console script `found`."""
    return process.run(FoundNode)


if __name__ == "__main__":
    sys.exit(main())
