"""The camera's side of a node: a subscription that is open only while needed, and the frames that come in by it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from rclpy.node import Node
from rclpy.qos_overriding_options import InvalidQosOverridesError
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from objloc_ros.errors import ParameterError
from objloc_ros.nodes import qos
from objloc_ros.nodes.conversions import compressed_to_rgb, image_to_rgb
from objloc_ros.nodes.encodings import RgbImage

try:
    from rclpy.event_handler import SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks


ImageMessage: TypeAlias = "Image | CompressedImage"


class _Picture:
    """Pixels of a message, decoded when first asked for."""

    def __init__(self, msg: ImageMessage) -> None:
        self._msg = msg
        self._lock = threading.Lock()
        self._rgb: RgbImage | None = None

    def rgb(self) -> RgbImage:
        with self._lock:
            if self._rgb is None:
                decode = compressed_to_rgb if isinstance(self._msg, CompressedImage) else image_to_rgb
                self._rgb = decode(self._msg)
                self._rgb.flags.writeable = False
            return self._rgb


class Frame:
    """A message and its pixels, decoded when somebody asks, once for everybody.

    Args:
        msg: The camera's message.
        on_done: Called with a cause when the node is done with the frame: "" when it was answered, else why it was
            dropped. In whatever thread that happens.
        picture: Its pixels, where another node has them, too.
    """

    def __init__(
        self,
        msg: ImageMessage,
        on_done: Callable[[str], None] = lambda cause: None,
        picture: _Picture | None = None,
    ) -> None:
        self.msg = msg
        self.done = on_done
        self._picture = picture or _Picture(msg)

    @property
    def header(self) -> Header:
        """The camera's header, to be copied and never changed."""
        return self.msg.header

    def rgb(self) -> RgbImage:
        """The pixels, uint8 [H, W, 3], read-only: by that a shared engine knows that it may remember their features.

        Raises:
            ImageMessageError: The message holds no usable image.
        """
        return self._picture.rgb()

    def shared(self, on_done: Callable[[str], None] = lambda cause: None) -> Frame:
        """The same frame for another node."""
        return Frame(self.msg, on_done, self._picture)


TRANSPORTS: dict[str, type] = {"raw": Image, "compressed": CompressedImage}
"""Message class of each `image_transport`."""

INTRODUCTION_S = 0.5
"""The node's name of a publisher just discovered is not known yet; this much later it is, seconds."""

SILENCE_S = 3.0
"""Publishers that send nothing for this long are worth a word, seconds."""

OnFrame: TypeAlias = Callable[[Frame], None]
Warn: TypeAlias = Callable[[str, str], None]
"""Takes a cause, by which it is throttled, and a line of text."""


class Input(Protocol):
    """A node's way to its camera."""

    @property
    def is_open(self) -> bool:
        """Whether frames come in at present."""
        ...

    def open(self) -> None:
        """Let frames come."""
        ...

    def close(self) -> None:
        """Let no more frames come."""
        ...

    def check(self) -> str:
        """Say why no frames come; empty when they do or need not. Called about once a second."""
        ...


InputFactory: TypeAlias = Callable[[Any, str, OnFrame, Warn], Input]
"""Makes the input of a node from its `image_transport`, where frames go, and where warnings go."""


class ImageInput:
    """Subscription to `image`, or to `image/compressed` for the compressed transport.

    As in image_transport, the compressed topic is the (remapped) base topic with `/compressed` behind it.

    Args:
        node: Owner of the subscription.
        transport: A key of `TRANSPORTS`.
        on_frame: Called in the executor with each frame.
        warn: Told about frames that do not come.
    """

    def __init__(
        self,
        node: Node,
        transport: str,
        on_frame: OnFrame,
        warn: Warn,
    ) -> None:
        self._node, self._on_frame, self._warn = node, on_frame, warn
        self._msg_type = TRANSPORTS[transport]
        self.topic: str = node.resolve_topic_name("image") + ("/compressed" if transport == "compressed" else "")
        self._subscription: Any = None
        # Overrides change the profile in place, so that it always tells what is really asked for.
        self._profile = qos.image_input()
        self._incompatible_policy: Any = None
        self._heard = self._met = 0.0
        # rclpy declares (and checks) the QoS overrides when a subscription is made: have that done before the first one
        # is needed, so that they are listed, and a bad one stops the node at its start.
        try:
            self.open()
        except (RuntimeError, InvalidQosOverridesError) as error:
            raise ParameterError(f"QoS overrides of '{self.topic}': {error}") from error
        self.close()

    @property
    def is_open(self) -> bool:
        """Whether the node subscribes to the camera at present."""
        return self._subscription is not None

    def open(self) -> None:
        """Subscribe, unless subscribed already."""
        if self._subscription is not None:
            return
        self._incompatible_policy = None
        self._heard = time.monotonic()
        self._subscription = self._node.create_subscription(
            self._msg_type,
            self.topic,
            self._receive,
            self._profile,
            event_callbacks=SubscriptionEventCallbacks(incompatible_qos=self._on_incompatible),
            qos_overriding_options=qos.overridable(),
        )

    def close(self) -> None:
        """Give the subscription back, so that the camera need not send."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def check(self) -> str:
        """Look for publishers that send nothing; call it about once a second.

        Returns:
            What is wrong, in words for the diagnostics; empty when nothing is.
        """
        if self._subscription is None:
            return ""
        publishers = self._node.count_publishers(self.topic)
        if self._incompatible_policy is not None and time.monotonic() - self._met > INTRODUCTION_S:
            text = qos.incompatible_publisher(self._node, self.topic, self._profile, self._incompatible_policy)
            self._warn("incompatible_qos", text)
        silence = time.monotonic() - self._heard
        if silence < SILENCE_S:
            return ""
        if not publishers:
            return f"no publisher of '{self.topic}'"
        if self._incompatible_policy is not None:
            return f"incompatible QoS on '{self.topic}'"
        self._warn("silent_publisher", qos.silent_publisher(self.topic, publishers, silence))
        return f"no frame from '{self.topic}' for {silence:.0f} s"

    def _on_incompatible(self, event: Any) -> None:
        self._incompatible_policy = event.last_policy_kind
        self._met = time.monotonic()

    def _receive(self, msg: ImageMessage) -> None:
        self._heard = time.monotonic()
        self._on_frame(Frame(msg))
