"""The `segmentation` node: a label for every pixel, for prompts that may change between two frames."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray, LabelInfo

from objloc_ros.engine.config import PipelineConfig
from objloc_ros.errors import ObjlocError
from objloc_ros.methods.options import SEGMENTATION, SegmentationOptions
from objloc_ros.nodes import process
from objloc_ros.nodes.adapter import (
    BACKBONE,
    OVERLAYS,
    WARM_UP_SIZE,
    Host,
    MethodAdapter,
    PipelineFactory,
    build_pipeline,
    publish_result,
)
from objloc_ros.nodes.camera import Frame
from objloc_ros.nodes.exemplars import EXEMPLARS, Exemplars, Shown
from objloc_ros.nodes.log import ThrottledLogger
from objloc_ros.nodes.messages import labels_to_msg, stamp_ns, time_from_ns
from objloc_ros.nodes.outputs import Output, Outputs
from objloc_ros.nodes.params import IDLE_PRIORITY, Table, Values, parameters
from objloc_ros.nodes.perception_node import PerceptionNode
from objloc_ros.nodes.prompt_switch import Change, Moment, PromptSwitch, Settings
from objloc_ros.nodes.prompt_topic import PromptTopic
from objloc_ros.options import Option, describe

if TYPE_CHECKING:
    from objloc_ros.engine.pipeline import Pipeline
    from objloc_ros.engine.prompts import EncodedPrompts

PROMPTS = ("red object", "yellow object", "green object", "blue object")
"""What the node looks for until it is told otherwise: the embedded model knows these."""

PARAMETERS = Table(
    *BACKBONE,
    IDLE_PRIORITY,
    *parameters(PipelineConfig, "head_weights", "clip", "clip_weights", "dinoiser_weights"),
    Option("method", "clip_diy", "Open-vocabulary method.", live=True, choices=tuple(SEGMENTATION)),
    *parameters(PipelineConfig, "prompts", "templates", prompts=PROMPTS),
    EXEMPLARS,
    *parameters(SegmentationOptions),
)


class SegmentationAdapter(MethodAdapter):
    """Publishes class ids, confidence and the regions of each prompt, and announces the prompts.

    Parameters are checked when they are set; prompts may also be said, and exemplars shown, on topics. A `PromptSwitch`
    encodes the prompts and learns the exemplars in a thread of its own; between two frames all of a set is taken over,
    together with the LabelInfo that announces it.

    Args:
        pipeline_factory: Builds the pipeline.
    """

    name = "segmentation"
    parameters = PARAMETERS
    outputs = (
        Output("detections", Detection2DArray, depth=5),
        Output("mask", Image),
        Output("confidence", Image),
        Output("label_info", LabelInfo, latched=True),
        *OVERLAYS,
    )
    methods = tuple(SEGMENTATION)

    def __init__(self, pipeline_factory: PipelineFactory = build_pipeline) -> None:
        super().__init__(pipeline_factory)
        self._switch: PromptSwitch | None = None
        self._valid_from = Moment()
        self._exemplars = Exemplars()

    def listen(self, node: LifecycleNode, log: ThrottledLogger) -> None:
        """Take prompts and exemplars from topics."""
        PromptTopic(node, log)
        self._exemplars.listen(node, log)

    def method_options(self, values: Values) -> Mapping[str, Mapping[str, Any]]:
        """Return what all methods have in common for each of them, so that each is ready when it is chosen."""
        options = {name: values[name] for name in describe(SegmentationOptions)}
        return dict.fromkeys(SEGMENTATION, options)

    def check(self, values: Values) -> None:
        """Judge the networks, the prompts and the names of exemplars."""
        super().check(values)
        _check_prompts(values["clip"], values["clip_weights"], tuple(values["prompts"]), tuple(values["templates"]))
        self._exemplars.check(values["exemplars"], values["prompts"])

    def apply(self, values: Values) -> None:
        """Take a set over as soon as its prompts are encoded and its exemplars are learned."""
        settings = self._take_over(values)
        if self._switch is not None:
            self._switch.request(settings)

    def warm_up(self, pipeline: Pipeline, values: Values, host: Host) -> None:
        """Bring the first prompts into force, run the chosen method once, and get ready for further prompts."""
        settings = self._take_over(values)
        encoded = _encode(pipeline, values["prompts"], values["templates"], settings["shown"])
        self._adopt(pipeline, host, Change(settings, settings, encoded, self._valid_from))
        pipeline.warm_up(WARM_UP_SIZE, (values["method"],))
        self._switch = PromptSwitch(
            settings,
            encode=functools.partial(_encode, pipeline),
            adopt=functools.partial(self._adopt, pipeline, host),
            on_error=functools.partial(_tell, host),
            name=f"{host.name}-prompts",
            valid_from=self._valid_from,
        )

    def process(self, frame: Frame, outputs: Outputs, wanted: frozenset[str]) -> None:
        """Run the chosen method and publish what is wanted, all of it with one label set."""
        if self._switch is None:
            raise RuntimeError("no prompts are encoded")
        rgb, header = frame.rgb(), frame.header
        self._exemplars.newest = rgb
        with self._switch.frame(Moment(stamp_ns(header), header.frame_id)) as settings:
            method = settings["method"]
            publish_result(self.pipeline.run(rgb, (method,), key=frame)[method], rgb, header, outputs, wanted)

    def reset(self) -> None:
        """Announce the labels anew with the next frame, as in a bag that starts over."""
        if self._switch is not None:
            self._switch.restart()

    def release(self) -> None:
        """End the prompts' thread, too."""
        if self._switch is not None:
            self._switch.stop()
            self._valid_from, self._switch = self._switch.valid_from, None
        self._exemplars.newest = None
        super().release()

    def describe(self, values: Values) -> dict[str, str]:
        """Return the CLIP model and the number of prompts in force besides."""
        labels = None if self._pipeline is None else self._pipeline.labels
        return {**super().describe(values), "clip": values["clip"], "prompts": str(len(labels or ()))}

    def _take_over(self, values: Values) -> Settings:
        """Rename or forget exemplars, and return the settings that result."""
        return {**values, "shown": self._exemplars.apply(values["exemplars"])}

    def _adopt(self, pipeline: Pipeline, host: Host, change: Change) -> None:
        """Bring a change into force, and announce its labels; no frame is in work."""
        settings, threshold = change.settings, change.settings["threshold"]
        self.configure(pipeline, settings)
        if change.encoded is not None:
            pipeline.use_prompts(change.encoded)
            unknown = pipeline.unknown_words()
            if unknown:
                names = ", ".join(repr(word) for word in unknown[:10])
                from objloc_ros.backbones.clip import find_tower_spec

                hint = find_tower_spec(settings["clip"]).unknown
                host.log.warn("unknown words", f"{settings['clip']} has never met {names}: {hint}")
        is_news = change.encoded is not None or change.restarted or threshold != change.previous["threshold"]
        if is_news and pipeline.labels is not None:
            moment = change.valid_from
            header = Header(stamp=time_from_ns(moment.stamp_ns), frame_id=moment.frame_id)
            host.outputs.announce("label_info", labels_to_msg(pipeline.labels, header, threshold))


def _tell(host: Host, error: Exception) -> None:
    host.log.error("encode the prompts", error, trace=not isinstance(error, ObjlocError))


def _encode(
    pipeline: Pipeline, prompts: Sequence[str], templates: Sequence[str], shown: Sequence[tuple[str, Shown]]
) -> EncodedPrompts:
    return pipeline.encode_prompts(prompts, templates, {name: region.learn(pipeline) for name, region in shown})


@functools.lru_cache(maxsize=32)
def _check_prompts(clip: str, weights: str, prompts: tuple[str, ...], templates: tuple[str, ...]) -> None:
    """Raise ParameterError unless these prompts are good; those found good are known: many of them take a second."""
    from objloc_ros.engine.prompts import check_prompts

    check_prompts(clip, prompts, templates, path=weights or None)


def main() -> int:
    """Run the node; console script `segmentation`."""
    return process.run(lambda: PerceptionNode(SegmentationAdapter()))


if __name__ == "__main__":
    sys.exit(main())
