"""A stand-in for a GPU: tensors that claim to be on one, held by the CPU, and a count of what a GPU would be asked.

Tensors on two devices do not mix, nothing comes back without being counted, and NumPy is refused, as on a real one.
What is counted is what PyTorch dispatches: an operation is about one kernel, and says nothing of how long it takes.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

GPU = torch.device("meta")
"""PyTorch takes this device without a driver; what is made there has no values but in the stand-in."""

aten = torch.ops.aten

WAITS = {
    aten._local_scalar_dense,
    aten.nonzero,
    aten.is_nonzero,
    aten.equal,
    aten.masked_select,
    aten.repeat_interleave,
    aten._unique2,
    aten._linalg_eigh,
    aten.linalg_eigh,
}
"""Operations for which the host waits: their result or its shape is a value, or (LAPACK's) they report an error."""


class OnGpu(Tensor):
    """A tensor `held` by the CPU in its stead."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> OnGpu:
        made: OnGpu = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=GPU,
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Refuse to work where nobody counts."""
        raise AssertionError(f"{func} on the stand-in for a GPU outside of `StandIn`")


class StandIn(TorchDispatchMode):
    """Counts what is asked of the stand-in while it is entered.

    Attributes:
        launches: Operations on the device, views not counted.
        waits: Times that the host waits for the device, by the operation; copies to the host are "copy".
        uploads: Copies from the host to the device.
    """

    def __init__(self) -> None:
        super().__init__()
        self.launches, self.uploads = 0, 0
        self.waits: Counter[str] = Counter()

    @property
    def counts(self) -> tuple[int, int, int]:
        """Launches, waits and uploads."""
        return self.launches, self.waits.total(), self.uploads

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation on what the CPU holds."""
        kwargs = dict(kwargs or {})
        target = kwargs.get("device")
        tensors = [leaf for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, Tensor)]
        on_gpu = any(isinstance(tensor, OnGpu) for tensor in tensors)
        if target is not None:
            kwargs["device"] = torch.device("cpu")
        stays = torch.device(target or (GPU if on_gpu else "cpu")).type == GPU.type
        if func.overloadpacket is aten.copy_:
            stays = isinstance(args[0], OnGpu)
        if not on_gpu and not stays:
            return func(*args, **kwargs)
        self._note(func, args, tensors, on_gpu, stays)
        made = func(*tree_map(_held, args), **tree_map(_held, kwargs))
        if not stays:
            return made.clone() if func.overloadpacket is aten._to_copy else made
        wrapped = tree_map(lambda leaf: OnGpu(leaf) if isinstance(leaf, Tensor) else leaf, made)
        return return_and_correct_aliasing(func, args, kwargs, wrapped) if on_gpu else wrapped

    def _note(self, func: Any, args: Any, tensors: list[Tensor], on_gpu: bool, stays: bool) -> None:
        packet = func.overloadpacket
        mixed = on_gpu and any(not isinstance(tensor, OnGpu) and tensor.ndim for tensor in tensors)
        if packet in (aten._to_copy, aten.copy_) and not stays:
            self.waits["copy"] += 1
        elif (packet in (aten._to_copy, aten.copy_) and not all(isinstance(t, OnGpu) for t in tensors)) or (
            packet is aten.lift_fresh and not on_gpu
        ):
            self.uploads += 1
        elif packet in (aten.index, aten.index_put_, aten.index_put):
            indices = [index for index in args[1] if index is not None]
            self.uploads += sum(not isinstance(index, OnGpu) for index in indices)
            if any(index.dtype == torch.bool for index in indices):
                self.waits["bool index"] += 1
            self.launches += 1
        elif mixed:
            raise RuntimeError(f"{func}: expected all tensors on one device")
        elif packet in WAITS:
            self.waits[packet.__name__] += 1
            self.launches += packet is not aten._local_scalar_dense  # a copy
        elif not _is_view(func):
            self.launches += 1


def _is_view(func: Any) -> bool:
    returned = func._schema.returns
    return bool(returned) and returned[0].alias_info is not None and not returned[0].alias_info.is_write


def _held(leaf: Any) -> Any:
    return leaf.held if isinstance(leaf, OnGpu) else leaf
