"""How fast a device multiplies matrices and copies memory: measured beside the frames, as the floor's measure."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch

from objloc_ros.engine.timings import settle
from objloc_ros.evaluation.speed.floor import Gemm, Work

COPY_BYTES = 2**26
"""Size of the copied buffer, beyond the caches of a core."""

MOST_CALLS, ENOUGH_S = 20, 0.01
"""Of one product or copy in a round: at most so many, and none after so many seconds but the second."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Product:
    """A matrix product on a device.

    Args:
        device: Where.
        dtype: A key of `DTYPES`.
        gemm: Its size.
    """

    device: str
    dtype: str
    gemm: Gemm


class Rates:
    """The best rates seen, of the products that were asked for.

    Args:
        products: What to measure; copies are measured on each of their devices.
    """

    def __init__(self, products: Iterable[Product]) -> None:
        self._probes: dict[Product | str, Callable[[], None]] = {}
        for product in products:
            self._probes[product] = _product(product)
            self._probes.setdefault(product.device, _copy(product.device))
        self._best_s = dict.fromkeys(self._probes, float("inf"))

    def measure(self) -> None:
        """Run everything some times, so that the caches are warm; the best time of each stays."""
        for key, probe in self._probes.items():
            device = torch.device(key if isinstance(key, str) else key.device)
            begin = time.perf_counter()
            for number in range(MOST_CALLS):
                settle(device)
                start = time.perf_counter()
                probe()
                settle(device)
                end = time.perf_counter()
                self._best_s[key] = min(self._best_s[key], end - start)
                if number and end - begin > ENOUGH_S:
                    break

    def flops_per_s(self, product: Product) -> float:
        """Operations per second of a product."""
        return product.gemm.flops / self._best_s[product]

    def bytes_per_s(self, device: str) -> float:
        """Bytes read and written per second by a copy."""
        return 2 * COPY_BYTES / self._best_s[device]

    def floor_ms(self, work: Work, product: Product, batch: int) -> float:
        """Milliseconds per image that the work takes at least: its operations or its bytes, whichever take longer.

        Args:
            work: What has to be computed.
            product: The product at whose rate it may be.
            batch: Images of one call.
        """
        by_flops = work.flops / self.flops_per_s(product)
        by_bytes = work.bytes(batch) / self.bytes_per_s(product.device)
        return 1e3 * max(by_flops, by_bytes)

    def listed(self) -> list[dict[str, object]]:
        """All rates, ready for JSON: GFLOP/s of each product, GB/s of each device's copy."""
        rows: list[dict[str, object]] = []
        for key in self._probes:
            if isinstance(key, str):
                rows.append({"device": key, "copy_gb_per_s": self.bytes_per_s(key) / 1e9})
            else:
                size = [key.gemm.rows, key.gemm.inner, key.gemm.columns]
                rate = self.flops_per_s(key) / 1e9
                rows.append({"device": key.device, "dtype": key.dtype, "gemm": size, "gflop_per_s": rate})
        return rows


def _product(product: Product) -> Callable[[], None]:
    gemm, dtype, device = product.gemm, DTYPES[product.dtype], product.device
    a = torch.rand(gemm.rows, gemm.inner, dtype=dtype, device=device)
    b = torch.rand(gemm.inner, gemm.columns, dtype=dtype, device=device)
    c = torch.empty(gemm.rows, gemm.columns, dtype=dtype, device=device)

    def run() -> None:
        torch.mm(a, b, out=c)

    return run


def _copy(device: str) -> Callable[[], None]:
    source = torch.ones(COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)

    def run() -> None:
        target.copy_(source)

    return run
