"""What is heard of the nodes while a bag is played: answers by the bag's time, and the nodes' own accounts."""

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
from objloc_ros.bags.player import Schedule
from objloc_ros.bags.recorder import Sink
from objloc_ros.io.files import read_json

FRESH_S, GIVEN_UP_S = 0.5, 3.0
"""After the last frame: from when on an account is the last, and when answers that it tells of are lost; seconds."""


@dataclass(frozen=True)
class NodeAccount:
    """What a node said in its diagnostics: received = published + dropped + in flight.

    Args:
        at_s: When it was heard, seconds of monotonic time.
        received: Frames that came in.
        published: Frames that were answered.
        in_flight: Frames that wait or are being worked on.
        dropped: Frames that were given up, by cause.
    """

    at_s: float
    received: int
    published: int
    in_flight: int
    dropped: dict[str, int]

    @classmethod
    def of(cls, facts: dict[str, str], at_s: float) -> NodeAccount:
        """Read the key-value pairs of a status."""
        dropped = {name.removeprefix("dropped."): int(n) for name, n in facts.items() if name.startswith("dropped.")}
        return cls(at_s, int(facts["received"]), int(facts["published"]), int(facts["in_flight"]), dropped)


class Listener:
    """A recorder's sink, which hands answers on with the bag's time of their arrival.

    Args:
        nodes: Full names.
        account: File in which the player tells its schedule, and at the end what it has sent.
        start_ns: The bag's time until then, nanoseconds.
        sink: Takes the answers.

    Attributes:
        accounts: The latest of each node that has given one.
        answers: Detections heard of each node.
    """

    def __init__(self, nodes: Sequence[str], account: Path, start_ns: int, sink: Sink) -> None:
        self.accounts: dict[str, NodeAccount] = {}
        self.answers: Counter[str] = Counter()
        self._nodes, self._file, self._start_ns, self._sink = nodes, account, start_ns, sink
        self._schedule: Schedule | None = None
        self._version: tuple[int, int, int] | None = None
        self._account: dict[str, Any] = {}

    @property
    def schedule(self) -> Schedule | None:
        """When the bag is played; None before that is known."""
        if self._schedule is None and self._file.exists():
            self._schedule = Schedule(**read_json(self._file)["schedule"])
        return self._schedule

    def played(self) -> dict[str, Any] | None:
        """The player's account of everything; None while it plays."""
        if self._file.exists():  # asked after every message, so it is read only when it has changed
            found = self._file.stat()
            version = (found.st_ino, found.st_mtime_ns, found.st_size)
            if version != self._version:
                self._account, self._version = read_json(self._file), version
        return self._account if "sent" in self._account else None

    def hear(self, topic: str, kind: type, data: bytes, received_ns: int) -> None:
        """Take a message, which arrived at `received_ns` of the system's time."""
        arrived_ns = time.monotonic_ns() - (time.time_ns() - received_ns)
        if topic == DIAGNOSTICS.topic:
            self._note(deserialize_message(data, DiagnosticArray), arrived_ns / 1e9)
            return
        if topic.endswith("/detections"):
            self.answers[topic.removesuffix("/detections")] += 1
        self._sink(topic, kind, data, self._start_ns if self.schedule is None else self.schedule.bag_ns(arrived_ns))

    def settled(self, ended_s: float) -> bool:
        """Whether all that was sent until then (seconds of monotonic time) has been answered, dropped or lost."""
        return all(node in self.accounts and self._is_last(node, ended_s) for node in self._nodes)

    def _is_last(self, node: str, ended_s: float) -> bool:
        account = self.accounts[node]
        heard = self.answers[node] >= account.published or account.at_s > ended_s + GIVEN_UP_S
        return account.at_s > ended_s + FRESH_S and account.in_flight == 0 and heard

    def _note(self, message: DiagnosticArray, at_s: float) -> None:
        for status in message.status:
            node = status.name.removesuffix(": perception")
            if node in self._nodes:
                self.accounts[node] = NodeAccount.of({pair.key: pair.value for pair in status.values}, at_s)
