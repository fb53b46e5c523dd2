"""Where the networks run."""

from __future__ import annotations

import torch

from objloc_ros.errors import ParameterError


def resolve_device(device: str) -> torch.device:
    """The torch device behind "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        ParameterError: If the name is not one of these or there is no such GPU.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, _, index = device.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise ParameterError(f"device must be auto, cpu, cuda or cuda:N, got {device!r}")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise ParameterError(f"device {device!r} is not there: {torch.cuda.device_count()} CUDA devices found")
    return torch.device(device)


def has_bfloat16_units(device: torch.device) -> bool:
    """Whether a device is a CPU that multiplies bfloat16 in hardware; elsewhere it is slower than float32.

    GPUs stay at float32: nothing was measured there.
    """
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # absent from older and other builds of torch
    return device.type == "cpu" and supported is not None and bool(supported())
