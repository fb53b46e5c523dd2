"""The `segmentation` node: a label for every pixel, for prompts that may change between two frames."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray, LabelInfo

from objloc_ros.engine.frame_stats import JUMP_NS
from objloc_ros.engine.heads.segmentation import METHODS
from objloc_ros.io import drawing
from objloc_ros.nodes import params, process
from objloc_ros.nodes.conversions import mask_to_image
from objloc_ros.nodes.encodings import RgbImage
from objloc_ros.nodes.messages import detections_to_msg, label_info_qos, labels_to_msg
from objloc_ros.nodes.params import Spec, Table, Values
from objloc_ros.nodes.pipeline_node import WARM_UP_SIZE, PipelineNode, load_pipeline

if TYPE_CHECKING:
    from objloc_ros.engine.pipeline import Pipeline
    from objloc_ros.engine.prompts import EncodedPrompts


T = TypeVar("T")


class PromptWorker(Generic[T]):
    """A thread that handles the newest request and forgets those that were overtaken.

    Args:
        handle: Called in the thread, one request at a time.
        on_error: Called in the thread with what `handle` raised; the thread goes on.
        name: Thread name.
    """

    def __init__(self, handle: Callable[[T], None], on_error: Callable[[Exception], None], *, name: str) -> None:
        self._handle, self._on_error = handle, on_error
        self._wake = threading.Condition()
        self._request: tuple[T] | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, request: T) -> None:
        """Hand over a request; returns at once."""
        with self._wake:
            self._request = (request,)
            self._wake.notify()

    def stop(self) -> None:
        """Finish the request in work, drop the one that waits, end the thread; safe to call more than once."""
        with self._wake:
            self._stopped = True
            self._wake.notify()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout=30)

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._stopped or self._request is not None)
                if self._stopped or self._request is None:
                    return
                (request,) = self._request
                self._request = None
            try:
                self._handle(request)
            except Exception as error:  # noqa: BLE001 - told by on_error; the next request must find the thread alive
                self._on_error(error)


PARAMETERS = Table(
    *params.BACKBONE,
    params.IDLE_PRIORITY,
    Spec("head_weights", "", "Path of FOUND's head; empty takes the registered one."),
    Spec("clip", "tiny_clip", "CLIP model by its name in the weights registry."),
    Spec("clip_weights", "", "Path of its weights; empty takes the registered ones."),
    Spec("dinoiser_weights", "", "Path of CLIP-DINOiser's head; empty takes the registered one, if there is one."),
    Spec("method", "clip_diy", "Open-vocabulary method.", live=True, choices=tuple(METHODS)),
    Spec(
        "prompts",
        ("red object", "yellow object", "green object", "blue object"),
        "What to look for: 1 to 254 different texts; those that stay keep their ids.",
        live=True,
    ),
    Spec(
        "templates",
        ("a photo of a {}",),
        "Sentences around a prompt, averaged; `imagenet` alone stands for OpenAI's 80.",
        live=True,
    ),
    Spec(
        "background",
        "found",
        "What stays unlabelled: where FOUND sees no object (`found`), where the word background fits best (`prompt`), "
        "or nothing (`none`).",
        live=True,
        choices=("found", "prompt", "none"),
    ),
    Spec("threshold", 0.0, "Least confidence of a label.", live=True, minimum=0.0, maximum=1.0),
    Spec(
        "min_area",
        0.001,
        "Smallest reported region as a fraction of the image.",
        live=True,
        minimum=0.0,
        maximum=1.0,
    ),
)


class Request(NamedTuple):
    """Prompts and templates to encode."""

    prompts: tuple[str, ...]
    templates: tuple[str, ...]

    @classmethod
    def of(cls, parameters: Values) -> Request:
        """What these parameters ask for."""
        return cls(tuple(parameters["prompts"]), tuple(parameters["templates"]))


class Change(NamedTuple):
    """What holds from the next frame on: all parameters, and prompts if they are other ones."""

    parameters: Values
    encoded: EncodedPrompts | None


class SegmentationNode(PipelineNode):
    """Answers images with class ids, confidence and the regions of each prompt.

    Parameters are checked when they are set. A thread of their own encodes the prompts among them; between two frames
    all of a set is taken over, together with the LabelInfo that announces it.

    Args:
        pipeline_factory: Builds the engine from the arguments of `objloc_ros.load_pipeline`.
        options: Passed on to `rclpy.lifecycle.LifecycleNode`.
    """

    def __init__(self, *, pipeline_factory: Callable[..., Pipeline] = load_pipeline, **options: Any) -> None:
        self._lock = threading.Lock()  # over the next three
        self._next: Change | None = None
        self._answering = False
        self._valid_from = Header()
        self._checked: Request | None = None
        self._encoded: Request | None = None
        self._worker: PromptWorker[Values] | None = None
        super().__init__("segmentation", PARAMETERS, tuple(METHODS), pipeline_factory, **options)
        self._settings = self.parameters.values()
        self.outputs.add("detections", Detection2DArray, depth=5)
        self.outputs.add("mask", Image)
        self.outputs.add("confidence", Image)
        # Not one of the lazy outputs: it is said once, for whoever comes.
        self._label_info = self.create_publisher(LabelInfo, "~/label_info", label_info_qos())

    def method_options(self, parameters: Values) -> Mapping[str, Mapping[str, Any]]:
        """All methods get what they have in common, so that each is ready when it is chosen."""
        options = {name: parameters[name] for name in ("background", "threshold", "min_area")}
        for kind in METHODS.values():
            kind(**options)
        return dict.fromkeys(METHODS, options)

    def check_parameters(self, parameters: Values) -> None:
        """Judge the prompts, too, unless they have been found good before: many of them take a second."""
        super().check_parameters(parameters)
        from objloc_ros.engine.prompts import check_prompts

        request = Request.of(parameters)
        if request != self._checked:
            check_prompts(parameters["clip"], *request)
        self._checked = request

    def more_models(self, parameters: Values) -> dict[str, Any]:
        """The CLIP model and the heads."""
        files = {name: parameters[name] or None for name in ("head_weights", "clip_weights", "dinoiser_weights")}
        return {"clip": parameters["clip"], **files}

    def prepare(self, pipeline: Pipeline, parameters: Values) -> None:
        """Encode the first prompts, run the chosen method once, and start the thread for further ones."""
        self._encoded = Request.of(parameters)
        self._next = Change(parameters, pipeline.encode_prompts(*self._encoded))
        self._adopt(pipeline)
        pipeline.warm_up(WARM_UP_SIZE, (parameters["method"],))
        self._worker = PromptWorker(
            lambda wanted: self._encode(pipeline, wanted),
            lambda error: self._voice.failed("encode the prompts", error, trace=True),
            name=f"{self.get_name()}-prompts",
        )

    def release_engine(self) -> None:
        """Let go of the prompts' thread, too."""
        if self._worker is not None:
            self._worker.stop()
        self._worker = None
        super().release_engine()

    def apply_parameters(self, parameters: Values) -> None:
        """Take over a complete set of values as soon as its prompts are encoded; an inactive node remembers it."""
        if self._worker is None:
            self._settings = parameters
        else:
            self._worker.submit(parameters)

    def describe_engine(self) -> dict[str, str]:
        """The CLIP model and the number of prompts in force besides."""
        labels = None if self._pipeline is None else self._pipeline.labels
        return {**super().describe_engine(), "clip": self._settings["clip"], "prompts": str(len(labels or ()))}

    def answer(self, rgb: RgbImage, header: Header) -> None:
        """Run the method and publish what is listened to, all of it with one label set."""
        with self._lock:
            self._answering = True
            self._adopt(self.pipeline)
            self._notice_jumps(self.pipeline, header)
        try:
            self._publish(rgb, header)
        finally:
            with self._lock:
                self._answering = False
                self._valid_from = _just_after(header)
                self._adopt(self.pipeline)

    def _publish(self, rgb: RgbImage, header: Header) -> None:
        method = self._settings["method"]
        found = self.pipeline.run(rgb, (method,))[method]
        self.outputs.publish("mask", lambda: mask_to_image(found.classes_u8(), header))
        self.outputs.publish("confidence", lambda: mask_to_image(found.confidence_u8(), header))
        self.outputs.publish("detections", lambda: detections_to_msg(found.detections, header))
        self.publish_picture(lambda: drawing.label_overlay(rgb, found.classes_u8(), found.labels.names()), header)

    def _encode(self, pipeline: Pipeline, parameters: Values) -> None:
        """Encode prompts in their thread; between two frames a change is taken over at once, in a frame by its end."""
        request, encoded = Request.of(parameters), None
        try:
            if request != self._encoded:
                encoded = pipeline.encode_prompts(*request)
                self._encoded = request
        finally:  # prompts that cannot be encoded keep the other values from nothing
            with self._lock:
                if encoded is None and self._next is not None:
                    encoded = self._next.encoded
                self._next = Change(parameters, encoded)
                if not self._answering:
                    self._adopt(pipeline)

    def _adopt(self, pipeline: Pipeline) -> None:
        """Take the next values over, and announce their labels; the lock is held, no frame is in work."""
        if self._next is None:
            return
        parameters, encoded = self._next
        self._next = None
        self._configure(pipeline, parameters)
        threshold, self._settings = self._settings["threshold"], parameters
        if encoded is not None:
            pipeline.use_prompts(encoded)
            self._warn_of_unknown_words(pipeline)
        if encoded is not None or parameters["threshold"] != threshold:
            self._announce(pipeline)

    def _announce(self, pipeline: Pipeline) -> None:
        if pipeline.labels is not None:
            self._label_info.publish(labels_to_msg(pipeline.labels, self._valid_from, self._settings["threshold"]))

    def _notice_jumps(self, pipeline: Pipeline, header: Header) -> None:
        """Announce the labels anew where the camera's time jumps back, as in a bag that starts over."""
        if _nanoseconds(header) < _nanoseconds(self._valid_from) - JUMP_NS:
            self._valid_from = header
            self._announce(pipeline)

    def _warn_of_unknown_words(self, pipeline: Pipeline) -> None:
        unknown = pipeline.unknown_words()
        if unknown:
            names = ", ".join(repr(word) for word in unknown[:10])
            self._voice.warn("unknown words", f"{self._settings['clip']} has never met {names}: it will guess")


def _nanoseconds(header: Header) -> int:
    return int(header.stamp.sec * 1_000_000_000 + header.stamp.nanosec)


def _just_after(header: Header) -> Header:
    """The earliest stamp after an image's."""
    later = Header(frame_id=header.frame_id)
    later.stamp.sec, later.stamp.nanosec = divmod(_nanoseconds(header) + 1, 1_000_000_000)
    return later


def main() -> int:
    """Run the node; console script `segmentation`."""
    return process.run(SegmentationNode)


if __name__ == "__main__":
    sys.exit(main())
