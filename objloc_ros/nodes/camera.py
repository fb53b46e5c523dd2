"""The camera's side of perception nodes: subscriptions that are open only while needed, and the frames they bring.

A camera serves one node, or all nodes of one process: they share its subscription and its decoded pixels.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, Protocol, TypeAlias

from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.qos_overriding_options import InvalidQosOverridesError
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from objloc_ros.engine.latest_slot import SUPERSEDED
from objloc_ros.errors import ParameterError
from objloc_ros.nodes import qos
from objloc_ros.nodes.conversions import RgbImage, compressed_to_rgb, image_to_rgb
from objloc_ros.nodes.log import ThrottledLogger

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks

TRANSPORTS: dict[str, type] = {"raw": Image, "compressed": CompressedImage}
"""Message class of each `image_transport`."""

INTRODUCTION_S = 0.5
"""The node's name of a publisher just discovered is not known yet; this much later it is, seconds."""

SILENCE_S = 3.0
"""Publishers that send nothing for this long are worth a warning, seconds."""


class Stamped(Protocol):
    """What a node answers; its results carry its header."""

    @property
    def header(self) -> Header:
        """Stamp and frame, to be copied and never changed."""
        ...


class Frame:
    """A camera's message and its pixels, decoded when first asked for, once for all nodes that look at it.

    It is also the key by which those nodes share backbone passes, see `Pipeline.run`.

    Args:
        msg: The message.
    """

    def __init__(self, msg: Image | CompressedImage) -> None:
        self._msg = msg
        self._lock = threading.Lock()
        self._rgb: RgbImage | None = None

    @property
    def header(self) -> Header:
        """The camera's header, to be copied and never changed."""
        return self._msg.header

    def rgb(self) -> RgbImage:
        """Return the pixels, uint8 [H, W, 3], read-only.

        Raises:
            ImageMessageError: The message holds no usable image.
        """
        with self._lock:
            if self._rgb is None:
                decode = compressed_to_rgb if isinstance(self._msg, CompressedImage) else image_to_rgb
                self._rgb = decode(self._msg)
                self._rgb.flags.writeable = False  # several nodes read them at once
            return self._rgb


OnDone: TypeAlias = Callable[[str], None]
"""Called with a cause when a node is done with a frame: "" when it was answered, else why it was dropped."""


class Client(Protocol):
    """A node that gets a camera's frames; nodes with equal `pass_key` read the same backbone passes."""

    @property
    def leads(self) -> bool:
        """Whether the node keeps the camera's rate."""
        ...

    @property
    def pass_key(self) -> Hashable:
        """What nodes agree on that read the same backbone passes."""
        ...

    def wants_frames(self) -> bool:
        """Whether the node has use for frames at present."""
        ...

    def receive(self, frame: Frame, on_done: OnDone | None = None) -> None:
        """Take a frame, and tell in whatever thread when done with it."""
        ...

    def skip(self) -> None:
        """Count a frame that was given up before it got here."""
        ...


class Source(Protocol):
    """Where a node's frames come from."""

    @property
    def topic(self) -> str:
        """Name of the topic whose messages the node answers."""
        ...

    def add(self, client: Any) -> None:
        """Serve a node as soon as it wants frames."""
        ...

    def follow_demand(self) -> None:
        """Subscribe while a node wants frames; call it whenever one may have changed its mind."""
        ...

    def serves(self, client: Any) -> bool:
        """Whether a node gets frames at present."""
        ...

    def find_problem(self) -> str:
        """Return why no frames come, in words for the diagnostics; empty when they do or need not."""
        ...


class Feed:
    """A subscription that is opened and closed, and can tell why nothing comes.

    Args:
        node: Owner of the subscription; overrides of its QoS are parameters of this node.
        msg_type: Message class.
        topic: Full topic name.
        on_message: Called in the executor with each message.
        log: Told about messages that do not come.
        profile: What is asked for, unless overridden.

    Raises:
        ParameterError: An override of the QoS is impossible.
    """

    def __init__(
        self,
        node: Node,
        msg_type: type,
        topic: str,
        on_message: Callable[[Any], None],
        log: ThrottledLogger,
        profile: QoSProfile,
    ) -> None:
        self.topic = topic
        self._node, self._msg_type, self._on_message, self._log = node, msg_type, on_message, log
        self._subscription: Any = None
        # Overrides change the profile in place, so that it always tells what is really asked for.
        self._profile = profile
        self._incompatible_policy: Any = None
        self._latest_s = self._incompatible_since_s = 0.0
        # rclpy declares (and checks) the QoS overrides when a subscription is made: have that done before the first one
        # is needed, so that they are listed, and a bad one stops the node at its start.
        try:
            self.open()
        except (RuntimeError, InvalidQosOverridesError) as error:
            raise ParameterError(f"QoS overrides of '{self.topic}': {error}") from error
        self.close()

    @property
    def is_open(self) -> bool:
        """Whether it is subscribed."""
        return self._subscription is not None

    def open(self) -> None:
        """Subscribe."""
        self._incompatible_policy = None
        self._latest_s = time.monotonic()
        self._subscription = self._node.create_subscription(
            self._msg_type,
            self.topic,
            self._receive,
            self._profile,
            event_callbacks=SubscriptionEventCallbacks(incompatible_qos=self._on_incompatible),
            qos_overriding_options=qos.allow_overrides(),
        )

    def close(self) -> None:
        """Unsubscribe."""
        self._node.destroy_subscription(self._subscription)
        self._subscription = None

    def find_problem(self) -> str:
        """Look for publishers that send nothing; call it about once a second.

        Returns:
            Why nothing comes, in words for the diagnostics; empty when it does or need not.
        """
        if self._subscription is None:
            return ""
        publishers = self._node.count_publishers(self.topic)
        now_s = time.monotonic()
        if self._incompatible_policy is not None and now_s - self._incompatible_since_s > INTRODUCTION_S:
            text = qos.explain_incompatible_publisher(self._node, self.topic, self._profile, self._incompatible_policy)
            self._log.warn("incompatible_qos", text)
        silence_s = now_s - self._latest_s
        if silence_s < SILENCE_S:
            return ""
        if not publishers:
            return f"no publisher of '{self.topic}'"
        if self._incompatible_policy is not None:
            return f"incompatible QoS on '{self.topic}'"
        self._log.warn("silent_publisher", qos.explain_silent_publisher(self.topic, publishers, silence_s))
        return f"no frame from '{self.topic}' for {silence_s:.0f} s"

    def _receive(self, msg: Any) -> None:
        self._latest_s = time.monotonic()
        self._on_message(msg)

    def _on_incompatible(self, event: Any) -> None:
        self._incompatible_policy = event.last_policy_kind
        self._incompatible_since_s = time.monotonic()


class Camera:
    """Subscribes to a camera while one of its clients wants frames, and hands them on.

    A client that `leads` sees every frame at once. Clients with its `pass_key` share its backbone passes: they get a
    frame when the leader is done with it, and are told to `skip` those that the leader skipped. So there is no frame
    that the backbone would have to see for a slow node alone. Clients with other keys see every frame at once, too.

    One executor thread must spin the node and all clients.

    The topic is `image`, or `image/compressed` for the compressed transport: as in image_transport, the (remapped) base
    topic with `/compressed` behind it.

    Args:
        node: Owner of the subscription; overrides of its QoS are parameters of this node.
        transport: A key of `TRANSPORTS`.
        log: Told about frames that do not come.

    Raises:
        ParameterError: An override of the QoS is impossible.
    """

    def __init__(self, node: Node, transport: str, log: ThrottledLogger) -> None:
        self.node = node
        topic = node.resolve_topic_name("image") + ("/compressed" if transport == "compressed" else "")
        self._clients: list[Client] = []
        self._served: tuple[Client, ...] = ()  # those that want frames; replaced as a whole, read by other threads
        self._feed = Feed(node, TRANSPORTS[transport], topic, self._on_message, log, qos.make_camera_profile())

    @property
    def topic(self) -> str:
        """Full name of the image topic."""
        return self._feed.topic

    def add(self, client: Client) -> None:
        """Serve a node, too, as soon as it wants frames."""
        self._clients.append(client)

    def follow_demand(self) -> None:
        """Subscribe while a client wants frames; call it whenever one may have changed its mind."""
        self._served = tuple(client for client in self._clients if client.wants_frames())
        if self._served and not self._feed.is_open:
            self._feed.open()
        elif not self._served and self._feed.is_open:
            self._feed.close()

    def serves(self, client: Client) -> bool:
        """Whether a node gets frames at present."""
        return client in self._served

    def find_problem(self) -> str:
        """Look for publishers that send nothing; call it about once a second.

        Returns:
            Why no frames come, in words for the diagnostics; empty when they do or need not.
        """
        return self._feed.find_problem()

    def _on_message(self, msg: Image | CompressedImage) -> None:
        frame, served = Frame(msg), self._served
        leader = next((client for client in served if client.leads), None)
        followers = [] if leader is None else [c for c in served if c is not leader and c.pass_key == leader.pass_key]
        for client in served:
            if client is not leader and client not in followers:
                client.receive(frame)
        if leader is not None:
            leader.receive(frame, functools.partial(self._hand_on, frame, followers) if followers else None)

    def _hand_on(self, frame: Frame, followers: list[Client], cause: str) -> None:
        """Pass a frame on that the leader is done with; what hindered the leader need not hinder others."""
        for client in followers:
            if cause == SUPERSEDED:
                client.skip()
            elif client in self._served:
                client.receive(frame)
