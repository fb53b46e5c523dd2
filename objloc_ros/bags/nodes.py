"""The nodes that answer in real time: one process for each camera and row of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import CompressedImage, Image
from vision_msgs.msg import Detection2DArray, LabelInfo

from objloc_ros.bags.outputs import OVERLAY
from objloc_ros.bags.recorder import Tap
from objloc_ros.bags.settings import BagSettings, Run
from objloc_ros.bags.survey import namespaces
from objloc_ros.engine.heads.discovery import METHODS as DISCOVERY
from objloc_ros.engine.heads.segmentation import METHODS as SEGMENTATION
from objloc_ros.engine.loader import HEADS
from objloc_ros.errors import ParameterError
from objloc_ros.nodes.parameter_docs import tables

COMPRESSED = "/compressed"

OUTPUTS: dict[str, dict[str, type]] = {
    "found": {"detections": Detection2DArray, "mask": Image, "confidence": Image},
    "discovery": {"detections": Detection2DArray, "instance_mask": Image},
    "segmentation": {"detections": Detection2DArray, "mask": Image, "confidence": Image, "label_info": LabelInfo},
}
"""What each kind of node says."""


@dataclass(frozen=True)
class BagNode:
    """One node.

    Args:
        camera: Topic of its images in the bag.
        played: The same as it is played: compressed images end in "/compressed", as the nodes expect them.
        space: Its namespace.
        run: Its row.
        parameters: Those that are not the node's defaults, or might not be.
    """

    camera: str
    played: str
    space: str
    run: Run
    parameters: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Full name."""
        return f"{self.space}/{self.run.node}"

    @property
    def module(self) -> str:
        """The Python module that runs it."""
        return f"objloc_ros.nodes.{kind_of(self.run)}"

    @property
    def remappings(self) -> dict[str, str]:
        """Its own name, and that of its camera."""
        return {"__node": self.run.node, "image": self.played.removesuffix(COMPRESSED)}

    def taps(self, wanted: BagSettings) -> list[Tap]:
        """What to record of it; it computes nothing else."""
        said = {
            name: kind for name, kind in OUTPUTS[kind_of(self.run)].items() if wanted.outputs or name != "confidence"
        }
        said |= {OVERLAY: CompressedImage} if wanted.overlay else {}
        return [Tap(f"{self.name}/{name}", kind, latched=kind is LabelInfo) for name, kind in said.items()]


DIAGNOSTICS = Tap("/diagnostics", DiagnosticArray)
"""Where nodes give account of their frames."""


def kind_of(run: Run) -> str:
    """The kind of node that gives a row's answers."""
    return "discovery" if run.method in DISCOVERY else "segmentation" if run.method in SEGMENTATION else run.method


def nodes_of(wanted: BagSettings, kinds: Mapping[str, str], cameras: Sequence[str]) -> list[BagNode]:
    """All nodes for some cameras.

    Args:
        wanted: What is to be done.
        kinds: Message type of each topic.
        cameras: Topics of images.
    """
    found, spaces = [], namespaces(cameras)
    for camera in cameras:
        compressed = kinds[camera].endswith("/CompressedImage")
        played = camera + (COMPRESSED if compressed and not camera.endswith(COMPRESSED) else "")
        more = {"image_transport": "compressed" if compressed else "raw", "use_sim_time": True}
        for run in wanted.runs:
            found.append(BagNode(camera, played, spaces[camera], run, parameters_of(wanted, run) | more))
    return found


def parameters_of(wanted: BagSettings, run: Run) -> dict[str, Any]:
    """The parameters that make a node answer as lockstep does.

    Raises:
        ParameterError: A value is out of the node's range, or it has no such parameter.
    """
    model, table = wanted.model, tables()[kind_of(run)]
    given: dict[str, Any] = {name: getattr(model, name) for name in ("backbone", "device", "short_side", "clip")}
    files = ("weights", "head_weights", "clip_weights", "dinoiser_weights")
    given |= {name: str(path) for name in files if (path := getattr(model, name)) is not None}
    given |= {"method": run.method, "templates": model.templates}
    given |= {name: getattr(wanted.follow, name) for name in ("temporal", "max_objects", "min_score")}
    given |= {"prompts": run.prompts.prompts} if run.prompts is not None else {}
    options = model.all_options(run.method)
    if options.pop("n_masks", wanted.follow.max_objects) != wanted.follow.max_objects:
        raise ParameterError("in real time, n_masks is the node's max_objects: leave it out")
    defaults = HEADS[run.method]()
    for name, value in options.items():
        if name not in table and value != getattr(defaults, name):
            raise ParameterError(
                f"the {kind_of(run)} node has no parameter {name}: only lockstep can set it to {value}"
            )
    chosen = {name: value for name, value in (given | options).items() if name in table and value is not None}
    table.check(chosen)
    return chosen
