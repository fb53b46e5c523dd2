"""What the nodes publish while a bag is played: predictions, stamped with the bag's time, and their own accounts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.serialization import deserialize_message

from objloc_ros.bags.nodes import DIAGNOSTICS
from objloc_ros.bags.player import PlaybackClock
from objloc_ros.bags.recorder import Sink
from objloc_ros.io.files import read_json

FINAL_ACCOUNT_S = 0.5
"""An account this long after the last frame, in seconds, is final."""

MAX_PREDICTION_DELAY_S = 3.0
"""Predictions that have not arrived this long after the last frame, in seconds, are lost."""


@dataclass(frozen=True)
class NodeAccount:
    """What a node said in its diagnostics: received = published + dropped + in flight.

    Args:
        at_s: Monotonic time of its arrival, seconds.
        received: Frames that arrived at the node.
        published: Frames whose prediction was published.
        in_flight: Frames that wait or are being processed.
        dropped: Frames that were not processed, by cause.
    """

    at_s: float
    received: int
    published: int
    in_flight: int
    dropped: dict[str, int]

    @classmethod
    def parse(cls, values: dict[str, str], at_s: float) -> NodeAccount:
        """Parse the key-value pairs of a status."""
        dropped = {name.removeprefix("dropped."): int(n) for name, n in values.items() if name.startswith("dropped.")}
        return cls(at_s, int(values["received"]), int(values["published"]), int(values["in_flight"]), dropped)


class Listener:
    """A recorder's sink, which hands messages on with the bag time of their arrival.

    Args:
        nodes: Full names.
        account: File in which the player writes its playback clock, and at the end what it has sent.
        start_ns: Bag time until playback begins, nanoseconds.
        sink: Takes the messages of the nodes.

    Attributes:
        accounts: The latest account of each node that has given one.
        predictions: Number of Detection2DArray messages of each node.
    """

    def __init__(self, nodes: Sequence[str], account: Path, start_ns: int, sink: Sink) -> None:
        self.accounts: dict[str, NodeAccount] = {}
        self.predictions: Counter[str] = Counter()
        self._nodes, self._file, self._start_ns, self._sink = nodes, account, start_ns, sink
        self._playback: PlaybackClock | None = None
        self._version: tuple[int, int, int] | None = None
        self._account: dict[str, Any] = {}

    @property
    def playback(self) -> PlaybackClock | None:
        """The player's clock; None before it is known."""
        if self._playback is None and self._file.exists():
            self._playback = PlaybackClock(**read_json(self._file)["schedule"])
        return self._playback

    def read_player_account(self) -> dict[str, Any] | None:
        """Read what the player has sent; None while it plays."""
        if self._file.exists():  # called after every message, so the file is read only when it has changed
            status = self._file.stat()
            version = (status.st_ino, status.st_mtime_ns, status.st_size)
            if version != self._version:
                self._account, self._version = read_json(self._file), version
        return self._account if "sent" in self._account else None

    def receive(self, topic: str, kind: type, data: bytes, received_ns: int) -> None:
        """Take a message that arrived at `received_ns` of the system's time."""
        arrived_ns = time.monotonic_ns() - (time.time_ns() - received_ns)
        if topic == DIAGNOSTICS.topic:
            self._update_accounts(deserialize_message(data, DiagnosticArray), arrived_ns / 1e9)
            return
        if topic.endswith("/detections"):
            self.predictions[topic.removesuffix("/detections")] += 1
        self._sink(topic, kind, data, self._start_ns if self.playback is None else self.playback.bag_ns(arrived_ns))

    def is_complete(self, ended_s: float) -> bool:
        """Whether every frame sent until `ended_s` (monotonic time, seconds) has a prediction, was dropped or lost."""
        return all(node in self.accounts and self._is_node_complete(node, ended_s) for node in self._nodes)

    def _is_node_complete(self, node: str, ended_s: float) -> bool:
        account = self.accounts[node]
        arrived = self.predictions[node] >= account.published or account.at_s > ended_s + MAX_PREDICTION_DELAY_S
        return account.at_s > ended_s + FINAL_ACCOUNT_S and account.in_flight == 0 and arrived

    def _update_accounts(self, message: DiagnosticArray, at_s: float) -> None:
        for status in message.status:
            node = status.name.removesuffix(": perception")
            if node in self._nodes:
                self.accounts[node] = NodeAccount.parse({pair.key: pair.value for pair in status.values}, at_s)
