"""The nodes that answer in real time: one process for each camera and row of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray

from objloc_ros.bags.outputs import OVERLAY
from objloc_ros.bags.recorder import RecordedTopic
from objloc_ros.bags.settings import BagSettings, Run
from objloc_ros.bags.survey import choose_namespaces
from objloc_ros.engine.config import HEADS, NETWORKS, WEIGHTS
from objloc_ros.errors import ParameterError
from objloc_ros.nodes.perception import ADAPTERS

COMPRESSED = "/compressed"


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

    def taps(self, wanted: BagSettings) -> list[RecordedTopic]:
        """What to record of it; it computes nothing else."""
        left_out = (
            {"overlay"} | (set() if wanted.overlay else {OVERLAY}) | (set() if wanted.outputs else {"confidence"})
        )
        return [
            RecordedTopic(f"{self.name}/{output.name}", output.msg_type, latched=output.latched)
            for output in ADAPTERS[kind_of(self.run)].outputs
            if output.name not in left_out
        ]


DIAGNOSTICS = RecordedTopic("/diagnostics", DiagnosticArray)
"""Where nodes give account of their frames."""


def kind_of(run: Run) -> str:
    """Return the kind of node that answers with a row's method."""
    return next(kind for kind, adapter in ADAPTERS.items() if run.method in adapter.methods)


def nodes_of(wanted: BagSettings, kinds: Mapping[str, str], cameras: Sequence[str]) -> list[BagNode]:
    """All nodes for some cameras.

    Args:
        wanted: What is to be done.
        kinds: Message type of each topic.
        cameras: Topics of images.
    """
    found, spaces = [], choose_namespaces(cameras)
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
    config, table = wanted.config, ADAPTERS[kind_of(run)].parameters
    given = {name: getattr(config, name) for name in NETWORKS}
    given |= {name: str(given[name]) for name in WEIGHTS if given[name] is not None}
    given |= {"method": run.method, "templates": config.templates}
    given |= asdict(wanted.follow)
    given |= {"prompts": run.prompts.prompts} if run.prompts is not None else {}
    options = config.all_options(run.method)
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
