"""A node's part of a frame, for measuring: a camera's message decoded, results as messages, published."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy.typing as npt
from std_msgs.msg import Header

from objloc_ros.nodes.conversions import mask_to_image, rgb_to_image
from objloc_ros.nodes.detections import detections_to_msg
from objloc_ros.nodes.frame import Frame
from objloc_ros.types import Detections, Image


class RosEnds:
    """The ends of a frame of one size, as `objloc_ros.evaluation.speed.cells.Ends` wants them.

    Args:
        frames: RGB uint8 [H, W, 3] of one size; the camera sends them in turn, as bgr8.
        send: Publishes the messages of a frame and waits until they have arrived; None leaves publishing out.
    """

    def __init__(self, frames: Sequence[Image], send: Callable[[Sequence[Any]], None] | None) -> None:
        self._header = Header(frame_id="camera")
        self._camera = [rgb_to_image(frame, self._header) for frame in frames]
        self._send = send
        self.stages: Sequence[str] = ("decode", "message", *(() if send is None else ("publish",)))

    def decode(self, number: int) -> Image:
        """The pixels of a message, as nodes read them."""
        return Frame(self._camera[number % len(self._camera)]).rgb()

    def messages(self, detections: Detections, maps: Sequence[npt.NDArray[Any]]) -> list[Any]:
        """Detections and masks as messages; the overlay, which only people look at, is not among them."""
        return [detections_to_msg(detections, self._header), *(mask_to_image(each, self._header) for each in maps)]

    def publish(self, messages: Sequence[list[Any]]) -> None:
        """Send the messages of some frames, one frame after the other."""
        if self._send is None:
            raise RuntimeError("there is nothing to publish with")
        for frame in messages:
            self._send(frame)
