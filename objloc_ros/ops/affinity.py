"""The graph of an image's patches: who resembles whom, built once per image and multiplied many times.

The matrix of inner products is symmetric, so on a CPU only its upper half is computed, in strips of rows that fit the
cache. Whether a pair lies above a threshold is decided in float64 wherever float32 could go either way: the graph is
the same on every run, thread count and device, and so is what follows from it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from array_api_compat import array_namespace, device
from threadpoolctl import ThreadpoolController
from torch import Tensor


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
            _find_blas().limit(limits=1),
        ):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)


@lru_cache(maxsize=1)
def _find_blas() -> ThreadpoolController:
    """Return the BLAS libraries loaded by now; NumPy's is one of them."""
    return ThreadpoolController().select(user_api="blas")


Array: TypeAlias = Any
"""A NumPy array on the host, where small products cost half as much as torch's, or a tensor on a GPU."""

ONE_STRIP_BELOW = 2048
"""Largest number of patches whose graph is one square on a CPU, too, computed and multiplied in one call."""

STRIP_ROWS = 128
"""Rows per strip of a larger graph."""

BLOCK_PAIRS = 2**16
"""Number of pairs compared with a threshold at a time on a CPU."""

THRESHOLD_TOL = 1e-6
"""Distance from a threshold below which a cosine is computed again in float64; float32 errs by a few 1e-7."""

GRAPH_BYTES = 2**31
"""Memory for the graphs of one batch on a GPU, bytes."""

MAX_SINGLE_PAIRS = 8192
"""Largest number of such pairs computed one by one; with more, their whole block is computed."""


@dataclass(frozen=True)
class Affinity:
    """A batch of symmetric weight matrices `base + scale * links`.

    Args:
        strips: float32 [B, r, N - first] each: rows of the links from the diagonal on, all N rows together.
        base: Weight of every pair, linked or not.
        scale: Factor of the links.
        binary: Whether links are zeros and ones, so that products can be exact.
        active: float64 [B, N], 0 for patches without links (see `without`), or None for all.
    """

    strips: list[Array]
    base: float = 0.0
    scale: float = 1.0
    binary: bool = False
    active: Array | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Number of images B and of patches N."""
        return self.strips[0].shape[0], self.strips[0].shape[2]

    @cached_property
    def degrees(self) -> Array:
        """Row sums, float64 [B, N]."""
        xp = array_namespace(self.strips[0])
        return self.product(xp.ones(self.shape, dtype=xp.float64, device=device(self.strips[0])), fine=not self.binary)

    def product(self, z: Array, *, fine: bool) -> Array:
        """Multiply each matrix by a vector.

        Args:
            z: float64 [B, N].
            fine: Relative errors of about 1e-10 instead of 1e-7, at twice the cost.

        Returns:
            float64 [B, N].
        """
        linked = z if self.active is None else z * self.active
        links = self._multiply_finely(linked) if fine else _multiply(self.strips, linked)
        if self.active is not None:
            links *= self.active
        links *= self.scale
        if self.base:
            links += self.base * z.sum(1)[:, None]
        return links

    def without(self, removed: Array) -> Affinity:
        """Return the graph without any links of some patches, bool [B, N]; the weight `base` remains."""
        xp = array_namespace(removed)
        active = xp.astype(~removed, xp.float64)
        return replace(self, active=active if self.active is None else active * self.active)

    def like(self, array: npt.NDArray[Any]) -> Array:
        """Copy an array to the graph's device, without waiting for it."""
        strip = self.strips[0]
        if not isinstance(strip, Tensor):
            return array
        return torch.from_numpy(array.copy()).to(strip.device, non_blocking=True)

    def to_host(self) -> Affinity:
        """Return the graph in the host's memory, as NumPy arrays."""
        strips = list(to_host(*self.strips))
        return replace(self, strips=strips, active=None if self.active is None else to_host(self.active)[0])

    def dense(self) -> Iterator[Array]:
        """Yield each matrix of the batch as float64 [N, N]."""
        xp, n = array_namespace(self.strips[0]), self.shape[1]
        for i in range(self.shape[0]):
            square = xp.empty((n, n), dtype=xp.float64, device=device(self.strips[0]))
            for first, end, strip in _iterate_strips(self.strips):
                square[first:end, first:] = strip[i]
                square[end:, first:end] = strip[i, :, end - first :].T
            if self.active is not None:
                square *= self.active[i, :, None]
                square *= self.active[i]
            square *= self.scale
            square += self.base
            yield square

    def _multiply_finely(self, z: Array) -> Array:
        """Multiply by the leading digits of `z`, exactly in float32 as links are zeros and ones, then by the remainder.

        Integers below 2^k, k = 24 - log2(N), have sums below 2^24. Links that are no integers are widened to float64.
        """
        xp = array_namespace(z)
        if not self.binary:
            return _multiply([xp.astype(strip, xp.float64) for strip in self.strips], z)
        unit = xp.max(xp.abs(z), axis=1, keepdims=True) / 2 ** (24 - z.shape[1].bit_length()) + 1e-300
        scaled = z / unit
        leading = xp.round(scaled)
        return (_multiply(self.strips, leading) + _multiply(self.strips, scaled - leading)) * unit


def binary_affinity(features: Tensor, tau: float, eps: float) -> Affinity:
    """Weight 1 where the inner product exceeds `tau`, else `eps`; features float32 [B, N, C] of unit length."""
    strips = [to_array(threshold_strip(strip, features, first, tau)) for first, strip in gram_strips(features)]
    return Affinity(strips, base=eps, scale=1 - eps, binary=True)


def thresholded_affinity(features: Tensor, tau: float, eps: float) -> Affinity:
    """Weight by the inner product where it exceeds `tau`, else `eps`; features float32 [B, N, C] of unit length."""
    strips = []
    for first, strip in gram_strips(features):
        beyond = strip - eps
        strips.append(to_array(threshold_strip(strip, features, first, tau).mul_(beyond).add_(eps)))
    return Affinity(strips)


def positive_affinity(features: Tensor) -> Affinity:
    """Weight by the inner product where it is positive, else 0; features float32 [B, N, C] of unit length."""
    return Affinity([to_array(strip.clamp_min_(0)) for _, strip in gram_strips(features)])


def gram_strips(features: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Compute the inner products of all pairs in float32; call it under `exact_arithmetic`.

    Args:
        features: float32 [B, N, C].

    Yields:
        The first row of a strip and its products with all patches from that row on, [B, r, N - first]. Small graphs,
        and all graphs on a GPU, come as one strip.
    """
    n = features.shape[1]
    on_cpu = features.device.type == "cpu"
    if on_cpu and n <= ONE_STRIP_BELOW and torch.get_num_threads() == 1:
        array = features.numpy()
        yield 0, torch.from_numpy(array @ array.transpose(0, 2, 1))  # NumPy sees the symmetry and computes half
    elif not on_cpu or n <= ONE_STRIP_BELOW:
        yield 0, features @ features.mT
    else:
        for first in range(0, n, STRIP_ROWS):
            yield first, features[:, first : first + STRIP_ROWS] @ features[:, first:].mT


def threshold_strip(strip: Tensor, features: Tensor, first: int, tau: float) -> Tensor:
    """Replace the products in a strip of `gram_strips` by 1 where they exceed a threshold, else 0; returns the strip.

    On a CPU it works on a few rows at a time, which stay in the cache.
    """
    rows = strip.shape[1] if strip.device.type != "cpu" else max(1, BLOCK_PAIRS // strip.shape[2])
    for row, block in enumerate(strip.split(rows, dim=1)):
        _decide(block, features, first + row * rows, first, tau)
    return strip


def _decide(block: Tensor, features: Tensor, row: int, column: int, tau: float) -> None:
    """Replace products by zeros and ones in place; `row` and `column` are the patches of the block's first pair."""
    values = to_array(block)
    xp = array_namespace(values)
    maybe, surely = values > tau - THRESHOLD_TOL, values > tau + THRESHOLD_TOL
    values[...] = surely
    (pairs,) = xp.nonzero(xp.reshape(maybe != surely, (-1,)))
    if len(pairs) > MAX_SINGLE_PAIRS:
        tall, wide = features[:, row : row + block.shape[1]].double(), features[:, column:].double()
        block.copy_(tall @ wide.mT > tau)
    elif len(pairs):
        places, (rows, columns) = torch.as_tensor(pairs), block.shape[1:]
        image, i, j = places // (rows * columns), places // columns % rows, places % columns
        products = features[image, row + i].double() * features[image, column + j].double()
        block[image, i, j] = (products.sum(1) > tau).float()


def to_array(tensor: Tensor) -> Array:
    """Return a view of the tensor as a NumPy array on a CPU; on a GPU the tensor itself."""
    return tensor.numpy() if tensor.device.type == "cpu" else tensor


def to_host(*arrays: Array) -> tuple[npt.NDArray[Any], ...]:
    """Return arrays of one device as NumPy arrays: from a GPU all in one copy, for which the host waits once."""
    if not isinstance(arrays[0], Tensor):
        return arrays
    if arrays[0].device.type == "cpu":
        return tuple(tensor.numpy() for tensor in arrays)
    rows = [tensor.clone(memory_format=torch.contiguous_format).flatten() for tensor in arrays]
    contents = torch.cat([row.view(torch.uint8) for row in rows]).cpu().numpy()
    ends = np.cumsum([tensor.nbytes for tensor in arrays])
    return tuple(
        part.copy().view(str(tensor.dtype).removeprefix("torch.")).reshape(tensor.shape)  # aligned by the copy
        for part, tensor in zip(np.split(contents, ends[:-1]), arrays, strict=True)
    )


def split_batch(features: Tensor) -> Iterator[Tensor]:
    """Yield parts of a batch [B, N, C] whose graphs fit `GRAPH_BYTES`; single images on a CPU."""
    size = 1 if features.device.type == "cpu" else max(1, GRAPH_BYTES // (4 * features.shape[1] ** 2))
    if len(features):
        yield from features.split(size)


def _multiply(strips: list[Array], z: Array) -> Array:
    """Multiply a symmetric matrix in strips with a vector [B, N], in the strips' precision: float64 [B, N]."""
    xp = array_namespace(z)
    vector = xp.astype(z, strips[0].dtype)[:, None]  # B 1 N
    if len(strips) == 1:
        return xp.astype((vector @ strips[0])[:, 0], xp.float64)  # B 1 N @ B N N -> B N
    result = xp.zeros_like(vector)  # B 1 N
    for first, end, strip in _iterate_strips(strips):
        result[:, 0, first:end] += (strip @ vector[:, 0, first:, None])[:, :, 0]  # B r N-first @ B N-first 1 -> B r
        result[:, :, end:] += vector[:, :, first:end] @ strip[:, :, end - first :]  # below the diagonal
    return xp.astype(result[:, 0], xp.float64)


def _iterate_strips(strips: list[Array]) -> Iterator[tuple[int, int, Array]]:
    """Yield first row, row after the last, and strip; the part right of the diagonal block also acts transposed."""
    first = 0
    for strip in strips:
        end = first + strip.shape[1]
        yield first, end, strip
        first = end
