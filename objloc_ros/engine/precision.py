"""In what precision the networks look at images: what `auto` stands for on a device, and what a device refuses.

Only passes are reduced, see `backbones.reduced`: weights, inputs and features are float32, and so is everything that
follows from them. Similarities, degrees, eigenvectors and decisions are computed in float32 or float64.
"""

from __future__ import annotations

import torch

from objloc_ros.backbones.reduced import has_bfloat16_units
from objloc_ros.errors import ParameterError


def choose_dtype(precision: str, device: torch.device, *, pays_on_cpu: bool) -> torch.dtype:
    """Return what a network's pass computes in.

    Args:
        precision: "auto", "float32", "bfloat16" or "float16". "auto" is bfloat16 on GPUs that have it and float16 on
            older ones; on CPUs bfloat16 where they have units for it and the network is known to gain, else float32.
        device: Where it runs.
        pays_on_cpu: Whether the network is one of those.

    Raises:
        ParameterError: For float16 on a CPU: few have units for it, and PyTorch lacks kernels elsewhere.
    """
    if precision == "float16" and device.type == "cpu":
        raise ParameterError("precision float16 is for GPUs, and this is a CPU: choose bfloat16, float32 or auto")
    if precision != "auto":
        chosen: torch.dtype = getattr(torch, precision)
        return chosen
    if device.type == "cuda":
        return torch.bfloat16 if has_bfloat16_units(device) else torch.float16
    return torch.bfloat16 if pays_on_cpu and has_bfloat16_units(device) else torch.float32


def name_dtype(dtype: torch.dtype) -> str:
    """Return a type's name, such as "bfloat16"."""
    return str(dtype).removeprefix("torch.")


def forbid_tf32() -> None:
    """Have this process's GPUs compute float32 convolutions and products as float32.

    PyTorch's default for convolutions is TF32, which has ten bits of a number: FOUND's head is one, and what it says is
    a decision.
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
