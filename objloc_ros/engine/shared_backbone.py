"""Backbone passes shared by the ready frames of several cameras, and by all heads of one frame.

On a GPU the ready frames of several cameras go through in one batch. On a CPU a batch takes as long as its images one
by one, and a pass on two threads is far from twice as fast as on one: there an image that is alone has all threads, for
its latency, and of several each has a thread of its own, for the number of frames.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Hashable, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass

import torch
from torch import Tensor

from objloc_ros.engine.backbone import Backbone, Encoded
from objloc_ros.engine.batcher import DynamicBatcher
from objloc_ros.engine.latest_slot import SHUTDOWN, FrameDroppedError
from objloc_ros.engine.timings import stage
from objloc_ros.errors import ParameterError
from objloc_ros.ops.geometry import Geometry
from objloc_ros.types import Features, Image, check_image, size_of


class FeatureCache:
    """Features of the images whose keys somebody still holds; they go with the last holder of the key."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._passes: weakref.WeakKeyDictionary[Hashable, dict[Hashable, Future[Features]]] = (
            weakref.WeakKeyDictionary()
        )

    def claim(self, key: Hashable, features: Hashable) -> tuple[Future[Features], bool]:
        """Ask for features of an image.

        Args:
            key: What stands for the image.
            features: Which of the features under that key.

        Returns:
            Where they will be, and whether it is the caller who must provide them.

        Raises:
            ParameterError: If the key cannot be referenced weakly.
        """
        with self._lock:
            try:
                passes = self._passes.setdefault(key, {})
            except TypeError as error:
                raise ParameterError(
                    f"a key must be hashable and weakly referenced, got {key!r} ({error}); take the object that the "
                    "callers have in common, such as the frame"
                ) from error
            is_new = features not in passes
            return passes.setdefault(features, Future()), is_new

    def __len__(self) -> int:
        return len(self._passes)


class SharedBackbone(Backbone):
    """One client's view of a backbone whose passes are shared.

    Args:
        backbone: Runs the passes; clients of the same backbone share them where their sizes agree.
        batcher: The one of its device.
        cache: Features of current images.
        client: Who asks, for fairness: a camera.
        short_side: This client's; see `Backbone`.
    """

    def __init__(
        self, backbone: Backbone, batcher: PassBatcher, cache: FeatureCache, *, client: Hashable, short_side: int | None
    ) -> None:
        super().__init__(
            backbone.vit,
            name=backbone.name,
            device=backbone.device,
            short_side=short_side,
            precision=backbone.precision,
        )
        self._backbone, self._batcher, self._cache, self._client = backbone, batcher, cache, client

    def encode(self, images: Sequence[Image], key: Hashable | None = None) -> Encoded:
        """As `Backbone.encode`; `vit` is the time until the shared pass was done, waiting included.

        Args:
            images: RGB uint8 [H, W, 3] each.
            key: What stands for these images in their order: whoever gives the same key shares their passes, and the
                features are kept as long as somebody holds the key. None shares with nobody.

        Raises:
            InputError: If an image is empty or not RGB uint8.
            OutOfMemoryError: If the device has no room for a single image.
            FrameDroppedError: If the engine was stopped meanwhile.
        """
        use_one_thread()
        with stage("pre"):
            asked = [self._ask(image, key, number) for number, image in enumerate(images)]
        with stage("vit"):
            try:
                rows = [future.result() for future, _ in asked]
            except CancelledError:
                raise FrameDroppedError(SHUTDOWN) from None
        return Encoded(_concatenate(rows), [geometry for _, geometry in asked])

    def _ask(self, image: Image, key: Hashable | None, number: int) -> tuple[Future[Features], Geometry]:
        check_image(image)
        geometry = self.geometry(size_of(image))
        if key is None:
            return self._submit(image), geometry
        shared, is_new = self._cache.claim(key, (self._backbone, geometry, number))
        if is_new:
            try:
                submitted = self._submit(image)
            except BaseException as error:
                shared.set_exception(error)
                raise
            submitted.add_done_callback(lambda done: _pass_on(done, shared))
        return shared, geometry

    def _submit(self, image: Image) -> Future[Features]:
        inputs, _ = self.prepare([image])
        return self._batcher.submit(self._client, self._backbone, inputs)


def _pass_on(done: Future[Features], shared: Future[Features]) -> None:
    if done.cancelled():
        shared.cancel()
    elif (error := done.exception()) is not None:
        shared.set_exception(error)
    else:
        shared.set_result(done.result())


def _concatenate(rows: Sequence[Features]) -> Features:
    if len(rows) == 1:
        return rows[0]
    keys, queries, values, attention = (
        torch.cat([getattr(row, name) for row in rows]) for name in ("keys", "queries", "values", "cls_attention")
    )
    answers = {name: torch.cat([row.answers[name] for row in rows]) for name in rows[0].answers}
    return Features(keys, queries, values, attention, rows[0].grid, answers)


class PassBatcher:
    """Batches the passes of one device until the last holder of this object lets it go.

    Args:
        device: Where the passes run.
        max_batch: Most images in one batch on a GPU.
        threads: Processor threads that there are.
    """

    def __init__(self, device: torch.device, max_batch: int, threads: int) -> None:
        batched = batches_pay(device)
        # The threads keep their batcher alive, so holders get this handle instead.
        self._batcher: DynamicBatcher[Tensor, Features] = DynamicBatcher(
            lambda kind, inputs, exclusive: _run(kind, inputs, threads if exclusive else 1),
            max_batch=max_batch if batched else 1,
            workers=1 if batched else threads,
            out_of_memory=(torch.OutOfMemoryError, MemoryError),
            name=f"objloc-{device}",
        )
        weakref.finalize(self, self._batcher.stop, 0.0)

    def submit(self, client: Hashable, backbone: Backbone, inputs: Tensor) -> Future[Features]:
        """Request the features of one image, float32 [1, 3, Hp, Wp]; see `DynamicBatcher.submit`."""
        return self._batcher.submit(client, _PassKind(backbone, inputs.shape), inputs)


@dataclass(frozen=True)
class _PassKind:
    """What inputs must agree on to share a pass."""

    backbone: Backbone
    shape: torch.Size


def _run(kind: _PassKind, inputs: list[Tensor], threads: int) -> list[Features]:
    use_threads(threads)
    features = kind.backbone.forward(torch.cat(inputs))
    return [features.image(number) for number in range(len(inputs))]


def batches_pay(device: torch.device) -> bool:
    """Return whether a batch is faster than its images one by one: on a GPU, which one image does not fill."""
    return device.type != "cpu"


def use_threads(count: int) -> None:
    """Have PyTorch compute the calling thread's operations on this number of threads.

    PyTorch keeps this number for each thread, but overwrites it at the thread's first operation unless it was asked for
    before.
    """
    torch.get_num_threads()
    torch.set_num_threads(count)


_this_thread = threading.local()


def use_one_thread() -> None:
    """Have PyTorch compute the calling thread's operations on that thread: the passes need the other processors.

    Otherwise every caller would wake a thread pool of its own.
    """
    if not getattr(_this_thread, "uses_one", False):
        use_threads(1)
        _this_thread.uses_one = True
