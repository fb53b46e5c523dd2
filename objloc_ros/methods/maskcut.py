"""MaskCut: several objects per image by repeated normalised cuts.

Wang et al., "Cut and Learn for Unsupervised Object Detection and Instance Segmentation", CVPR 2023, section 3.2.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from objloc_ros.methods.options import MaskCutOptions
from objloc_ros.methods.patch_object import PatchObject, nothing, unit_features
from objloc_ros.ops.affinity import Affinity, binary_affinity, exact_arithmetic, split_batch
from objloc_ros.ops.ncut import Cut, argmax_first, bipartition
from objloc_ros.ops.regions import BoolMap, component_at, mask_iou
from objloc_ros.types import Grid

BACKGROUND_CORNERS = 3
"""A side that holds this many corners of the grid is taken for the background."""

MIN_AREA_FRACTION = 0.01
"""Later objects must cover more than this part of the grid."""


@torch.no_grad()
@exact_arithmetic()
def maskcut(
    features: Tensor, grid: Grid, *, n_masks: int = 3, tau: float = 0.15, eps: float = 1e-5
) -> list[list[PatchObject]]:
    """Locate up to `n_masks` objects in each image, before any refinement along the image's edges.

    TokenCut's graph is cut, the object found loses its links, and what remains is cut again. From the second on, an
    object is dropped if it overlaps the previous one by an IoU above 0.5 or covers no more than 1 % of the grid;
    what it shares with earlier ones remains theirs.

    Args:
        features: float32 [B, N, C], last-block keys without CLS; N = h * w, row-major.
        grid: Patch rows and columns (h, w), not necessarily square.
        n_masks: Number of rounds.
        tau: Cosine above which two patches are linked.
        eps: Weight of all other pairs.

    Returns:
        For each image `n_masks` objects in the order in which they were cut, disjoint, empty where none was found or
        it was dropped; `degenerate` from the first round on whose cut the features do not determine.

    Raises:
        InputError: If the shapes disagree or a value is not finite.
        ParameterError: If an option is out of range.
    """
    MaskCutOptions.check(n_masks=n_masks, tau=tau, eps=eps)
    features = unit_features(features, grid)
    if features.shape[1] < 2:
        return [[nothing(grid)] * n_masks for _ in features]
    found = []
    for part in split_batch(features):
        found += _cut_repeatedly(binary_affinity(part, tau, eps), grid, n_masks)
    return found


def _cut_repeatedly(graph: Affinity, grid: Grid, n_masks: int) -> list[list[PatchObject]]:
    images = [_Objects(grid) for _ in range(graph.shape[0])]
    cuts = bipartition(graph)
    for _ in range(n_masks):
        if any(image.changed for image in images):
            painted = np.stack([image.painted for image in images])
            cuts = bipartition(graph.without(graph.like(painted)))
        for image, cut in zip(images, cuts, strict=True):
            image.take(cut)
    return [image.found for image in images]


class _Objects:
    """What has been found in one image so far."""

    def __init__(self, grid: Grid) -> None:
        self.found: list[PatchObject] = []
        self.painted: npt.NDArray[np.bool_] = np.zeros(grid[0] * grid[1], bool)
        self.changed = False
        self._grid = grid
        self._current: BoolMap = np.zeros(grid, bool)
        self._covered: BoolMap = self._current
        self._degenerate = False

    def take(self, cut: Cut) -> None:
        """Add the object of one cut, or an empty one; `changed` tells whether it leaves another graph behind."""
        side, seed = _foreground(cut, self._grid)
        self._degenerate |= cut.degenerate or cut.empty
        mask = np.zeros(self._grid, bool) if cut.empty else component_at(side.reshape(self._grid), seed)
        is_small = np.count_nonzero(mask) <= MIN_AREA_FRACTION * mask.size
        if self.found and (is_small or mask_iou(mask, self._current) > 0.5):
            mask = np.zeros(self._grid, bool)
        own = torch.from_numpy(mask & ~self._covered)
        self.found.append(PatchObject(own, seed, self._degenerate))
        self._current, self._covered = mask, self._covered | mask
        self.changed = bool(mask.any())
        self.painted = self.painted | mask.ravel()


def _foreground(cut: Cut, grid: Grid) -> tuple[BoolMap, int]:
    """Return the side [N] that holds the object, and its seed: the largest entry's, unless that holds three corners."""
    corners = cut.side.reshape(grid)[[0, 0, -1, -1], [0, -1, 0, -1]]
    if np.count_nonzero(corners) < BACKGROUND_CORNERS:
        return cut.side, cut.seed
    return ~cut.side, argmax_first(-cut.vector)
