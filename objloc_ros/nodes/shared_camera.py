"""One subscription for all nodes of a camera, where they live in one process."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Protocol

from rclpy.node import Node

from objloc_ros.engine.latest_slot import SUPERSEDED
from objloc_ros.nodes.camera import Frame, ImageInput, OnFrame, Warn
from objloc_ros.nodes.log import Voice


class Client(Protocol):
    """A node that shares a camera; nodes with equal `pass_key` read the same backbone passes."""

    leads: bool
    pass_key: Hashable

    def skip(self) -> None:
        """Count a frame that was given up before it got here."""
        ...


class Tap:
    """One node's share of a subscription.

    Args:
        camera: What it is a share of.
        client: Whose share it is.
        on_frame: Where its frames go.
    """

    def __init__(self, camera: SharedCamera, client: Client, on_frame: OnFrame) -> None:
        self._camera, self.client, self.on_frame = camera, client, on_frame
        self.is_open = False

    def follows(self, leader: Tap) -> bool:
        """Whether this node reads what the leader's passes give."""
        return self is not leader and self.client.pass_key == leader.client.pass_key

    def open(self) -> None:
        """Let frames come."""
        self.is_open = True
        self._camera.follow_demand()

    def close(self) -> None:
        """Let no more frames come."""
        self.is_open = False
        self._camera.follow_demand()

    def check(self) -> str:
        """Say why no frames come."""
        return self._camera.check() if self.is_open else ""


class SharedCamera(Node):
    """Subscribes to a camera while one of its nodes wants frames, and hands them on.

    A node that has `leads` set sees every frame at once. Nodes with the same `pass_key` share its backbone passes: they
    get a frame when the leader is done with it, and are told to `skip` those that the leader skipped. So there is no
    frame that the backbone would have to see for a slow node alone. Nodes with other keys see every frame at once, too.

    One executor thread must spin it and all of them. Its name is `camera_raw` or `camera_compressed`; overrides of the
    subscription's QoS are its parameters.

    Args:
        transport: A key of `image_input.TRANSPORTS`.
        options: Passed on to `rclpy.node.Node`: the camera's namespace and remappings.
    """

    def __init__(self, transport: str, **options: Any) -> None:
        super().__init__(f"camera_{transport}", **options)
        self._taps: list[Tap] = []
        self._input = ImageInput(self, transport, self._on_frame, Voice(self.get_logger()).warn)

    def tap(self, node: Client, _transport: str, on_frame: OnFrame, _warn: Warn) -> Tap:
        """An `InputFactory`: a node's share. Warnings come from this node's own logger."""
        self._taps.append(Tap(self, node, on_frame))
        return self._taps[-1]

    def follow_demand(self) -> None:
        """Subscribe or let go."""
        if any(tap.is_open for tap in self._taps):
            self._input.open()
        else:
            self._input.close()

    def check(self) -> str:
        """Say why no frames come."""
        return self._input.check()

    def _on_frame(self, frame: Frame) -> None:
        taps = [tap for tap in self._taps if tap.is_open]
        leader = next((tap for tap in taps if tap.client.leads), None)
        followers = [] if leader is None else [tap for tap in taps if tap.follows(leader)]
        for tap in taps:
            if tap is not leader and tap not in followers:
                tap.on_frame(frame.shared())
        if leader is not None:
            leader.on_frame(frame.shared(lambda cause: _hand_on(frame, cause, followers)))


def _hand_on(frame: Frame, cause: str, followers: list[Tap]) -> None:
    """Pass a frame on that the leader is done with; what hindered the leader need not hinder others."""
    for tap in followers:
        if cause == SUPERSEDED:
            tap.client.skip()
        elif tap.is_open:
            tap.on_frame(frame.shared())
