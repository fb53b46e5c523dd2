"""How long the stages of a run take: coarse for every frame, fine where somebody measures.

Code that is worth timing says `with stage("vit"):` and knows nothing of who listens. The
times go to the `Stopwatch` that is entered in the same thread, the innermost one; where there is none, nowhere.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


class Stopwatch:
    """Milliseconds per image of the stages that are run while it is entered.

    A GPU works on after its calls have returned, so that coarse times charge a stage's work to whoever waits for it
    first. Frames want it so; who measures gives the device: it is then waited for at either end of each stage, and the
    parts of stages are timed, too.

    Args:
        images: Among how many images the times are shared out.
        device: The device to wait for; None for coarse times.

    Attributes:
        times_ms: Milliseconds per image by stage; what comes again adds up.
    """

    def __init__(self, images: int, device: torch.device | str | None = None) -> None:
        self.times_ms: dict[str, float] = {}
        self.images, self.device = images, device

    def __enter__(self) -> Stopwatch:
        self._token: Token[Stopwatch | None] = _current.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)


_current: ContextVar[Stopwatch | None] = ContextVar("stopwatch", default=None)


@contextmanager
def stage(name: str, *, is_part: bool = False) -> Iterator[None]:
    """Add the time that the body takes to the current stopwatch.

    Args:
        name: Key in `Stopwatch.times_ms`.
        is_part: Whether it is a part of another stage, which only fine times hold.
    """
    stopwatch = _current.get()
    if stopwatch is None or (is_part and stopwatch.device is None):
        yield
        return
    if stopwatch.device is not None:
        synchronize(stopwatch.device)
    start = time.perf_counter()
    yield
    if stopwatch.device is not None:
        synchronize(stopwatch.device)
    spent_ms = (time.perf_counter() - start) * 1e3 / stopwatch.images
    stopwatch.times_ms[name] = stopwatch.times_ms.get(name, 0.0) + spent_ms


def synchronize(device: torch.device | str) -> None:
    """Wait until a device has done what it was asked to; a CPU always has."""
    if str(device).startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)
