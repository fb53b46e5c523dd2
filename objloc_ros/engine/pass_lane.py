"""The worker that runs the backbone passes of one device, and how it uses the processors.

On a CPU a pass on two threads is far from twice as fast as on one. So a single image has all threads, for its latency,
while a batch is shared out: each thread runs images of its own, for the number of frames.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from objloc_ros.engine.backbone import Backbone
from objloc_ros.engine.lane import Lane
from objloc_ros.types import Features


class PassLane:
    """Runs passes until the last holder of this object lets it go.

    Args:
        device: Whose worker it is.
        max_batch: Most images in one batch; see `Lane`.
        threads: Processor threads that there are.
    """

    def __init__(self, device: torch.device, max_batch: int, threads: int) -> None:
        runner = _Runner(threads if device.type == "cpu" else 1, f"objloc-{device}-pass")
        # The thread keeps its lane alive, so that holders get a handle.
        self._lane: Lane[Tensor, Features] = Lane(
            runner.run,
            max_batch=max_batch,
            out_of_memory=(torch.OutOfMemoryError, MemoryError),
            prepare=lambda: use_threads(threads),
            name=f"objloc-{device}",
        )
        weakref.finalize(self, _end, self._lane, runner)

    def submit(self, client: Hashable, backbone: Backbone, inputs: Tensor) -> Future[Features]:
        """Ask for the features of one image, float32 [1, 3, Hp, Wp]; see `Lane.submit`."""
        return self._lane.submit(client, _Kind(backbone, inputs.shape), inputs)


@dataclass(frozen=True)
class _Kind:
    """What inputs must agree on to share a pass."""

    backbone: Backbone
    shape: torch.Size


class _Runner:
    """Runs batches, in parts side by side where there are several threads."""

    def __init__(self, threads: int, name: str) -> None:
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        if threads > 1:
            self._pool = ThreadPoolExecutor(threads, name, initializer=lambda: use_threads(1))

    def run(self, kind: _Kind, inputs: list[Tensor]) -> list[Features]:
        """The features of each input."""
        if self._pool is None or len(inputs) == 1:
            return _pass(kind.backbone, inputs)
        parts = [inputs[first :: self._threads] for first in range(min(self._threads, len(inputs)))]
        done = list(self._pool.map(lambda part: _pass(kind.backbone, part), parts))
        return [done[number % len(parts)][number // len(parts)] for number in range(len(inputs))]

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=False)


def _pass(backbone: Backbone, inputs: list[Tensor]) -> list[Features]:
    features = backbone.forward(torch.cat(inputs))
    return [features.image(number) for number in range(len(inputs))]


def _end(lane: Lane[Tensor, Features], runner: _Runner) -> None:
    lane.stop(0.0)
    runner.close()


def use_threads(count: int) -> None:
    """Have what the calling thread computes run on so many threads.

    PyTorch keeps this number for each thread, but overwrites it at the thread's first operation unless it was asked for
    before.
    """
    torch.get_num_threads()
    torch.set_num_threads(count)


_this_thread = threading.local()


def compute_alone() -> None:
    """Have what the calling thread computes run on it alone: the passes have the processors.

    Without it every caller would wake a team of its own.
    """
    if not getattr(_this_thread, "alone", False):
        use_threads(1)
        _this_thread.alone = True
