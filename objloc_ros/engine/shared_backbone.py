"""Backbone passes that are shared: by the ready frames of several cameras, and by all heads of one frame.

On a GPU the ready frames of several cameras go through in one batch. On a CPU a batch takes as long as its images one
by one, and a pass on two threads is far from twice as fast as on one: there an image that is alone has all threads, for
its latency, and of several each has a thread of its own, for the number of frames.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass

import torch
from torch import Tensor

from objloc_ros.engine.backbone import Backbone, Encoded
from objloc_ros.engine.batcher import Lane
from objloc_ros.engine.latest_slot import SHUTDOWN, FrameDroppedError
from objloc_ros.engine.timings import timed
from objloc_ros.ops.geometry import Geometry
from objloc_ros.types import Features, Image, check_image, size_of


class PassMemory:
    """Features of the images that somebody still holds; they go when the last holder lets the image go.

    Images are known by identity, and only those that cannot change: an array that is written again would be taken for
    the picture before.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[int, tuple[weakref.ref[Image], dict[Hashable, Future[Features]]]] = {}

    def claim(self, image: Image, key: Hashable) -> tuple[Future[Features], bool]:
        """Ask for the features of an image.

        Args:
            image: RGB uint8 [H, W, 3].
            key: Which features.

        Returns:
            Where they will be, and whether it is the caller who must provide them.
        """
        if image.flags.writeable:
            return Future(), True
        with self._lock:
            if id(image) not in self._known:
                self._known[id(image)] = (weakref.ref(image, self._forgetting(id(image))), {})
            passes = self._known[id(image)][1]
            if key in passes:
                return passes[key], False
            passes[key] = Future()
            return passes[key], True

    def __len__(self) -> int:
        return len(self._known)

    def _forgetting(self, number: int) -> Callable[[weakref.ref[Image]], None]:
        # A method would keep this object alive. The lock is left alone: a collection may come while it is held.
        known = self._known

        def forget(_: weakref.ref[Image]) -> None:
            known.pop(number, None)

        return forget


class SharedBackbone(Backbone):
    """One caller's view of a backbone whose passes are shared.

    Args:
        backbone: What runs the passes; callers with the same one share them where their sizes agree.
        lane: The worker of its device.
        memory: What is known of current images.
        client: Who asks, for fairness: a camera.
        short_side: This caller's; see `Backbone`.
    """

    def __init__(
        self, backbone: Backbone, lane: PassLane, memory: PassMemory, *, client: Hashable, short_side: int | None
    ) -> None:
        super().__init__(backbone.vit, name=backbone.name, device=backbone.device, short_side=short_side)
        self._backbone, self._lane, self._memory, self._client = backbone, lane, memory, client

    def encode(self, images: Sequence[Image], timings: dict[str, float] | None = None) -> Encoded:
        """As `Backbone.encode`; `vit` is the time until the shared pass was done, waiting included.

        Raises:
            InputError: If an image is empty or not RGB uint8.
            OutOfMemoryError: If the device has no room for a single image.
            FrameDroppedError: If the engine was stopped meanwhile.
        """
        timings = {} if timings is None else timings
        compute_alone()
        with timed(timings, "pre", len(images)):
            asked = [self._ask(image, timings, len(images)) for image in images]
        with timed(timings, "vit", len(images)):
            try:
                rows = [future.result() for future, _ in asked]
            except CancelledError:
                raise FrameDroppedError(SHUTDOWN) from None
        return Encoded(_joined(rows), [geometry for _, geometry in asked])

    def _ask(self, image: Image, timings: dict[str, float], images: int) -> tuple[Future[Features], Geometry]:
        check_image(image)
        geometry = self.geometry(size_of(image))
        answer, ours = self._memory.claim(image, (self._backbone, geometry))
        if ours:
            try:
                inputs, _ = self.prepare(image, timings, images)
                asked = self._lane.submit(self._client, self._backbone, inputs)
            except BaseException as error:
                answer.set_exception(error)
                raise
            asked.add_done_callback(lambda done: _pass_on(done, answer))
        return answer, geometry


def _pass_on(done: Future[Features], answer: Future[Features]) -> None:
    if done.cancelled():
        answer.cancel()
    elif (error := done.exception()) is not None:
        answer.set_exception(error)
    else:
        answer.set_result(done.result())


def _joined(rows: Sequence[Features]) -> Features:
    if len(rows) == 1:
        return rows[0]
    keys, queries, values, attention = (
        torch.cat([getattr(row, name) for row in rows]) for name in ("keys", "queries", "values", "cls_attention")
    )
    return Features(keys, queries, values, attention, rows[0].grid)


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
