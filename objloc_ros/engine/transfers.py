"""Images go up to a device, and answers come down, while the device works: nobody waits for more than one copy.

An image goes up as bytes through a ring of pinned buffers, on a stream of its own; the stream that computes waits for
the copy, the caller does not. What orders all this are events, and nothing else:

- the computing stream reads an image after the event of its copy;
- a pinned buffer is written again after the event of the copy that reads it, for which alone a caller may have to wait;
- a device buffer is written again after the event of the computation that reads it;
- an answer is read after the event of its own copy.

A CPU has no use for any of it: there images are resized by OpenCV, and answers are where they should be.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from objloc_ros.engine.timings import stage
from objloc_ros.errors import ParameterError
from objloc_ros.ops.device_input import DeviceInput
from objloc_ros.ops.geometry import Geometry, Triple
from objloc_ros.ops.inputs import to_input
from objloc_ros.types import Image

SLOTS = 4
"""Images, or batches of them, that are on their way to a device at a time."""


class Event(Protocol):
    """A place in a stream, as torch.cuda.Event is."""

    def synchronize(self) -> None:
        """Wait until the stream has come to it."""
        ...


class Stream(Protocol):
    """Work that a device does in the order in which it was asked to, as torch.cuda.Stream is."""

    def record_event(self) -> Any:
        """Mark the end of what it has been asked to do: an `Event`."""
        ...

    def wait_event(self, event: Any) -> None:
        """Do nothing that it is asked to from now on before another stream has come to an event."""
        ...


class Link(Protocol):
    """What is between the host's memory and a device's.

    Attributes:
        device: The device.
        copies: The stream on which images go up.
    """

    device: torch.device
    copies: Stream

    def computing(self) -> Stream:
        """Return the stream on which the calling thread computes."""
        ...

    def reserve_host(self, size: int) -> Tensor:
        """Reserve uint8 [size] that the device can read and write by itself."""
        ...

    def reserve_device(self, size: int) -> Tensor:
        """Reserve uint8 [size] on the device, for work that the computing stream is asked for from now on."""
        ...

    def copy(self, target: Tensor, source: Tensor, stream: Stream) -> None:
        """Ask a stream to copy between the two; returns at once."""
        ...


class CudaLink:
    """PyTorch's own streams, events and pinned memory.

    Args:
        device: A GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.copies: Stream = torch.cuda.Stream(device)

    def computing(self) -> Stream:
        """Return PyTorch's current stream, by default one for all threads."""
        return torch.cuda.current_stream(self.device)

    def reserve_host(self, size: int) -> Tensor:
        """Reserve pinned memory."""
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)

    def reserve_device(self, size: int) -> Tensor:
        """Reserve the GPU's memory."""
        return torch.empty(size, dtype=torch.uint8, device=self.device)

    def copy(self, target: Tensor, source: Tensor, stream: Stream) -> None:
        """Copy without waiting."""
        with torch.cuda.stream(cast(torch.cuda.Stream, stream)):
            target.copy_(source, non_blocking=True)


class _Slot:
    """A buffer on the host and one on the device, and the events after which they may be written."""

    def __init__(self) -> None:
        self.host: Tensor | None = None
        self.device: Tensor | None = None
        self.copied: Event | None = None
        self.read: Event | None = None


class UploadRing:
    """A bounded number of buffers through which images reach a device; any number of threads may use it.

    Args:
        link: To the device.
        slots: Number of buffers, at least 1.

    Raises:
        ParameterError: If `slots` is below 1.
    """

    def __init__(self, link: Link, slots: int = SLOTS) -> None:
        if slots < 1:
            raise ParameterError(f"slots must be at least 1, got {slots}")
        self._link = link
        self._changed = threading.Condition()
        self._free = deque(_Slot() for _ in range(slots))

    @contextmanager
    def send(self, images: Sequence[Image]) -> Iterator[Tensor]:
        """Send images of one size up; inside the block, what the thread's stream is asked to do finds them there.

        Args:
            images: RGB uint8 [H, W, 3] each.

        Yields:
            uint8 [B, H, W, 3] on the device, written again after the block.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._free)
            slot = self._free.popleft()  # free for the longest: its copy has most likely passed
        try:
            with stage("upload", is_part=True):
                pixels = self._copy(slot, images)
            computing = self._link.computing()
            computing.wait_event(slot.copied)
            try:
                yield pixels
            finally:
                slot.read = computing.record_event()
        finally:
            with self._changed:
                self._free.append(slot)
                self._changed.notify()

    def _copy(self, slot: _Slot, images: Sequence[Image]) -> Tensor:
        """Have images copied by way of a slot: uint8 [B, H, W, 3] on the device, there after the event `copied`."""
        shape = (len(images), *images[0].shape)
        size = int(np.prod(shape))
        if slot.copied is not None:
            slot.copied.synchronize()
        host, device = self._fit(slot, size)
        for target, image in zip(host[:size].numpy().reshape(shape), images, strict=True):
            target[:] = image
        copies = self._link.copies
        if slot.read is not None:
            copies.wait_event(slot.read)
        self._link.copy(device[:size], host[:size], copies)
        slot.copied = copies.record_event()
        return device[:size].view(shape)

    def _fit(self, slot: _Slot, size: int) -> tuple[Tensor, Tensor]:
        """Return buffers for so many bytes, larger ones if need be; a slot that cannot grow has none."""
        if slot.host is not None and slot.device is not None and len(slot.host) >= size:
            return slot.host, slot.device
        if slot.read is not None:
            slot.read.synchronize()  # memory that is let go belongs to whoever asks for it next
        slot.host = slot.device = None
        host, device = self._link.reserve_host(size), self._link.reserve_device(size)
        slot.host, slot.device = host, device
        slot.read = self._link.computing().record_event()  # after whatever had the memory before
        return host, device


class Transfers(Protocol):
    """How images get to a device, and answers from there."""

    def prepare(
        self,
        images: Sequence[Image],
        geometries: Sequence[Geometry],
        mean: Triple,
        std: Triple,
        *,
        black: bool = False,
    ) -> Tensor:
        """Resize, normalise and pad images that share one padded size, see `inputs.to_input`.

        Args:
            images: RGB uint8 [H, W, 3] each.
            geometries: One for each image.
            mean: Channel means in [0, 1] units.
            std: Channel standard deviations in [0, 1] units.
            black: Pad before normalisation; else after it, with zeros.

        Returns:
            float32 [B, 3, Hp, Wp] on the device.
        """
        ...

    def fetch(self, answer: Tensor) -> Tensor:
        """Return a tensor of the device on the CPU, once it is there."""
        ...


class CpuTransfers:
    """Images are prepared by OpenCV, one by one."""

    def prepare(
        self,
        images: Sequence[Image],
        geometries: Sequence[Geometry],
        mean: Triple,
        std: Triple,
        *,
        black: bool = False,
    ) -> Tensor:
        """As `Transfers.prepare`."""
        prepared = [
            to_input(image, geometry, mean, std, black=black)
            for image, geometry in zip(images, geometries, strict=True)
        ]
        return prepared[0] if len(prepared) == 1 else torch.cat(prepared)

    def fetch(self, answer: Tensor) -> Tensor:
        """Return the tensor itself."""
        return answer


class DeviceTransfers:
    """Images go up as they are, and are prepared on the device.

    Args:
        link: To the device.
        slots: See `UploadRing`.
    """

    def __init__(self, link: Link, slots: int = SLOTS) -> None:
        self._link = link
        self._ring = UploadRing(link, slots)
        self._make_input = DeviceInput(link.device)

    @torch.inference_mode()  # buffers are written again: all of them are of one kind, whoever calls
    def prepare(
        self,
        images: Sequence[Image],
        geometries: Sequence[Geometry],
        mean: Triple,
        std: Triple,
        *,
        black: bool = False,
    ) -> Tensor:
        """As `Transfers.prepare`; images of one size, in a row, go up together. Does not wait for the device."""
        inputs = []
        for geometry, pairs in groupby(zip(geometries, images, strict=True), key=lambda pair: pair[0]):
            with self._ring.send([image for _, image in pairs]) as pixels:
                inputs.append(self._make_input(pixels, geometry, mean, std, black=black))
        return inputs[0] if len(inputs) == 1 else torch.cat(inputs)

    @torch.inference_mode()
    def fetch(self, answer: Tensor) -> Tensor:
        """As `Transfers.fetch`; waits for this copy alone, not for what the device was asked to do after it."""
        answer = answer.contiguous()
        computing = self._link.computing()
        host = self._link.reserve_host(answer.nbytes).view(answer.dtype).view(answer.shape)
        self._link.copy(host, answer, computing)
        computing.record_event().synchronize()
        return host.clone()  # pinned memory is scarce, and results are kept


_LOCK = threading.Lock()
_BY_DEVICE: weakref.WeakValueDictionary[torch.device, DeviceTransfers] = weakref.WeakValueDictionary()
_ON_CPU = CpuTransfers()


def transfers_of(device: torch.device) -> Transfers:
    """Return the transfers of a device, one for all that hold it at a time."""
    if device.type == "cpu":
        return _ON_CPU
    if device.index is None:
        device = torch.device(device.type, torch.cuda.current_device())
    with _LOCK:
        transfers = _BY_DEVICE.get(device)
        if transfers is None:
            transfers = _BY_DEVICE[device] = DeviceTransfers(CudaLink(device))
        return transfers
