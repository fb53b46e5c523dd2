"""Passes in less than float32: products and convolutions of rounded numbers, around what has to stay exact.

PyTorch's autocast does it where the device has units for the type. A CPU without any would take hundreds of times as
long as in float32, so there the same numbers are computed in another way: what goes into a product or a convolution is
rounded, the sum is float32, as in such units, and what comes out is rounded again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

BFLOAT16_CAPABILITY = (8, 0)
"""CUDA compute capability from which on GPUs multiply bfloat16 in hardware."""

_PRODUCTS = (
    *("linear", "addmm", "mm", "bmm", "baddbmm", "matmul", "einsum", "convolution", "conv2d"),
    *("scaled_dot_product_attention", "_scaled_dot_product_flash_attention_for_cpu"),
)
PRODUCTS = frozenset(getattr(torch.ops.aten, name) for name in _PRODUCTS)
"""Operators that multiply; a network's others compute in float32 in either way."""

_this_thread = threading.local()


def has_bfloat16_units(device: torch.device) -> bool:
    """Return whether a device multiplies bfloat16 in hardware; a CPU that does not is slower with it than without."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= BFLOAT16_CAPABILITY
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # absent from older and other builds of torch
    return supported is not None and bool(supported())


@contextmanager
def reduced(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Have networks compute in a type, in this thread.

    Args:
        device: Where they are.
        dtype: float32 changes nothing; float16 is for GPUs.
    """
    if dtype == torch.float32:
        yield
    elif device.type == "cpu" and not has_bfloat16_units(device):
        with _RoundedProducts():
            yield
    else:
        with torch.autocast(device.type, dtype):
            yield


@contextmanager
def exactly(device: torch.device) -> Iterator[None]:
    """Have a network compute what is inside in float32, also where the rest of the pass is reduced."""
    # Without anything to switch off no trace is left in what is exported or compiled.
    is_reduced = device.type in ("cpu", "cuda") and torch.is_autocast_enabled(device.type)
    rounding = None if torch.compiler.is_compiling() else getattr(_this_thread, "rounding", None)
    if rounding is not None:
        rounding.is_paused = True
    try:
        with torch.autocast(device.type, enabled=False) if is_reduced else nullcontext():
            yield
    finally:
        if rounding is not None:
            rounding.is_paused = False


class _RoundedProducts(TorchDispatchMode):
    """Multiplies numbers that are rounded to bfloat16, and rounds the products, in the thread that entered it."""

    is_paused = False

    def __enter__(self) -> _RoundedProducts:
        _this_thread.rounding = self
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        _this_thread.rounding = None
        super().__exit__(*error)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if self.is_paused or func.overloadpacket not in PRODUCTS:
            return func(*args, **(kwargs or {}))
        given, named = tree_map_only(Tensor, _round, (args, dict(kwargs or {})))
        return tree_map_only(Tensor, _round, func(*given, **named))


def _round(tensor: Tensor) -> Tensor:
    return tensor.bfloat16().float() if tensor.dtype == torch.float32 else tensor
