"""The worker that runs the backbone passes of one device, and how it uses the processors.

On a GPU the ready frames of several cameras go through in one batch. On a CPU a batch takes as long as its images one
by one, and a pass on two threads is far from twice as fast as on one: there an image that is alone has all threads, for
its latency, and of several each has a thread of its own, for the number of frames.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Hashable
from concurrent.futures import Future
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
        max_batch: Most images in one batch on a GPU.
        threads: Processor threads that there are.
    """

    def __init__(self, device: torch.device, max_batch: int, threads: int) -> None:
        batched = batches_pay(device)
        # The threads keep their lane alive, so that holders get a handle.
        self._lane: Lane[Tensor, Features] = Lane(
            lambda kind, inputs, alone: _run(kind, inputs, threads if alone else 1),
            max_batch=max_batch if batched else 1,
            workers=1 if batched else threads,
            out_of_memory=(torch.OutOfMemoryError, MemoryError),
            name=f"objloc-{device}",
        )
        weakref.finalize(self, self._lane.stop, 0.0)

    def submit(self, client: Hashable, backbone: Backbone, inputs: Tensor) -> Future[Features]:
        """Ask for the features of one image, float32 [1, 3, Hp, Wp]; see `Lane.submit`."""
        return self._lane.submit(client, _Kind(backbone, inputs.shape), inputs)


@dataclass(frozen=True)
class _Kind:
    """What inputs must agree on to share a pass."""

    backbone: Backbone
    shape: torch.Size


def _run(kind: _Kind, inputs: list[Tensor], threads: int) -> list[Features]:
    use_threads(threads)
    features = kind.backbone.forward(torch.cat(inputs))
    return [features.image(number) for number in range(len(inputs))]


def batches_pay(device: torch.device) -> bool:
    """Whether a batch is faster than its images one by one: on a GPU, which one image does not fill."""
    return device.type != "cpu"


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
