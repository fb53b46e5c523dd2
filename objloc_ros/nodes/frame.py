"""A camera's message on its way through the nodes that want it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeAlias

from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from objloc_ros.nodes.conversions import compressed_to_rgb, image_to_rgb
from objloc_ros.nodes.encodings import RgbImage

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
