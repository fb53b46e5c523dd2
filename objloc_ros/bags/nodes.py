"""The nodes to which a bag is played in real time: one process for each camera and row of the report."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray

from objloc_ros.bags.outputs import OVERLAY
from objloc_ros.bags.processes import make_node_command
from objloc_ros.bags.recorder import RecordedTopic
from objloc_ros.bags.settings import BagSettings, MethodRow
from objloc_ros.bags.survey import choose_namespaces
from objloc_ros.engine.config import HEADS, NETWORKS, NODES, WEIGHTS
from objloc_ros.errors import ParameterError
from objloc_ros.nodes.perception import ADAPTERS

COMPRESSED = "/compressed"
"""How topics of compressed images end."""

DIAGNOSTICS = RecordedTopic("/diagnostics", DiagnosticArray)
"""Where nodes publish the accounts of their frames."""


@dataclass(frozen=True)
class BagNode:
    """One node, for one camera and one row of the report.

    Args:
        camera: Topic of its images in the bag.
        played: Topic under which they are played: compressed images end in "/compressed", as the nodes expect.
        namespace: Its namespace.
        row: Its row.
        parameters: Values of its parameters.
    """

    camera: str
    played: str
    namespace: str
    row: MethodRow
    parameters: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Full name."""
        return f"{self.namespace}/{self.row.node}"

    @property
    def module(self) -> str:
        """The Python module that runs it."""
        return f"objloc_ros.nodes.{NODES[self.row.method]}"

    @property
    def command(self) -> list[str]:
        """The command line that runs it."""
        return make_node_command((sys.executable, "-m", self.module), self.namespace, self.parameters, self.remappings)

    @property
    def remappings(self) -> dict[str, str]:
        """Its own name, and that of its camera."""
        return {"__node": self.row.node, "image": self.played.removesuffix(COMPRESSED)}

    def recorded_topics(self, settings: BagSettings) -> list[RecordedTopic]:
        """List the topics to record; the node computes no other outputs."""
        unused = (
            {"overlay"} | (set() if settings.overlay else {OVERLAY}) | (set() if settings.outputs else {"confidence"})
        )
        return [
            RecordedTopic(f"{self.name}/{output.name}", output.msg_type, latched=output.latched)
            for output in ADAPTERS[NODES[self.row.method]].outputs
            if output.name not in unused
        ]


def list_nodes(settings: BagSettings, kinds: Mapping[str, str], cameras: Sequence[str]) -> list[BagNode]:
    """List the nodes for some cameras.

    Args:
        settings: Which methods process the images.
        kinds: Message type of each topic.
        cameras: Topics of images.
    """
    nodes, namespaces = [], choose_namespaces(cameras)
    for camera in cameras:
        compressed = kinds[camera].endswith("/CompressedImage")
        played = camera + (COMPRESSED if compressed and not camera.endswith(COMPRESSED) else "")
        transport = {"image_transport": "compressed" if compressed else "raw", "use_sim_time": True}
        for row in settings.rows:
            parameters = make_parameters(settings, row) | transport
            nodes.append(BagNode(camera, played, namespaces[camera], row, parameters))
    return nodes


def make_parameters(settings: BagSettings, row: MethodRow) -> dict[str, Any]:
    """Make the parameters with which a node predicts what lockstep does.

    Raises:
        ParameterError: A value is out of the node's range, or it has no such parameter.
    """
    config, table = settings.config, ADAPTERS[NODES[row.method]].parameters
    given = {name: getattr(config, name) for name in NETWORKS}
    given |= {name: str(given[name]) for name in WEIGHTS if given[name] is not None}
    given |= {"method": row.method, "templates": config.templates, "ignore": config.ignore}
    given |= asdict(settings.video)
    given |= {"prompts": row.prompts.prompts} if row.prompts is not None else {}
    options = config.all_options(row.method)
    if options.pop("n_masks", settings.video.max_objects) != settings.video.max_objects:
        raise ParameterError("in real time, n_masks is the node's max_objects: leave it out")
    defaults = HEADS[row.method]()
    for name, value in options.items():
        if name not in table and value != getattr(defaults, name):
            raise ParameterError(
                f"the {NODES[row.method]} node has no parameter {name}: only lockstep can set it to {value}"
            )
    chosen = {name: value for name, value in (given | options).items() if name in table and value is not None}
    table.check(chosen)
    return chosen
