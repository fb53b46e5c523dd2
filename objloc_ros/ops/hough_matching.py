"""Probabilistic Hough matching: which regions of two images show the same part of the same thing.

Cho et al., "Unsupervised Object Discovery and Localization in the Wild", CVPR 2015, as LOD scores its pairs with it (Vo
et al., NeurIPS 2021). A pair of boxes votes for where the first image's lower right corner would lie in the second, and
at which scale; pairs whose votes fall together support each other. It is for many regions of an image, of which
most are parts of things; `objloc recurring` compares whole objects, of which an image has few, by descriptors alone.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from objloc_ros.types import Size

MIN_CELL_PX = 5.0
CELLS = 8000
"""Cells that the places are cut into, at a size of at least `MIN_CELL_PX`."""

SCALES = 20
MAX_LOG2_SCALE = 4.0
"""Ratios of areas are counted in so many bins from 2^-4 to 2^4."""

MAX_ASPECT = 2.0
"""Pairs whose ratios of width to height differ by this factor or more do not vote."""

SMOOTHING = 5
"""Side of the Gaussian over neighbouring bins; its full width at half maximum is half of this."""

FWHM = 2.354
"""Full width at half maximum of a Gaussian in standard deviations, with the authors' digits."""

PAIR_SCALE = 1e6

Boxes = npt.NDArray[np.number[Any]]
"""[n, 4] as (x1, y1, x2, y2) in pixels."""

Matrix = npt.NDArray[np.float64]


def match_regions(
    boxes: Boxes, others: Boxes, similarity: npt.NDArray[np.number[Any]], size: Size, other_size: Size
) -> Matrix:
    """Score all pairs of regions of two images, in one direction.

    Args:
        boxes: Of the first image [n, 4].
        others: Of the second image [m, 4].
        similarity: Of the regions' descriptors [n, m]; negative values count as 0.
        size: Height and width of the first image in pixels.
        other_size: Likewise of the second.

    Returns:
        float64 [n, m]: similarity times the support of all pairs that agree with it; 0 where nothing was voted for.
    """
    similarity = np.maximum(np.asarray(similarity, np.float64), 0)
    bins, shape = _choose_bins(boxes, others, size, other_size)
    votes = np.zeros(math.prod(shape))
    for row, places in zip(similarity, bins, strict=True):
        valid = places >= 0
        best = np.zeros_like(votes)  # of the pairs of one region that fall into one bin only the best counts
        np.maximum.at(best, places[valid], row[valid])
        votes += best
    support = scipy.ndimage.convolve(votes.reshape(shape), _make_kernel(), mode="constant").ravel()
    return np.where(bins >= 0, similarity * support[bins], 0.0)


def combine_directions(forth: Matrix, back: Matrix) -> Matrix:
    """Combine the scores [n, m] of one direction with those [m, n] of the other: float64 [n, m].

    They are divided by the number of pairs, as images with many regions have many votes.
    """
    total: Matrix = np.maximum(forth, 0) + np.maximum(back, 0).T
    return total / max(1, total.size) * PAIR_SCALE


def keep_best_pairs(scores: Matrix, keep: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], Matrix]:
    """Keep the best entries of a matrix [n, m]: rows, columns, values; of equal ones the lower column."""
    order = np.argsort(-scores.ravel(order="F"), kind="stable")[:keep]
    columns, rows = np.divmod(order, scores.shape[0])
    return rows, columns, scores[rows, columns]


def _choose_bins(
    boxes: Boxes, others: Boxes, size: Size, other_size: Size
) -> tuple[npt.NDArray[np.int64], tuple[int, int, int]]:
    """Choose the bin that each pair votes for: int64 [n, m], -1 for none, and the numbers of bins (scale, y, x)."""
    centre, sides = _split(boxes)
    other_centre, other_sides = _split(others)
    corner = (np.array(size[::-1], np.float64) - centre) / sides  # n 2: in units of the box, from its centre
    place = other_centre[None] + corner[:, None] * other_sides[None]  # n m 2
    scale = np.log2(other_sides.prod(1)[None] / sides.prod(1)[:, None])  # n m
    extent = 2.0 * np.array(other_size[::-1])
    cell = max(MIN_CELL_PX, math.sqrt(extent.prod() / CELLS))
    columns, rows = (math.floor(side / cell + 0.5) for side in extent)
    edges = (
        np.linspace(-MAX_LOG2_SCALE, MAX_LOG2_SCALE, SCALES + 1),
        np.linspace(1, extent[1], rows + 1),
        np.linspace(1, extent[0], columns + 1),
    )
    indices = [
        np.searchsorted(edge, values, side="right") - 1
        for edge, values in zip(edges, (scale, place[..., 1], place[..., 0]), strict=True)
    ]
    shape = (SCALES, rows, columns)
    aspect = (other_sides[:, 0] / other_sides[:, 1])[None] / (sides[:, 0] / sides[:, 1])[:, None]
    valid = (aspect < MAX_ASPECT) & (aspect > 1 / MAX_ASPECT)
    for index, count in zip(indices, shape, strict=True):
        valid &= (index >= 0) & (index < count)
    flat = np.ravel_multi_index([np.where(valid, index, 0) for index in indices], shape)
    return np.where(valid, flat, -1), shape


def _split(boxes: Boxes) -> tuple[Matrix, Matrix]:
    """Split boxes into centres and (width, height): float64 [n, 2] each."""
    corners = np.asarray(boxes, np.float64).reshape(-1, 2, 2)
    return corners.mean(1), corners[:, 1] - corners[:, 0]


def _make_kernel() -> Matrix:
    """Make the Gaussian: float64 [5, 5, 5], sum 1."""
    sigma = SMOOTHING / 2 / FWHM
    profile = np.exp(-0.5 * (np.arange(-(SMOOTHING // 2), SMOOTHING // 2 + 1) / sigma) ** 2)
    kernel = profile[:, None, None] * profile[None, :, None] * profile[None, None, :]
    return kernel / kernel.sum()
