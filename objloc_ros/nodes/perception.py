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
from objloc_ros.nodes import METHOD_NODES, process
from objloc_ros.nodes.adapter import MethodAdapter, PipelineFactory, build_pipeline
from objloc_ros.nodes.camera import Camera
from objloc_ros.nodes.discovery import DiscoveryAdapter
from objloc_ros.nodes.found import FoundAdapter
from objloc_ros.nodes.log import ThrottledLogger
from objloc_ros.nodes.params import Table, to_descriptor
from objloc_ros.nodes.perception_node import PerceptionNode
from objloc_ros.nodes.segmentation import SegmentationAdapter
from objloc_ros.options import Option

if TYPE_CHECKING:
    from objloc_ros.engine.loader import SharedLoader

ADAPTERS: Mapping[str, type[MethodAdapter]] = dict(
    zip(METHOD_NODES, (FoundAdapter, DiscoveryAdapter, SegmentationAdapter), strict=True)
)
"""What can run on a camera, by the name of its node."""

GENERAL = Table(
    Option("cameras", ("camera",), "Names of the cameras, which are the namespaces of their nodes."),
    Option("methods", ("found",), "Nodes of each camera that has no list of its own: found, discovery, segmentation."),
    Option("max_batch", 8, "Most frames in one forward pass.", low=1, high=64),
)


def make_camera_table(camera: str, methods: tuple[str, ...]) -> Table:
    """Return the parameters of `perception` about one camera."""
    return Table(
        Option(f"{camera}.image", f"/{camera}/image_raw", "Image topic of this camera."),
        Option(f"{camera}.methods", methods, "Nodes of this camera."),
    )


PARAMETERS = Table(*GENERAL.values(), *make_camera_table("<camera>", ("found",)).values())
"""All of them, with a placeholder for the camera's name."""


class Perception(Node):
    """Holds the parameters of the process: which cameras there are, and which nodes each has.

    Args:
        options: Passed on to `rclpy.node.Node`.

    Attributes:
        cameras: Names of the cameras.
        max_batch: Most frames in one forward pass.

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
        self._camera_values: dict[str, dict[str, Any]] = {}
        for name in self.cameras:
            table = make_camera_table(name, tuple(general["methods"]))
            self._camera_values[name] = {key.partition(".")[2]: value for key, value in self._declare(table).items()}
            check_methods(f"{name}.methods", self._camera_values[name]["methods"])

    def resolve_image(self, camera: str) -> str:
        """Return the image topic of a camera."""
        return self.resolve_topic_name(self._camera_values[camera]["image"])

    def list_methods(self, camera: str) -> tuple[str, ...]:
        """Return the names of a camera's nodes."""
        return tuple(self._camera_values[camera]["methods"])

    def _declare(self, table: Table) -> dict[str, Any]:
        values = {
            option.name: self.declare_parameter(option.name, option.default, to_descriptor(option)).value
            for option in table.values()
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
    if not methods or len(set(methods)) != len(methods) or not set(methods) <= set(METHOD_NODES):
        raise ParameterError(f"{parameter} must be different ones of {', '.join(METHOD_NODES)}; got {list(methods)}")


class CameraGroup:
    """Builds the nodes of one camera.

    Args:
        namespace: The namespace of the nodes.
        image: Topic of the camera.
        pipeline_factory: Builds the pipeline of each node.
    """

    def __init__(self, namespace: str, image: str, pipeline_factory: PipelineFactory) -> None:
        self._options: dict[str, Any] = {
            "namespace": namespace,
            "cli_args": ["--ros-args", "-r", f"image:={image}", "-r", f"image/compressed:={image}/compressed"],
        }
        self._pipeline_factory = pipeline_factory
        self._cameras: dict[str, Camera] = {}

    def make_nodes(self, methods: tuple[str, ...]) -> list[Node]:
        """Make the nodes of some methods, and those that hold the subscriptions that they share."""
        nodes = [
            PerceptionNode(ADAPTERS[method](self._pipeline_factory), find_camera=self._find_camera, **self._options)
            for method in methods
        ]
        return [*nodes, *(camera.node for camera in self._cameras.values())]

    def _find_camera(self, transport: str) -> Camera:
        """Return the camera of a transport; its node is named `camera_raw` or `camera_compressed`."""
        if transport not in self._cameras:
            node = Node(f"camera_{transport}", **self._options)
            self._cameras[transport] = Camera(node, transport, ThrottledLogger(node.get_logger()))
        return self._cameras[transport]


def make_shared_loader(max_batch: int) -> SharedLoader:
    """Make what the pipelines share; its imports take seconds and wait until the parameters have been found good."""
    from objloc_ros.engine.loader import SharedLoader

    return SharedLoader(max_batch)


def make_groups(make_loader: Callable[[int], SharedLoader] = make_shared_loader) -> list[list[Node]]:
    """Make all nodes of the process: `perception` itself, and those of each camera.

    Args:
        make_loader: Builds what the pipelines share from `max_batch`.
    """
    perception = Perception()
    loader = make_loader(perception.max_batch)
    groups: list[list[Node]] = [[perception]]
    for camera in perception.cameras:
        factory = partial(build_pipeline, loader=loader.make_client(camera))
        group = CameraGroup(f"/{camera}", perception.resolve_image(camera), factory)
        groups.append(group.make_nodes(perception.list_methods(camera)))
    return groups


def main() -> int:
    """Run the process; console script `perception`."""
    return process.run_groups(make_groups)


if __name__ == "__main__":
    sys.exit(main())
