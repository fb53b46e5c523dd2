"""Spectral cluster voting: clusters of an image's graph and other methods' objects elect the one that most agree on.

Shin et al., "Unsupervised Salient Object Detection with Spectral Cluster Voting", CVPR workshops 2022, section 3. There
the candidates are clusters of three networks' features; here the discovery methods join those of one network, so that
one pass of the backbone suffices.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from objloc_ros.methods.deep_spectral import deep_spectral
from objloc_ros.methods.dino_seg import dino_seg
from objloc_ros.methods.lost import lost
from objloc_ros.methods.maskcut import maskcut
from objloc_ros.methods.options import Candidates, DinoSegOptions
from objloc_ros.methods.patch_object import PatchObject, nothing, unit_features
from objloc_ros.methods.tokencut import tokencut
from objloc_ros.ops.affinity import Affinity, exact_arithmetic, gram_strips, split_batch, to_array, to_host
from objloc_ros.ops.regions import BoolMap, components
from objloc_ros.ops.spectral import smallest_eigenpairs
from objloc_ros.ops.voting import vote
from objloc_ros.types import Features, Grid

CLUSTERS = (2, 3, 4)
"""Numbers of clusters that the candidates come from."""

RESTARTS = 10
"""Starts of k-means, of which the best is taken."""


MIN_PART_FRACTION = 0.01
"""Parts of the winner beside its largest one must cover more than this part of the grid, as MaskCut's objects must."""


def vote_objects(
    features: Features, *, candidates: Candidates = "all", small_large: bool = False
) -> list[list[PatchObject]]:
    """Find what LOST, TokenCut, Deep Spectral Methods, MaskCut, DINO-seg and clusters of the keys elect in each image.

    Every method has its default options, DINO-seg the last head of a backbone with fewer.

    Args:
        features: Of a batch.
        candidates: See `VoteOptions`.
        small_large: See there.

    Returns:
        Per image the 4-connected parts of the winner, the largest first; the seed of each is the patch that most
        candidates contain, the score of all the winner's mean IoU with the candidates. One empty `degenerate` object
        where there is no candidate.
    """
    elected = []
    for clusters, objects in zip(
        spectral_candidates(features.keys, features.grid),
        _run_methods(features) if candidates == "all" else [[]] * len(features.keys),
        strict=True,
    ):
        found = [item.mask.numpy()[None] for item in objects if not item.degenerate and item.mask.any()]
        masks = np.concatenate([*found, clusters])  # n h w
        elected.append(_elect(masks, small_large=small_large))
    return elected


def _run_methods(features: Features) -> list[list[PatchObject]]:
    """Return the objects of all other discovery methods for each image."""
    keys, attention, grid = features.keys, features.cls_attention, features.grid
    attended = dino_seg(attention, grid, head=min(DinoSegOptions.head, attention.shape[1] - 1))
    spectral = [result.object() for result in deep_spectral(keys, grid)]
    single = zip(lost(keys, grid), tokencut(keys, grid), spectral, attended, strict=True)
    return [[*objects, *several] for objects, several in zip(single, maskcut(keys, grid), strict=True)]


def _elect(masks: BoolMap, *, small_large: bool) -> list[PatchObject]:
    """Let the candidates of one image vote, bool [n, h, w]."""
    if not len(masks):
        return [nothing((masks.shape[1], masks.shape[2]))]
    outcome = vote(masks, small_large)
    support = masks[outcome.kept].sum(0)  # h w
    parts = components(masks[outcome.winner])
    order = np.argsort(-parts.areas, kind="stable")
    objects = []
    for label in (i + 1 for i in order if i == order[0] or parts.areas[i] > MIN_PART_FRACTION * support.size):
        mask = parts.labels == label
        seed = int(np.where(mask, support, -1).argmax())
        objects.append(PatchObject(torch.from_numpy(mask), seed, score=outcome.confidence))
    return objects


@torch.no_grad()
@exact_arithmetic()
def spectral_candidates(features: Tensor, grid: Grid, *, clusters: Sequence[int] = CLUSTERS) -> list[BoolMap]:
    """Cluster the patches of each image by the smallest eigenvectors of its graph, for several numbers of clusters.

    The eigenvectors are computed once, for the largest number; the others take the first of them.

    Args:
        features: float32 [B, N, C]; N = h * w, row-major.
        grid: Patch rows and columns (h, w).
        clusters: Numbers of clusters k, each at least 2.

    Returns:
        Per image the clusters as masks, bool [n, h, w], in the order of `clusters` and each in the order of first
        patches: k masks for each k, fewer where the patches do not tell as many apart, none for more clusters than
        patches or where all patches are alike.

    Raises:
        InputError: If the shapes disagree or a value is not finite.
    """
    features = unit_features(features, grid)
    found: list[BoolMap] = []
    for part in split_batch(features):
        for image in part.split(1):
            found.append(_cluster_image(image, grid, [k for k in clusters if k <= image.shape[1]]))
    return found


def minmax_affinity(features: Tensor) -> Affinity | None:
    """Weigh every pair by its cosine, brought to [0, 1] by the least and the greatest of the image.

    So the least similar pair has no link, and a patch's link to itself is no more than the strongest.

    Args:
        features: float32 [1, N, C] of unit length.

    Returns:
        A batch of one graph; None where all pairs are equally similar.
    """
    strips = [to_array(strip) for _, strip in gram_strips(features)]
    low, high = min(float(strip.min()) for strip in strips), max(float(strip.max()) for strip in strips)
    if high - low < np.finfo(np.float32).eps:
        return None
    return Affinity(strips, base=-low / (high - low), scale=1 / (high - low))


def _cluster_image(features: Tensor, grid: Grid, clusters: Sequence[int]) -> BoolMap:
    """Return the clusters of one image, features [1, N, C]: bool [n, h, w]."""
    graph = minmax_affinity(features) if clusters else None
    if graph is None:
        return np.zeros((0, *grid), bool)
    # The original clusters on the constant eigenvector, too, which moves all patches alike.
    ((vectors,),) = to_host(smallest_eigenpairs(graph, max(clusters) - 1).vectors)  # k-1 N
    return np.concatenate([_to_masks(_cluster(vectors[: k - 1].T, k)).reshape(-1, *grid) for k in clusters])


def _cluster(points: npt.NDArray[np.float64], k: int) -> npt.NDArray[np.int32]:
    """Cluster points [N, d]: int32 [N]."""
    # Takes a second to import; a node reads the options of methods before it needs them.
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    # A second thread costs more than it gains on so few points.
    with warnings.catch_warnings(), threadpool_limits(1, "openmp"):
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct points than clusters
        labels: npt.NDArray[np.int32] = KMeans(k, n_init=RESTARTS, random_state=0).fit_predict(points)
    return labels


def _to_masks(labels: npt.NDArray[np.int32]) -> BoolMap:
    """Return one row for each label that occurs, in the order of first occurrence: bool [k, N]."""
    names, first = np.unique(labels, return_index=True)
    masks: BoolMap = labels == names[np.argsort(first)][:, None]
    return masks
