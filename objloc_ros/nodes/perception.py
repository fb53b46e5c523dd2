"""The `perception` process: the nodes of several cameras around one engine.

Each node has the name, topics, parameters and life cycle that it would have in a process of its own. What they share is
the camera's subscription and decoded pixels, networks, and backbone passes.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from rclpy.node import Node

from objloc_ros.errors import ParameterError
from objloc_ros.nodes import process
from objloc_ros.nodes.camera import Input
from objloc_ros.nodes.discovery import DiscoveryNode
from objloc_ros.nodes.found import FoundNode
from objloc_ros.nodes.params import Spec, Table
from objloc_ros.nodes.pipeline_node import PipelineNode, load_pipeline
from objloc_ros.nodes.segmentation import SegmentationNode
from objloc_ros.nodes.shared_camera import SharedCamera

if TYPE_CHECKING:
    from objloc_ros.engine.loader import SharedLoader
    from objloc_ros.engine.pipeline import Pipeline

NODES: Mapping[str, Callable[..., PipelineNode]] = {
    "found": FoundNode,
    "discovery": DiscoveryNode,
    "segmentation": SegmentationNode,
}
"""What can run on a camera."""

GENERAL = Table(
    Spec("cameras", ("camera",), "Names of the cameras, which are the namespaces of their nodes."),
    Spec("methods", ("found",), "Nodes of each camera that has no list of its own: found, discovery, segmentation."),
    Spec("max_batch", 8, "Most frames in one forward pass.", minimum=1, maximum=64),
)


def camera_parameters(camera: str, methods: tuple[str, ...]) -> Table:
    """Parameters of `perception` about one camera."""
    return Table(
        Spec(f"{camera}.image", f"/{camera}/image_raw", "Image topic of this camera."),
        Spec(f"{camera}.methods", methods, "Nodes of this camera."),
    )


PARAMETERS = Table(*GENERAL.values(), *camera_parameters("<camera>", ("found",)).values())
"""All of them, with a placeholder for the camera's name."""


class Perception(Node):
    """Lists the cameras; the work is done by their nodes.

    Args:
        options: Passed on to `rclpy.node.Node`.

    Raises:
        ParameterError: A parameter breaks a constraint, or two cameras have one name.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__("perception", **options)
        general = self._declare(GENERAL)
        self.max_batch: int = general["max_batch"]
        self.cameras = tuple(general["cameras"])
        check_names(self.cameras)
        check_methods("methods", general["methods"])
        self._of: dict[str, dict[str, Any]] = {}
        for name in self.cameras:
            table = camera_parameters(name, tuple(general["methods"]))
            self._of[name] = {key.partition(".")[2]: value for key, value in self._declare(table).items()}
            check_methods(f"{name}.methods", self._of[name]["methods"])

    def image(self, camera: str) -> str:
        """Image topic of a camera."""
        return self.resolve_topic_name(self._of[camera]["image"])

    def methods(self, camera: str) -> tuple[str, ...]:
        """Names of a camera's nodes."""
        return tuple(self._of[camera]["methods"])

    def _declare(self, table: Table) -> dict[str, Any]:
        values = {
            spec.name: self.declare_parameter(spec.name, spec.default, spec.descriptor()).value
            for spec in table.values()
        }
        table.check(values)
        return values


def check_names(cameras: tuple[str, ...]) -> None:
    """Raise ParameterError unless these can be the namespaces of different cameras."""
    twice = sorted({name for name in cameras if cameras.count(name) > 1})
    if twice:
        raise ParameterError(
            f"cameras must have different names, which are their namespaces; twice: {', '.join(twice)}"
        )
    for name in cameras:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
            raise ParameterError(f"cameras must be names of letters, digits and _, got {name!r}")
    if not cameras:
        raise ParameterError("cameras must name at least one camera")


def check_methods(parameter: str, methods: tuple[str, ...]) -> None:
    """Raise ParameterError unless these are different nodes."""
    if not methods or len(set(methods)) != len(methods) or not set(methods) <= set(NODES):
        raise ParameterError(f"{parameter} must be different ones of {', '.join(NODES)}; got {list(methods)}")


class CameraGroup:
    """Builds the nodes of one camera.

    Args:
        namespace: Theirs.
        image: Topic of the camera.
        pipeline_factory: Builds their pipelines.
    """

    def __init__(self, namespace: str, image: str, pipeline_factory: Callable[..., Pipeline]) -> None:
        self._options = {
            "namespace": namespace,
            "cli_args": ["--ros-args", "-r", f"image:={image}", "-r", f"image/compressed:={image}/compressed"],
        }
        self._pipeline_factory = pipeline_factory
        self._inputs: dict[str, SharedCamera] = {}

    def nodes(self, methods: tuple[str, ...]) -> list[Node]:
        """The nodes of some methods, and the subscriptions that they share."""
        made = [
            NODES[method](pipeline_factory=self._pipeline_factory, open_camera=self._open_camera, **self._options)
            for method in methods
        ]
        return [*made, *self._inputs.values()]

    def _open_camera(self, node: Any, transport: str, *where: Any) -> Input:
        if transport not in self._inputs:
            self._inputs[transport] = SharedCamera(transport, **self._options)
        return self._inputs[transport].tap(node, transport, *where)


def shared_loader(max_batch: int) -> SharedLoader:
    """What the pipelines share; its imports take seconds and wait until the parameters have been found good."""
    from objloc_ros.engine.loader import SharedLoader

    return SharedLoader(max_batch)


def make_groups(make_loader: Callable[[int], SharedLoader] = shared_loader) -> list[list[Node]]:
    """All nodes of the process: `perception` itself, and those of each camera.

    Args:
        make_loader: Builds what the pipelines share from `max_batch`.
    """
    perception = Perception()
    loader = make_loader(perception.max_batch)
    groups: list[list[Node]] = [[perception]]
    for camera in perception.cameras:
        factory = partial(load_pipeline, loader=loader.client(camera))
        group = CameraGroup(f"/{camera}", perception.image(camera), factory)
        groups.append(group.nodes(perception.methods(camera)))
    return groups


def main() -> int:
    """Run the process; console script `perception`."""
    return process.run_groups(make_groups)


if __name__ == "__main__":
    sys.exit(main())
