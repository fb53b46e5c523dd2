"""How long the stages of a run take: coarse for every frame, fine where somebody measures."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch


class FineTimings(dict[str, float]):
    """Timings that hold parts of stages, too, and for which the device is waited for at either end of each.

    A GPU works on after its calls have returned, so that plain timings charge a stage's work to whoever waits for it
    first. Frames want it so; who measures does not.

    Args:
        device: What to wait for.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self._device = device

    def settle(self) -> None:
        """Wait for the device."""
        settle(self._device)


def settle(device: torch.device) -> None:
    """Wait until a device has done what it was asked to; a CPU always has."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def timed(timings: dict[str, float], stage: str, images: int) -> Iterator[None]:
    """Add the milliseconds per image that a stage takes.

    Args:
        timings: Milliseconds per image by stage; added to.
        stage: Its name.
        images: Among how many images the time is shared out.
    """
    fine = timings if isinstance(timings, FineTimings) else None
    if fine is not None:
        fine.settle()
    start = time.perf_counter()
    yield
    if fine is not None:
        fine.settle()
    timings[stage] = timings.get(stage, 0.0) + (time.perf_counter() - start) * 1e3 / images


def timed_part(timings: dict[str, float] | None, part: str, images: int) -> AbstractContextManager[None]:
    """As `timed` for a part of a stage, which only fine timings hold."""
    return timed(timings, part, images) if isinstance(timings, FineTimings) else nullcontext()
