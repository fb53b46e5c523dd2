"""Arithmetic that does not depend on what the process has switched on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import torch
from threadpoolctl import ThreadpoolController


@contextmanager
def exact_arithmetic() -> Iterator[None]:
    """Multiply float32 matrices as float32, and in NumPy on one thread; usable as a decorator.

    LOST's and TokenCut's decisions are signs of sums: in TF32 or bfloat16 some of them come out differently. NumPy
    multiplies matrices by vectors here, which a second thread does not make faster, and its own pool of threads would
    come on top of torch's, which the user has limited.
    """
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with (
            torch.autocast("cpu", enabled=False),
            torch.autocast("cuda", enabled=False),
            _blas().limit(limits=1),
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)


@lru_cache(maxsize=1)
def _blas() -> ThreadpoolController:
    """The BLAS libraries loaded by now; NumPy's is."""
    return ThreadpoolController().select(user_api="blas")
