"""A stand-in of an asynchronous device on the CPU, which does what it is asked to at the worst time that CUDA allows.

Each stream does its work in order; streams are ordered among each other, and with the host, by events alone. Copies
read the host's memory while they run, in two halves. Fresh memory is somebody else's until the computing stream has
finished what it was asked to before. All that is left open is drawn by lot: one stream may do nothing before somebody
waits for it, or both, or everything may be done at once.
"""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

WAITS = ("computing waits for the copy", "copy waits for the computing", "host waits for the copy")
ANSWER = "host waits for the answer"
"""What may be left out, to see that it is noticed."""


@dataclass(eq=False)
class StandInEvent:
    device: StandIn
    recorded_in: StandInStream
    passed: bool = False

    def synchronize(self) -> None:
        ignored = WAITS[2] if self.recorded_in is self.device.copies else ANSWER
        if self.device.without != ignored:
            self.device.force(self)


@dataclass(eq=False)
class StandInStream:
    device: StandIn
    ignores: bool = False
    eager: bool = False
    work: deque[tuple[str, Any]] = field(default_factory=deque)

    def record_event(self) -> StandInEvent:
        event = StandInEvent(self.device, self)
        self.ask("record", event)
        return event

    def wait_event(self, event: StandInEvent) -> None:
        if not self.ignores:
            self.ask("wait", event)

    def call(self, function: Callable[[], object]) -> None:
        self.ask("call", function)

    def ask(self, what: str, of: Any) -> None:
        with self.device.lock:
            self.work.append((what, of))
            self.device.idle()


class StandIn:
    """The link to the stand-in; its memory is the host's.

    Args:
        seed: Of the lots.
        without: One of `WAITS`, or `ANSWER`, that is left out.
        computes_at_once: Whether the computing stream never lags, so that PyTorch's operations in the caller's thread
            are what it does.
    """

    def __init__(self, seed: int = 0, without: str = "", *, computes_at_once: bool = False) -> None:
        self.lock = threading.RLock()
        self.lots = random.Random(seed)
        self.device = torch.device("cpu")
        self.without = without
        self.copies = StandInStream(self, ignores=without == WAITS[1])
        self.compute = StandInStream(self, ignores=without == WAITS[0], eager=computes_at_once)
        self.steps = self.lots.choice(((0,), (0, 0, 0, 1), (0, 1, 3, 100)))  # done while the host does something else
        self.lazy = self.lots.choice((None, self.copies, self.compute))
        self.reserved: list[int] = []
        self.fails = 0  # reservations of the device's memory that are refused

    def computing(self) -> StandInStream:
        return self.compute

    def reserve_host(self, size: int) -> Tensor:
        return torch.full((size,), 0xAA, dtype=torch.uint8)

    def reserve_device(self, size: int) -> Tensor:
        if self.fails:
            self.fails -= 1
            raise torch.OutOfMemoryError("no room")
        self.reserved.append(size)
        memory = torch.empty(size, dtype=torch.uint8)
        self.compute.call(lambda: memory.fill_(0x55))  # whoever had it before
        return memory

    def copy(self, target: Tensor, source: Tensor, stream: StandInStream) -> None:
        target, source, half = target.view(-1), source.view(-1), source.numel() // 2
        stream.call(lambda: target[:half].copy_(source[:half]))
        stream.call(lambda: target[half:].copy_(source[half:]))

    def idle(self) -> None:
        """Do some work while the host does something else: none, some or all that may be done."""
        for _ in range(self.lots.choice(self.steps)):
            able = [one for one in (self.copies, self.compute) if one is not self.lazy and self._able(one)]
            if not able:
                break
            self._do(self.lots.choice(able))
        while self.compute.eager and self.compute.work:
            self._advance(self.compute)

    def force(self, event: StandInEvent) -> None:
        """Do what must be done before an event, and nothing else."""
        with self.lock:
            while not event.passed:
                self._advance(event.recorded_in)

    def finish(self) -> None:
        """Do all there is to do."""
        with self.lock:
            for stream in (self.copies, self.compute):
                while stream.work:
                    self._advance(stream)

    def _able(self, stream: StandInStream) -> bool:
        return bool(stream.work) and (stream.work[0][0] != "wait" or stream.work[0][1].passed)

    def _advance(self, stream: StandInStream) -> None:
        assert stream.work, "waits for what nobody was asked to do"
        what, of = stream.work[0]
        if what == "wait":
            self.force(of)
        self._do(stream)

    def _do(self, stream: StandInStream) -> None:
        what, of = stream.work.popleft()
        if what == "record":
            of.passed = True
        elif what == "call":
            with torch.inference_mode():
                of()
