"""The fast bilateral solver (Barron & Poole, "The Fast Bilateral Solver", ECCV 2016), as TokenCut and FOUND use it.

A target map is smoothed over the image's bilateral grid: pixels fall into cells of position and colour, and the cells
are tied to their neighbours. The result equals the usual float-hash formulation to rounding; the grid is found by one
integer sort, and no step calls a threaded BLAS routine, so solvers may run side by side in several processes.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix, diags

from objloc_ros.errors import InputError, ParameterError
from objloc_ros.ops.regions import BoolMap, components, fill_holes
from objloc_ros.types import check_image

Floats = npt.NDArray[np.float64]

_RGB_TO_YUV = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
_YUV_OFFSET = np.array([[0.0], [128.0], [128.0]])
_SMOOTHNESS = 256.0
_CONFIDENCE = 0.999
_BISTOCHASTIC_STEPS = 10
_CG_STEPS = 25
_CG_TOLERANCE = 1e-5
_BLOCK = 8192


class BilateralGrid:
    """The bilateral grid of one image, ready to smooth any number of targets.

    Args:
        image_rgb_u8: RGB uint8 [H, W, 3].
        sigma_spatial: Cell side in pixels.
        sigma_luma: Cell side in luma levels (0..255).
        sigma_chroma: Cell side in chroma levels (0..255).

    Raises:
        InputError: If the image is not a non-empty RGB uint8 array.
        ParameterError: If a sigma is below 1.
    """

    def __init__(
        self,
        image_rgb_u8: npt.NDArray[np.uint8],
        *,
        sigma_spatial: float = 16,
        sigma_luma: float = 16,
        sigma_chroma: float = 8,
    ) -> None:
        check_image(image_rgb_u8)
        if not min(sigma_spatial, sigma_luma, sigma_chroma) >= 1:
            raise ParameterError(f"sigmas must be at least 1, got {(sigma_spatial, sigma_luma, sigma_chroma)}")
        self.shape = image_rgb_u8.shape[:2]
        cells, steps = _cell_keys(image_rgb_u8, sigma_spatial, sigma_luma, sigma_chroma)
        keys, self._vertex = _unique(cells)
        self._counts = np.bincount(self._vertex).astype(np.float64)
        self._system = _system(_neighbours(keys, steps), self._counts)
        self._preconditioner = 1.0 / np.maximum(self._system.diagonal(), 1e-5)

    def __len__(self) -> int:
        """Count the occupied cells."""
        return len(self._counts)

    def solve(self, target: npt.NDArray[Any]) -> Floats:
        """Smooth a target over the grid.

        Args:
            target: bool or float [H, W], in [0, 1].

        Returns:
            float64 [H, W], not clamped.

        Raises:
            InputError: If the target is not finite or not of the image's size.
        """
        if target.shape != self.shape or not np.isfinite(target).all():
            raise InputError(f"expected a finite target of shape {self.shape}, got shape {target.shape}")
        sums = np.bincount(self._vertex, weights=target.ravel()).astype(np.float64, copy=False)
        cells = _conjugate_gradient(self._system, _CONFIDENCE * sums, sums / self._counts, self._preconditioner)
        return cells[self._vertex].reshape(self.shape)


def solve(
    image_rgb_u8: npt.NDArray[np.uint8],
    target: npt.NDArray[Any],
    *,
    sigma_spatial: float = 16,
    sigma_luma: float = 16,
    sigma_chroma: float = 8,
) -> Floats:
    """Smooth a target along an image's edges; see `BilateralGrid` for arguments and errors.

    Returns:
        float64 [H, W] soft map, not clamped.
    """
    grid = BilateralGrid(image_rgb_u8, sigma_spatial=sigma_spatial, sigma_luma=sigma_luma, sigma_chroma=sigma_chroma)
    return grid.solve(target)


def binary(soft: Floats, *, keep: Literal["largest", "all"] = "largest") -> BoolMap:
    """Make a mask of the solver's output: above 0.5, holes filled, then selected by component.

    The original rules are kept with their quirks, because acceptance by IoU is built on them. The background counts as
    one more component and is taken for the biggest, so an object larger than the background is swapped for it.

    Args:
        soft: float [H, W] from `solve`.
        keep: "largest" keeps the second largest component, background included (all True if there is only background);
            "all" keeps everything but the largest.

    Returns:
        bool [H, W]. Among equal sizes the lowest label counts as larger, the background first.
    """
    regions = components(fill_holes(soft > 0.5))
    sizes = np.concatenate(([soft.size - regions.areas.sum()], regions.areas))
    by_size = np.argsort(-sizes, kind="stable")
    if keep == "all":
        return regions.labels != by_size[0]
    return regions.labels == by_size[1] if len(regions) else np.ones(soft.shape, dtype=bool)


def accepts(target: BoolMap, refined: BoolMap) -> bool:
    """Tell whether a refined mask may replace its target: IoU above 0.5. Two empty masks have no IoU: False."""
    union = np.count_nonzero(target | refined)
    return union > 0 and 2 * np.count_nonzero(target & refined) > union


def _cell_keys(
    image: npt.NDArray[np.uint8], sigma_spatial: float, sigma_luma: float, sigma_chroma: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Number the grid cell of each pixel, int64 [HW], and give the key distance to the next cell per dimension [5].

    Each dimension (x, y, luma, U, V) has one spare value, so a step beyond its end never meets another row of cells.
    """
    height, width = image.shape[:2]
    x = (np.arange(width) / sigma_spatial).astype(np.int64)
    y = (np.arange(height) / sigma_spatial).astype(np.int64)
    luma, chroma = int(255 / sigma_luma) + 2, int(256 / sigma_chroma) + 2
    steps = np.cumprod([1, x[-1] + 2, y[-1] + 2, luma, chroma])
    keys = (y[:, None] * steps[1] + x).ravel()
    pixels = image.reshape(-1, 3)
    for start in range(0, len(pixels), _BLOCK):  # blocks stay in cache and below the size at which BLAS starts threads
        block = slice(start, start + _BLOCK)
        yuv = _RGB_TO_YUV @ pixels[block].T.astype(np.float64) + _YUV_OFFSET
        yuv /= np.array([[sigma_luma], [sigma_chroma], [sigma_chroma]])
        keys[block] += steps[2:] @ yuv.astype(np.int64)
    return keys, steps


def _unique(keys: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Sorted distinct keys [V] and, per pixel, the position of its key among them [HW], by one sort of (key, pixel)."""
    bits = len(keys).bit_length()
    if int(keys.max()).bit_length() + bits > 63:
        raise ParameterError(f"sigmas are too small for an image of {len(keys)} pixels")
    packed = (keys << bits) | np.arange(len(keys))
    packed.sort()
    ordered = packed >> bits
    first = np.concatenate(([True], ordered[1:] != ordered[:-1]))
    position = np.empty(len(keys), dtype=np.int64)
    position[packed & ((1 << bits) - 1)] = np.cumsum(first) - 1
    return ordered[first], position


def _neighbours(keys: npt.NDArray[np.int64], steps: npt.NDArray[np.int64]) -> csr_matrix:
    """Adjacency of the occupied cells: float64 [V, V] with ones where two cells differ by one step in one dimension."""
    n, dims = len(keys), len(steps)
    table = np.full((n, 2 * dims), -1, dtype=np.int32)  # columns: -V -U -Y -y -x +x +y +Y +U +V, so ascending
    for dim, step in enumerate(steps):
        found = np.minimum(np.searchsorted(keys, keys + step), n - 1)
        near = np.flatnonzero(keys[found] == keys + step)
        table[near, dims + dim] = found[near]
        table[found[near], dims - 1 - dim] = near
    exists = table >= 0
    starts = np.concatenate(([0], np.cumsum(exists.sum(axis=1)))).astype(np.int32)
    indices = table[exists]
    return csr_matrix((np.ones(len(indices)), indices, starts), shape=(n, n))


def _system(neighbours: csr_matrix, counts: Floats) -> csr_matrix:
    """Matrix of the normal equations: smoothness of the bistochastised blur plus the confidence of the target."""
    scale: Floats = np.ones(len(counts))
    for _ in range(_BISTOCHASTIC_STEPS):
        scale = np.sqrt(scale * counts / _blur(neighbours, scale))
    mass = scale * _blur(neighbours, scale)
    rows = np.repeat(scale, np.diff(neighbours.indptr))
    coupling = csr_matrix(
        (-_SMOOTHNESS * rows * scale[neighbours.indices], neighbours.indices, neighbours.indptr), neighbours.shape
    )
    diagonal = _SMOOTHNESS * (mass - 10 * scale * scale) + _CONFIDENCE * counts
    return csr_matrix(coupling + diags(diagonal, format="csr"))


def _blur(neighbours: csr_matrix, values: Floats) -> Floats:
    """Blur over the grid with the weights (1, 2, 1) in each of its five dimensions."""
    return 10 * values + neighbours @ values


def _conjugate_gradient(matrix: csr_matrix, b: Floats, x: Floats, preconditioner: Floats) -> Floats:
    """Solve `matrix @ x = b` from a start value; stops at the relative tolerance or the step limit, as the original.

    Inner products go through einsum: unlike BLAS it starts no threads for vectors this short.
    """
    limit = _CG_TOLERANCE * np.sqrt(_dot(b, b))
    if limit == 0:
        return np.zeros_like(b)
    residual = b - matrix @ x
    direction, previous = np.zeros_like(b), 1.0
    for _ in range(_CG_STEPS):
        if np.sqrt(_dot(residual, residual)) < limit:
            break
        preconditioned = preconditioner * residual
        rho = _dot(residual, preconditioned)
        direction = preconditioned + (rho / previous) * direction
        previous = rho
        image = matrix @ direction
        alpha = rho / _dot(direction, image)
        x = x + alpha * direction
        residual = residual - alpha * image
    return x


def _dot(a: Floats, b: Floats) -> float:
    return float(np.einsum("i,i->", a, b))
