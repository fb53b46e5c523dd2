"""Deep Spectral Methods: the smallest eigenvectors of a graph of feature similarities.

Melas-Kyriazi et al., "Deep Spectral Methods: A Surprisingly Strong Baseline for Unsupervised Semantic Segmentation and
Localization", CVPR 2022.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from objloc_ros.methods.options import DeepSpectralOptions
from objloc_ros.methods.patch_object import PatchObject, nothing, unit_features
from objloc_ros.ops.affinity import exact_arithmetic, positive_affinity, split_batch, to_host
from objloc_ros.ops.regions import components
from objloc_ros.ops.spectral import EIGENVALUE_TOL, Eigenpairs, refined_eigenpairs, smallest_eigenpairs
from objloc_ros.types import Grid

Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SpectralResult:
    """The eigenvectors of one image, in the host's memory.

    Args:
        eigenvalues: float32 [K], ascending from 0.
        eigenvectors: float32 [K, N], x^T D x = 1; the first is constant, the others are positive on fewer than half of
            the patches.
        segment: bool [h, w], where the second eigenvector is positive.
        degenerate: Whether the features do not determine the second eigenvector. Unrelated parts of the image, whose
            eigenvalues are all 0, do: it is orthogonal to the constant one.
    """

    eigenvalues: Tensor
    eigenvectors: Tensor
    segment: Tensor
    degenerate: bool

    def object(self) -> PatchObject:
        """Return the single object of the paper's localisation: the largest 8-connected part of the segment.

        Its seed is the patch of its largest entry. As in the original, an empty segment stands for the whole image,
        unless it is empty because nothing is determined.
        """
        segment = self.segment.numpy()
        if not segment.any():
            if self.degenerate:
                return nothing(segment.shape)
            segment = ~segment
        parts = components(segment, connectivity=8)
        mask = (parts.labels == parts.largest()) & segment
        seed = int(np.where(mask.ravel(), self.eigenvectors[1].numpy(), -np.inf).argmax())
        return PatchObject(torch.from_numpy(mask), seed, self.degenerate)


@torch.no_grad()
@exact_arithmetic()
def deep_spectral(features: Tensor, grid: Grid, *, n_vectors: int = 5) -> list[SpectralResult]:
    """Compute the smallest eigenvectors of (D - W) x = lambda D x with W = max(cosine, 0).

    The paper's optional colour affinity is off, as in the published results for localisation.

    Args:
        features: float32 [B, N, C], last-block keys without CLS; N = h * w, row-major.
        grid: Patch rows and columns (h, w).
        n_vectors: Eigenvectors K, the constant one among them; N where there are fewer patches.

    Returns:
        One result per image. A patch whose feature is zero resembles nothing, not even itself: its entries are 0. For
        constant features `degenerate`, with an empty segment.

    Raises:
        InputError: If the shapes disagree or a value is not finite.
        ParameterError: If `n_vectors` is below 2.
    """
    DeepSpectralOptions.check(n_vectors=n_vectors)
    features = unit_features(features, grid)
    if features.shape[1] < 2:
        return [_nothing(grid) for _ in features]
    results = []
    for part in split_batch(features):
        graph = positive_affinity(part)
        pairs = smallest_eigenpairs(graph, n_vectors - 1)
        degrees, *fields = to_host(graph.degrees, *pairs)
        found = Eigenpairs(*fields)
        if (np.abs(found.vectors[:, 0]) <= found.errors[:, 0])[degrees > 0].any():
            found = Eigenpairs(*to_host(*refined_eigenpairs(graph, pairs)))  # the sign of some entry is open
        images = map(Eigenpairs._make, zip(*found, strict=True))
        results += [_result(image, row, grid) for image, row in zip(images, degrees, strict=True)]
    return results


def _result(pairs: Eigenpairs, degrees: Values, grid: Grid) -> SpectralResult:
    """Orient the eigenvectors and read the segment, of one image: fields without the batch's axis."""
    linked = degrees > 0
    vectors = pairs.vectors * linked
    majority = (vectors > 0).mean(1)
    vectors = np.where(((majority > 0.5) & (majority < 1))[:, None], -vectors, vectors)
    constant = linked / np.sqrt(degrees.sum()).clip(1e-12)
    flat = pairs.values[0] > 1 - EIGENVALUE_TOL
    return SpectralResult(
        eigenvalues=_tensor(np.concatenate(([0.0], pairs.values))),
        eigenvectors=_tensor(np.concatenate((constant[None], vectors))),
        segment=torch.from_numpy((vectors[0] > pairs.errors[0]).reshape(grid) & ~flat),
        degenerate=bool(pairs.gaps[0] < EIGENVALUE_TOL or flat),
    )


def _nothing(grid: Grid) -> SpectralResult:
    """Return what a single patch has: the constant eigenvector."""
    constant = torch.ones(1, 1)
    return SpectralResult(constant[0] * 0, constant, torch.zeros(grid, dtype=torch.bool), degenerate=True)


def _tensor(values: Values) -> Tensor:
    return torch.from_numpy(values).float()
