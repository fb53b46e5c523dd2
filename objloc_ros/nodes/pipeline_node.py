"""What the nodes around a pipeline share: its parameters, loading, release, and pictures of its results."""

from __future__ import annotations

import abc
import functools
import gc
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from objloc_ros.nodes.base import PerceptionNode
from objloc_ros.nodes.conversions import rgb_to_compressed, rgb_to_image
from objloc_ros.nodes.diagnostics import device_memory_mb
from objloc_ros.nodes.encodings import RgbImage
from objloc_ros.nodes.params import Table, Values

if TYPE_CHECKING:
    import torch

    from objloc_ros.engine.pipeline import Pipeline

WARM_UP_SIZE = (480, 640)
"""Height and width of the image that the engine sees before the node becomes active."""


def load_pipeline(**arguments: Any) -> Pipeline:
    """Load the pipeline; its imports take seconds and wait until the parameters have been found good."""
    from objloc_ros.engine import pipeline

    return pipeline.load_pipeline(**arguments)


def give_back(device: torch.device) -> None:
    """Return a GPU's free memory, which PyTorch would keep for itself."""
    if str(device).startswith("cuda"):
        import torch

        gc.collect()
        torch.cuda.empty_cache()


class PipelineNode(PerceptionNode):
    """A perception node that answers images with the methods of one pipeline.

    Args:
        name: Node name.
        table: All parameters of the node, `params.BACKBONE` among them.
        methods: Heads to load.
        pipeline_factory: Builds the engine from the arguments of `objloc_ros.load_pipeline`.
        options: Passed on to `rclpy.lifecycle.LifecycleNode`.
    """

    def __init__(
        self, name: str, table: Table, methods: Sequence[str], pipeline_factory: Callable[..., Pipeline], **options: Any
    ) -> None:
        self._methods, self._pipeline_factory = tuple(methods), pipeline_factory
        self._pipeline: Pipeline | None = None
        super().__init__(name, table, **options)
        parameters = self.parameters.values()
        self.pass_key = tuple(parameters[name] for name in ("backbone", "weights", "device", "short_side"))
        self.outputs.add("overlay", Image)
        self.outputs.add("overlay/compressed", CompressedImage)

    @abc.abstractmethod
    def method_options(self, parameters: Values) -> Mapping[str, Mapping[str, Any]]:
        """The options of each method that these parameters ask for; raises ParameterError where one is impossible."""

    @property
    def pipeline(self) -> Pipeline:
        """The loaded pipeline."""
        if self._pipeline is None:
            raise RuntimeError("no pipeline is loaded")
        return self._pipeline

    def load_engine(self, parameters: Values) -> None:
        """Load backbone and heads, and run them once: the first real frame must not pay for the first run."""
        self.begin(f"loading {parameters['backbone']}")
        pipeline = self._pipeline_factory(
            methods=self._methods,
            backbone=parameters["backbone"],
            device=parameters["device"],
            short_side=parameters["short_side"] or None,
            weights=parameters["weights"] or None,
            **self.more_models(parameters),
        )
        self._configure(pipeline, parameters)
        self.begin(f"warming up on {pipeline.device}")
        self.prepare(pipeline, parameters)
        self._pipeline = pipeline
        self.get_logger().info(f"loaded {parameters['backbone']} on {pipeline.device}")

    def more_models(self, parameters: Values) -> dict[str, Any]:
        """Arguments of `objloc_ros.load_pipeline` besides the backbone's: files of heads, empty for registered ones."""
        return {"head_weights": parameters["head_weights"] or None} if "head_weights" in parameters else {}

    def prepare(self, pipeline: Pipeline, parameters: Values) -> None:
        """Run a freshly loaded pipeline once."""
        pipeline.warm_up(WARM_UP_SIZE)

    def rest(self) -> None:
        """Give back the memory of the device that frames have taken; networks stay until the clean-up."""
        if self._pipeline is not None:
            give_back(self._pipeline.device)

    def release_engine(self) -> None:
        """Drop the pipeline and give its memory back, too."""
        device, self._pipeline = None if self._pipeline is None else self._pipeline.device, None
        if device is not None:
            give_back(device)

    def check_parameters(self, parameters: Values) -> None:
        """Let the methods' options judge for themselves."""
        self.method_options(parameters)

    def apply_parameters(self, parameters: Values) -> None:
        """Hand the options to the pipeline; they hold from the next frame on."""
        if self._pipeline is not None:
            self._configure(self._pipeline, parameters)

    def describe_engine(self) -> dict[str, str]:
        """Device, its memory, and the weights."""
        parameters = self.parameters.values()
        device = "" if self._pipeline is None else str(self._pipeline.device)
        facts = {"device": device, "device_memory_mb": f"{device_memory_mb(device):.0f}"}
        facts["backbone"] = parameters["backbone"]
        facts.update({key: parameters[key] or "registered" for key in parameters if key.endswith("weights")})
        return facts

    def publish_picture(self, draw: Callable[[], RgbImage], header: Header) -> None:
        """Publish the overlay, drawn at most once and only while somebody looks at it."""
        picture = functools.cache(draw)
        self.outputs.publish("overlay", lambda: rgb_to_image(picture(), header))
        self.outputs.publish("overlay/compressed", lambda: rgb_to_compressed(picture(), header))

    def _configure(self, pipeline: Pipeline, parameters: Values) -> None:
        for method, options in self.method_options(parameters).items():
            pipeline.configure(method, **options)
