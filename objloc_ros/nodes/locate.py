"""The `locate` node: where the objects of any node are in metres, from the depth image that belongs to theirs."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from geometry_msgs.msg import Quaternion
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleNode
from rclpy.node import Node
from rclpy.time import Time
from sensor_msgs.msg import PointCloud2
from std_msgs.msg import Header
from vision_msgs.msg import Detection3DArray

from objloc_ros.engine.latest_slot import FrameDroppedError
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.methods.location import LocationOptions, Locations, locate
from objloc_ros.nodes import messages_3d, process
from objloc_ros.nodes.adapter import Adapter, Host
from objloc_ros.nodes.conversions import ImageMessageError
from objloc_ros.nodes.depth import decode_depth, make_camera
from objloc_ros.nodes.log import ThrottledLogger
from objloc_ros.nodes.messages_3d import Object3D
from objloc_ros.nodes.object_regions import Region, check_frame_ids, find_regions
from objloc_ros.nodes.outputs import Output, Outputs
from objloc_ros.nodes.pairing import Located, PairedInputs
from objloc_ros.nodes.params import AUTOSTART, MAX_AGE, Table, Values, parameters
from objloc_ros.nodes.perception_node import PerceptionNode
from objloc_ros.options import Option, describe

INPUTS = {"both": ("detections", "mask"), "detections": ("detections",), "mask": ("mask",)}
"""Topics of results that are paired, for each choice of `inputs`."""

PARAMETERS = Table(
    AUTOSTART,
    Option(
        "inputs",
        "both",
        "What says where objects are: `detections` and `mask` of one image, or one of them alone.",
        choices=tuple(INPUTS),
    ),
    Option(
        "depth_transport",
        "raw",
        "Subscribe to `depth` or to `depth/compressedDepth`.",
        choices=("raw", "compressedDepth"),
    ),
    Option("rectified", False, "The images are rectified: the camera's P counts, not K and D.", live=True),
    Option("target_frame", "", "Frame of the results, z up, through tf2; empty keeps the depth image's."),
    Option(
        "slop_ms",
        10.0,
        "Largest distance between the stamps of results and depth image, in milliseconds; the nearest counts.",
        live=True,
        low=0,
        high=1000,
    ),
    Option(
        "max_wait_ms",
        500.0,
        "Results wait this long for what belongs to them, in milliseconds.",
        live=True,
        low=0,
        high=10_000,
    ),
    Option("queue_size", 60, "Most depth images, and most results, that wait for each other.", low=1, high=300),
    replace(MAX_AGE, default=2000.0),
    *parameters(LocationOptions),
)

MARKERS = () if messages_3d.MarkerArray is None else (Output("markers", messages_3d.MarkerArray, depth=5),)


class TfFrames:
    """Frames of tf2, whose listener runs on the node's executor.

    Args:
        node: Subscribes to /tf and /tf_static.
    """

    def __init__(self, node: Node) -> None:
        import tf2_ros

        self._buffer = tf2_ros.Buffer()
        self._listener = tf2_ros.TransformListener(self._buffer, node)
        self._error = tf2_ros.TransformException

    @classmethod
    def check(cls) -> None:
        """Raise ParameterError where tf2_ros is missing."""
        try:
            import tf2_ros  # noqa: F401 - only whether it is there
        except ImportError as error:
            raise ParameterError(
                f"target_frame needs tf2_ros, which does not import here ({error}): leave target_frame empty for "
                "results in the depth image's frame"
            ) from error

    def find(self, target: str, header: Header, wait_s: float) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Return the pose of a header's frame, at its stamp, in another: rotation [3, 3] and translation [3].

        Called in the worker, while the executor goes on listening.

        Raises:
            FrameDroppedError: Nobody has said within `wait_s` seconds.
        """
        stamp, timeout = Time.from_msg(header.stamp), Duration(nanoseconds=int(1e9 * wait_s))
        try:
            pose = self._buffer.lookup_transform(target, header.frame_id, stamp, timeout).transform
        except self._error as error:
            raise FrameDroppedError(
                "no_transform", f"no transform from {header.frame_id!r} to {target!r}: {error}"
            ) from error
        shift = pose.translation
        return to_matrix(pose.rotation), np.array([shift.x, shift.y, shift.z])


def to_matrix(q: Quaternion) -> npt.NDArray[np.float64]:
    """Return a quaternion's rotation, float64 [3, 3]."""
    x, y, z, w = np.array([q.x, q.y, q.z, q.w]) / np.linalg.norm([q.x, q.y, q.z, q.w])
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


class LocateAdapter(Adapter[Located]):
    """Publishes boxes, points and markers of the objects that any node found, in metres.

    Args:
        frames: What knows where frames are.
    """

    name = "locate"
    parameters = PARAMETERS
    outputs = (Output("detections", Detection3DArray, depth=5), Output("points", PointCloud2, depth=5), *MARKERS)

    def __init__(self, frames: type[TfFrames] = TfFrames) -> None:
        self._frames_type = frames
        self._frames: TfFrames | None = None
        self._inputs: PairedInputs | None = None
        self._log: ThrottledLogger | None = None
        self._values: Values = {}
        self._options = LocationOptions()
        self._counts: Counter[str] = Counter()
        self._latest_reason = ""

    def open_source(self, node: LifecycleNode, values: Values, log: ThrottledLogger) -> PairedInputs:
        """Return the subscriptions to results, depth and camera."""
        self._log = log
        if values["target_frame"]:
            self._frames = self._frames_type(node)
        if not MARKERS:
            log.info("visualization_msgs is not installed: there are no markers")
        self._inputs = PairedInputs(
            node, INPUTS[values["inputs"]], values["depth_transport"], values["queue_size"], log
        )
        self.apply(values)
        return self._inputs

    def check(self, values: Values) -> None:
        """Judge the options of the method as a whole, and whether there is a tf2 where one is needed."""
        LocationOptions(**{name: values[name] for name in describe(LocationOptions)})
        if values["target_frame"]:
            self._frames_type.check()

    def apply(self, values: Values) -> None:
        """Take a set over."""
        self._options = LocationOptions(**{name: values[name] for name in describe(LocationOptions)})
        self._values = values
        if self._inputs is not None:
            self._inputs.pairing.slop_ns = int(1e6 * values["slop_ms"])
            self._inputs.pairing.max_wait_s = values["max_wait_ms"] / 1e3

    def load(self, values: Values, host: Host) -> None:
        """There is nothing to load."""

    def process(self, frame: Located, outputs: Outputs, wanted: frozenset[str]) -> None:
        """Find the objects in the depth image and publish what is wanted."""
        header, objects = self._locate(frame, self._values, self._options)
        if "detections" in wanted:
            outputs.publish("detections", messages_3d.objects_to_detections(objects, header))
        if "points" in wanted:
            outputs.publish("points", messages_3d.objects_to_cloud(objects, header))
        if "markers" in wanted:
            outputs.publish("markers", messages_3d.objects_to_markers(objects, header))

    def describe(self, values: Values) -> dict[str, str]:
        """Return how many objects have got a place, and why the latest one has not that did not."""
        counts = {name: str(self._counts[name]) for name in ("located", "unlocated")}
        return {"target_frame": values["target_frame"], **counts, "unlocated_reason": self._latest_reason}

    def _locate(self, frame: Located, values: Values, options: LocationOptions) -> tuple[Header, list[Object3D]]:
        """Return the header of the results, and the objects."""
        check_frame_ids(frame)
        depth = decode_depth(frame.depth)
        camera = make_camera(frame.info, rectified=values["rectified"])
        size = depth.shape[0], depth.shape[1]
        regions = list(find_regions(frame, (camera.height, camera.width), size, options.min_points))
        try:
            camera = camera.scaled(*size)
        except InputError as error:
            raise ImageMessageError("size", str(error)) from error
        header, rotation, translation = frame.header, None, None
        if self._frames is not None and values["target_frame"]:
            rotation, translation = self._frames.find(values["target_frame"], header, values["max_wait_ms"] / 1e3)
            header = Header(stamp=header.stamp, frame_id=values["target_frame"])
        pixels = [region.pixels for region in regions]
        found = locate(depth, pixels, camera, options, rotation=rotation, translation=translation)
        self._note(found)
        return header, name_objects(found, regions)

    def _note(self, found: Locations) -> None:
        self._counts["located"] += len(found.indices)
        self._counts["unlocated"] += len(found.unlocated)
        if found.unlocated:
            self._latest_reason = found.unlocated[-1][1]
            if self._log is not None:
                self._log.warn("unlocated", f"an object has no place: {self._latest_reason}")


def name_objects(found: Locations, regions: list[Region]) -> list[Object3D]:
    """Give what was located the names of its regions."""
    columns = (found.indices, found.centers, found.sizes, found.rotations, found.points)
    named = [(regions[index], *rest) for index, *rest in zip(*columns, strict=True)]
    return [Object3D(region.id, region.label, region.score, *rest) for region, *rest in named]


def main() -> int:
    """Run the node; console script `locate`."""
    return process.run(lambda: PerceptionNode(LocateAdapter()))


if __name__ == "__main__":
    sys.exit(main())
