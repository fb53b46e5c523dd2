"""What a node runs: an adapter, made before the node and driven by it; most hold the methods of one pipeline."""

from __future__ import annotations

import abc
import gc
import sys
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from objloc_ros.engine.config import WEIGHTS, PipelineConfig
from objloc_ros.engine.heads.image_methods import IMAGE_METHODS
from objloc_ros.engine.video_tracker import VideoTracker
from objloc_ros.errors import ParameterError
from objloc_ros.nodes.camera import Camera, Frame, Source, Stamped
from objloc_ros.nodes.conversions import RgbImage, mask_to_image, rgb_to_compressed, rgb_to_image
from objloc_ros.nodes.diagnostics import device_memory_mb
from objloc_ros.nodes.log import ThrottledLogger
from objloc_ros.nodes.messages import detections_to_msg
from objloc_ros.nodes.outputs import Output, Outputs
from objloc_ros.nodes.params import CAMERA, Table, Values, parameters

if TYPE_CHECKING:
    from objloc_ros.engine.loader import Loader
    from objloc_ros.engine.pipeline import Pipeline
    from objloc_ros.engine.results import HeadResult

BACKBONE = (
    *parameters(PipelineConfig, "backbone", "device", "weights", "short_side"),
    *CAMERA,
    *parameters(PipelineConfig, "ignore"),
)
"""Parameters of every node with a pipeline."""

WARM_UP_SIZE = (480, 640)
"""Height and width of the image that the engine sees before the node becomes active."""

OVERLAYS = (Output("overlay", Image), Output("overlay/compressed", CompressedImage))
"""Pictures for people, of every perception node."""

OVERLAY_TOPICS = frozenset(output.name for output in OVERLAYS)


@dataclass(frozen=True)
class Host:
    """What a node offers to its adapter.

    Args:
        name: The node's name.
        outputs: The node's publishers.
        log: Its log.
        report_step: Tells the diagnostics of a step of the start that takes long, such as "warming up".
    """

    name: str
    outputs: Outputs
    log: ThrottledLogger
    report_step: Callable[[str], None]


PipelineFactory = Callable[[PipelineConfig], "Pipeline"]
"""Builds the pipeline of a node."""


def build_pipeline(config: PipelineConfig, loader: Loader | None = None) -> Pipeline:
    """Build a pipeline; its imports take seconds and wait until the parameters have been found good."""
    from objloc_ros.engine import pipeline

    return pipeline.build_pipeline(config, loader)


F = TypeVar("F", bound=Stamped)


class Adapter(abc.ABC, Generic[F]):
    """What a `PerceptionNode` does with the frames of its source.

    Life cycle: `open_source` and `listen` once; `check` and `apply` at any time; `load`, then `process` for each frame,
    then `release`.

    Attributes:
        name: Default name of the node.
        parameters: All parameters of the node.
        outputs: Its topics.
        leads: Whether the node keeps its camera's rate, so that slower ones may follow it, see `Camera`.
    """

    name: ClassVar[str]
    parameters: ClassVar[Table]
    outputs: ClassVar[tuple[Output, ...]]
    leads: ClassVar[bool] = False

    @abc.abstractmethod
    def open_source(self, node: LifecycleNode, values: Values, log: ThrottledLogger) -> Source:
        """Return where a node of its own gets its frames from."""

    @abc.abstractmethod
    def check(self, values: Values) -> None:
        """Raise ParameterError unless this complete set of values, each good alone, can be applied; changes nothing."""

    @abc.abstractmethod
    def apply(self, values: Values) -> None:
        """Take a complete, checked set of values over; it holds from the next frame on."""

    @abc.abstractmethod
    def load(self, values: Values, host: Host) -> None:
        """Get ready for frames."""

    @abc.abstractmethod
    def process(self, frame: F, outputs: Outputs, wanted: frozenset[str]) -> None:
        """Answer a frame and publish what is wanted; called in the worker thread.

        Args:
            frame: The source's. Messages carry its very header.
            outputs: The node's publishers.
            wanted: Names of the outputs that somebody subscribes to.

        Raises:
            InputError: The frame cannot be used.
            FrameDroppedError: It is given up, or the node is no longer active.
        """

    @abc.abstractmethod
    def describe(self, values: Values) -> dict[str, str]:
        """Return facts for the diagnostics."""

    def listen(self, node: LifecycleNode, log: ThrottledLogger) -> None:
        """Subscribe to what else the node takes in; called once, when the node is whole."""

    def reset(self) -> None:
        """Forget the frames so far, because the camera's time jumped back: the next one begins another recording."""

    def free_memory(self) -> None:
        """Drop what frames have left behind; harmless where there were no frames."""

    def release(self) -> None:
        """Drop what was loaded; harmless where nothing is."""

    def pass_key(self, values: Values) -> Hashable:
        """Return what nodes agree on that read the same backbone passes."""
        return ()


class MethodAdapter(Adapter[Frame]):
    """Methods of one pipeline, for the images of a camera.

    Args:
        pipeline_factory: Builds the pipeline.

    Attributes:
        parameters: All parameters of the node, `BACKBONE` among them.
        methods: Methods that the node can run.
    """

    methods: ClassVar[tuple[str, ...]]

    def __init__(self, pipeline_factory: PipelineFactory = build_pipeline) -> None:
        self._pipeline_factory = pipeline_factory
        self._pipeline: Pipeline | None = None
        self._loaded: tuple[str, ...] = ()

    @abc.abstractmethod
    def method_options(self, values: Values) -> Mapping[str, Mapping[str, Any]]:
        """Return the options of each method that these values ask for."""

    def open_source(self, node: LifecycleNode, values: Values, log: ThrottledLogger) -> Camera:
        """Return the camera of the chosen transport."""
        return Camera(node, values["image_transport"], log)

    def check(self, values: Values) -> None:
        """Raise ParameterError unless this complete set of values, each good alone, can be applied; changes nothing."""
        methods = self.choose_methods(values)
        PipelineConfig.from_parameters(methods, values)
        if self._pipeline is not None and methods != self._loaded:
            raise ParameterError(
                f"{values['method']} needs another network than the loaded one: clean the node up, set method, and "
                "configure it again"
            )

    def apply(self, values: Values) -> None:
        """Take a complete, checked set of values over; it holds from the next frame on."""
        if self._pipeline is not None:
            self.configure(self._pipeline, values)

    def choose_methods(self, values: Values) -> tuple[str, ...]:
        """Return the heads to load: of methods with a network of their own only the chosen one, else all others."""
        chosen: str = values.get("method", "")
        if chosen in IMAGE_METHODS:
            return (chosen,)
        return tuple(method for method in self.methods if method not in IMAGE_METHODS)

    def load(self, values: Values, host: Host) -> None:
        """Load the networks, and run them once: the first real frame must not pay for the first run."""
        config = PipelineConfig.from_parameters(self.choose_methods(values), values)
        self._loaded = config.methods
        network = config.name_network(config.methods[0])
        host.report_step(f"loading {network}")
        pipeline = self._pipeline_factory(config)
        self.configure(pipeline, values)
        host.report_step(f"warming up on {pipeline.device}")
        self.warm_up(pipeline, values, host)
        self._pipeline = pipeline
        host.log.info(f"loaded {network} on {pipeline.device}")

    def warm_up(self, pipeline: Pipeline, values: Values, host: Host) -> None:
        """Run a freshly loaded pipeline once."""
        pipeline.warm_up(WARM_UP_SIZE)

    def configure(self, pipeline: Pipeline, values: Values) -> None:
        """Hand the methods' options, and what is to be ignored, to a pipeline."""
        pipeline.ignore = values["ignore"]
        for method, options in self.method_options(values).items():
            pipeline.configure(method, **options)

    def free_memory(self) -> None:
        """Drop what frames have left behind on the device; networks stay. Harmless where there were no frames."""
        if self._pipeline is not None:
            free_device_memory(self._pipeline.device)

    def release(self) -> None:
        """Drop the pipeline and its memory, too; harmless where nothing is loaded."""
        if self._pipeline is not None:
            device, self._pipeline = self._pipeline.device, None
            free_device_memory(device)

    def describe(self, values: Values) -> dict[str, str]:
        """Return facts for the diagnostics: device, its memory, and the weights."""
        device = "" if self._pipeline is None else self._pipeline.device
        facts = {"device": device, "device_memory_mb": f"{device_memory_mb(device):.0f}"}
        methods = self.choose_methods(values)
        facts["backbone"] = PipelineConfig.from_parameters(methods, values).name_network(methods[0])
        facts.update({name: values[name] or "registered" for name in WEIGHTS if name in values})
        return facts

    def pass_key(self, values: Values) -> Hashable:
        """Return what nodes agree on that read the same backbone passes; one that reads none is alone with its own."""
        own = values.get("method") if values.get("method") in IMAGE_METHODS else ""
        return own, *(values[name] for name in ("backbone", "weights", "device", "short_side"))

    @property
    def pipeline(self) -> Pipeline:
        """The loaded pipeline."""
        if self._pipeline is None:
            raise RuntimeError("no pipeline is loaded")
        return self._pipeline


class VideoAdapter(MethodAdapter):
    """Methods, one at a time, that see the frames of a camera as a video, whose objects may have ids that last.

    Args:
        pipeline_factory: Builds the pipeline.
    """

    def __init__(self, pipeline_factory: PipelineFactory = build_pipeline) -> None:
        super().__init__(pipeline_factory)
        self._video: VideoTracker | None = None

    def follow(self, method: str) -> VideoTracker:
        """Return what runs a method on the next frame; one that takes another's place goes on with its ids."""
        if self._video is None:
            self._video = VideoTracker(self.pipeline, (method,))
        self._video.use((method,))
        return self._video

    def reset(self) -> None:
        """Forget the video: the next frame begins another one."""
        if self._video is not None:
            self._video.reset()

    def free_memory(self) -> None:
        """Forget the video, whose features are on the device."""
        self.reset()
        super().free_memory()

    def release(self) -> None:
        """Drop the video, too, which holds the pipeline."""
        self._video = None
        super().release()


def publish_result(result: HeadResult, rgb: RgbImage, header: Header, outputs: Outputs, wanted: frozenset[str]) -> None:
    """Publish what is wanted of a result: detections, maps under their own names, and the picture with all of it.

    Args:
        result: What a method found.
        rgb: The image that it is of, uint8 [H, W, 3].
        header: The image's, that of every message.
        outputs: The node's publishers.
        wanted: Names of the outputs that somebody subscribes to; nothing else is computed.

    Raises:
        FrameDroppedError: The node is no longer active.
    """
    if "detections" in wanted:
        outputs.publish("detections", detections_to_msg(result.detections, header))
    maps = result.maps()
    for name in maps:
        if name in wanted:
            outputs.publish(name, mask_to_image(maps[name], header))
    if not wanted & OVERLAY_TOPICS:
        return
    picture = result.draw(rgb)
    if "overlay" in wanted:
        outputs.publish("overlay", rgb_to_image(picture, header))
    if "overlay/compressed" in wanted:
        outputs.publish("overlay/compressed", rgb_to_compressed(picture, header))


def free_device_memory(device: str) -> None:
    """Return a GPU's free memory, which PyTorch would keep for itself."""
    if device.startswith("cuda") and (torch := sys.modules.get("torch")):
        gc.collect()
        torch.cuda.empty_cache()
