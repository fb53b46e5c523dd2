"""What belongs together: results, the depth image of their stamp, and the camera that both are of.

A result waits a bounded time for what belongs to it, depth images wait in a bounded queue for results, and each result
that is given up has a cause.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
from vision_msgs.msg import Detection2DArray, LabelInfo

from objloc_ros.engine.frame_stats import jumps_back
from objloc_ros.engine.latest_slot import FrameDroppedError
from objloc_ros.nodes import qos
from objloc_ros.nodes.camera import Feed
from objloc_ros.nodes.log import ThrottledLogger
from objloc_ros.nodes.messages import stamp_ns

DEPTH, INFO = "depth", "camera_info"

TICK_S = 0.05
"""How often the waiting are looked at where nothing arrives, seconds."""

ZERO_STAMP = "zero_stamp"
TIME_JUMP = "time_jump"


@dataclass(frozen=True)
class Located:
    """Results of one image with the depth image and the camera that belong to them.

    Args:
        results: Detection2DArray and mask, those that are paired, by their topics' names.
        depth: The depth image.
        info: Its camera.
        names: What the ids in the mask stand for; None where nobody has said.
    """

    results: Mapping[str, Any]
    depth: Image | CompressedImage
    info: CameraInfo
    names: LabelInfo | None

    @property
    def header(self) -> Header:
        """Stamp of the image that the results are of, in the depth image's frame."""
        image: Header = next(iter(self.results.values())).header
        return Header(stamp=image.stamp, frame_id=self.depth.header.frame_id or image.frame_id)


@dataclass
class Waiting:
    """Results of one stamp that wait for what belongs to them."""

    since_s: float
    results: dict[str, Any] = field(default_factory=dict)


class Pairing:
    """Pairs results by their stamps with depth images and cameras.

    Results of one image have its very stamp. Of the depth images the nearest one counts, if it is near enough; while a
    nearer one may still come, it is waited for. A camera changes rarely: the nearest description that has come counts.

    Args:
        results: Names of the topics of results that belong together.
        queue_size: Most depth images, and most results, that wait; beyond that the oldest is given up.
        on_pair: Called with what belongs together.
        on_miss: Called with why a result was given up.
        clock: Monotonic time in seconds.

    Attributes:
        slop_ns: Largest distance of a depth image's stamp from the results', nanoseconds.
        max_wait_s: How long results wait, seconds.
        names: Latest LabelInfo.
    """

    def __init__(
        self,
        results: tuple[str, ...],
        queue_size: int,
        *,
        on_pair: Callable[[Located], None],
        on_miss: Callable[[FrameDroppedError], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._names, self._size = results, queue_size
        self._on_pair, self._on_miss, self._clock = on_pair, on_miss, clock
        self.slop_ns, self.max_wait_s = 0, 0.0
        self.names: LabelInfo | None = None
        self._depths: deque[Image | CompressedImage] = deque(maxlen=queue_size)
        self._infos: deque[CameraInfo] = deque(maxlen=queue_size)
        self._waiting: dict[int, Waiting] = {}
        self._ended: deque[int] = deque(maxlen=queue_size)

    def clear(self) -> None:
        """Forget what waits, uncounted, as where the subscriptions end; the latest camera stays."""
        self._depths.clear()
        self._waiting.clear()
        self._ended.clear()

    def add_depth(self, msg: Image | CompressedImage) -> None:
        """Take a depth image."""
        while self._depths and jumps_back(stamp_ns(self._depths[-1].header), stamp_ns(msg.header)):
            self._depths.pop()  # of before the jump
        self._depths.append(msg)
        self.look()

    def add_info(self, msg: CameraInfo) -> None:
        """Take a description of the camera."""
        self._infos.append(msg)
        self.look()

    def add_result(self, name: str, msg: Any) -> None:
        """Take a result."""
        stamp = stamp_ns(msg.header)
        if stamp == 0:
            if name == self._names[0]:
                self._on_miss(FrameDroppedError(ZERO_STAMP, f"'{name}' carries a stamp of zero: it cannot be paired"))
            return
        if stamp in self._ended:
            return
        self._notice_jump(stamp)
        if stamp not in self._waiting and len(self._waiting) >= self._size:
            self._give_up(min(self._waiting))
        self._waiting.setdefault(stamp, Waiting(self._clock())).results[name] = msg
        self.look()

    def look(self) -> None:
        """Pair what has come, and give up what has waited long enough."""
        now_s = self._clock()
        for stamp in sorted(self._waiting):
            over = now_s - self._waiting[stamp].since_s >= self.max_wait_s
            results = self._waiting[stamp].results
            depth = self._find_depth(stamp, final=over)
            if len(results) == len(self._names) and depth is not None and self._infos:
                self._end(stamp)
                self._on_pair(Located(results, depth, self._find_info(stamp_ns(depth.header)), self.names))
            elif over:
                self._give_up(stamp)

    def _find_depth(self, stamp: int, *, final: bool) -> Image | CompressedImage | None:
        """Return the nearest depth image that is near enough; None while a nearer one may come, unless `final`."""
        distances = [abs(stamp_ns(msg.header) - stamp) for msg in self._depths]
        if not distances or min(distances) > self.slop_ns:
            return None
        is_settled = final or min(distances) == 0 or stamp_ns(self._depths[-1].header) >= stamp
        return self._depths[distances.index(min(distances))] if is_settled else None

    def _find_info(self, stamp: int) -> CameraInfo:
        return min(self._infos, key=lambda msg: abs(stamp_ns(msg.header) - stamp))

    def _notice_jump(self, stamp: int) -> None:
        """Give up what is of before a jump back of time, as where a recording starts over."""
        latest = max((*self._waiting, *self._ended), default=stamp)
        if jumps_back(latest, stamp):
            for before in sorted(self._waiting):
                self._end(before)
                self._on_miss(FrameDroppedError(TIME_JUMP, "time jumped back while results waited for their depth"))
            self._ended.clear()

    def _give_up(self, stamp: int) -> None:
        results = self._waiting[stamp].results
        missing = [name for name in self._names if name not in results]
        self._end(stamp)
        self._on_miss(self._explain(stamp, missing))

    def _explain(self, stamp: int, missing: list[str]) -> FrameDroppedError:
        waited = f"within {1e3 * self.max_wait_s:.0f} ms (max_wait_ms)"
        if missing:
            others = " and ".join(f"'{name}'" for name in self._names if name not in missing)
            return FrameDroppedError(f"no_{missing[0]}", f"no '{missing[0]}' of the stamp of {others} {waited}")
        if self._find_depth(stamp, final=True) is None:
            nearest = min((abs(stamp_ns(msg.header) - stamp) for msg in self._depths), default=None)
            text = "none came at all" if nearest is None else f"the nearest was {nearest / 1e6:.1f} ms off"
            return FrameDroppedError(
                "no_depth", f"no depth image within {self.slop_ns / 1e6:g} ms (slop_ms) of a result, {text}"
            )
        return FrameDroppedError("no_camera_info", f"no camera_info has come {waited}")

    def _end(self, stamp: int) -> None:
        del self._waiting[stamp]
        self._ended.append(stamp)


class PairingClient(Protocol):
    """A node that gets what was paired."""

    def wants_frames(self) -> bool:
        """Whether the node has use for frames at present."""
        ...

    def receive(self, frame: Located) -> None:
        """Take a frame."""
        ...

    def miss(self, error: FrameDroppedError) -> None:
        """Count and tell of a frame that something did not come for."""
        ...


class PairedInputs:
    """Subscribes to results, depth and camera while the node wants frames, and hands on what belongs together.

    Topics are the node's `detections`, `mask`, `label_info`, `depth` (or `depth/compressedDepth`) and `camera_info`,
    to be remapped.

    Args:
        node: Owner of the subscriptions; overrides of their QoS are parameters of this node.
        results: `detections`, `mask` or both.
        transport: "raw" or "compressedDepth".
        queue_size: Most depth images and results that wait.
        log: Told about messages that do not come.

    Raises:
        ParameterError: An override of the QoS is impossible.
    """

    def __init__(
        self, node: Node, results: tuple[str, ...], transport: str, queue_size: int, log: ThrottledLogger
    ) -> None:
        self._node = node
        self._client: PairingClient | None = None
        self._timer: Any = None
        self.pairing = Pairing(results, queue_size, on_pair=self._on_pair, on_miss=self._on_miss)

        def feed(kind: type, name: str, take: Callable[[Any], None], profile: Any = None) -> Feed:
            topic = node.resolve_topic_name(name)
            return Feed(node, kind, topic, take, log, profile or qos.make_camera_profile(depth=5))

        kinds = {"detections": Detection2DArray, "mask": Image}
        self._results = [feed(kinds[name], name, self._taker(name)) for name in results]
        depth_type = Image if transport == "raw" else CompressedImage
        depth_name = node.resolve_topic_name(DEPTH) + ("" if transport == "raw" else f"/{transport}")
        depth = feed(depth_type, depth_name, self.pairing.add_depth)
        info = feed(CameraInfo, INFO, self.pairing.add_info)
        self._watched = [depth, info, *self._results]
        self._feeds = list(self._watched)
        if "mask" in results:
            self._feeds.append(feed(LabelInfo, "label_info", self._on_label_info, qos.make_latched_profile()))

    @property
    def topic(self) -> str:
        """Full name of the topic whose messages are answered."""
        return self._results[0].topic

    def add(self, client: PairingClient) -> None:
        """Serve a node as soon as it wants frames."""
        self._client = client

    def follow_demand(self) -> None:
        """Subscribe while the node wants frames; call it whenever it may have changed its mind."""
        wanted = self._client is not None and self._client.wants_frames()
        if wanted and self._timer is None:
            self._timer = self._node.create_timer(
                TICK_S, self.pairing.look, clock=Clock(clock_type=ClockType.STEADY_TIME)
            )
            for feed in self._feeds:
                feed.open()
        elif not wanted and self._timer is not None:
            self._node.destroy_timer(self._timer)
            self._timer = None
            for feed in self._feeds:
                feed.close()
            self.pairing.clear()

    def serves(self, client: PairingClient) -> bool:
        """Whether the node gets frames at present."""
        return self._timer is not None

    def find_problem(self) -> str:
        """Return why no frames come, the first reason of several; empty when they do or need not."""
        return next(filter(None, [feed.find_problem() for feed in self._watched]), "")

    def _taker(self, name: str) -> Callable[[Any], None]:
        return lambda msg: self.pairing.add_result(name, msg)

    def _on_label_info(self, msg: LabelInfo) -> None:
        self.pairing.names = msg

    def _on_pair(self, located: Located) -> None:
        if self._client is not None:
            self._client.receive(located)

    def _on_miss(self, error: FrameDroppedError) -> None:
        if self._client is not None:
            self._client.miss(error)
