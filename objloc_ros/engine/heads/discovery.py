"""The discovery methods as heads: patch objects become scored boxes and instance masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from objloc_ros.engine.ignored import cut_objects, look_away
from objloc_ros.engine.results import Batch, InstanceResult
from objloc_ros.engine.timings import stage
from objloc_ros.methods.deep_spectral import deep_spectral
from objloc_ros.methods.dino_seg import dino_seg
from objloc_ros.methods.lost import lost
from objloc_ros.methods.maskcut import maskcut
from objloc_ros.methods.options import (
    PATCH_METHODS,
    DeepSpectralOptions,
    DinoSegOptions,
    LostOptions,
    MaskCutOptions,
    Post,
    TokenCutOptions,
    VoteOptions,
)
from objloc_ros.methods.patch_object import PatchObject, separations
from objloc_ros.methods.refinement import refine
from objloc_ros.methods.tokencut import tokencut
from objloc_ros.methods.vote import vote_objects
from objloc_ros.ops.crf import DEEP_SPECTRAL, MASKCUT, CrfOptions
from objloc_ros.ops.geometry import Geometry, boxes_to_source, resize
from objloc_ros.ops.regions import BoolMap, extent
from objloc_ros.types import Detections, Features, Image

Objects = list[list[PatchObject]]
"""The objects of each image of a batch."""


def _lost(features: Features, options: LostOptions) -> Objects:
    return [[patch_object] for patch_object in lost(features.keys, features.grid, k_patches=options.k_patches)]


def _tokencut(features: Features, options: TokenCutOptions) -> Objects:
    objects = tokencut(features.keys, features.grid, tau=options.tau, eps=options.eps, binary=options.binary)
    return [[patch_object] for patch_object in objects]


def _deep_spectral(features: Features, options: DeepSpectralOptions) -> Objects:
    results = deep_spectral(features.keys, features.grid, n_vectors=options.n_vectors)
    return [[spectral.object()] for spectral in results]


def _maskcut(features: Features, options: MaskCutOptions) -> Objects:
    return maskcut(features.keys, features.grid, n_masks=options.n_masks, tau=options.tau, eps=options.eps)


def _dino_seg(features: Features, options: DinoSegOptions) -> Objects:
    objects = dino_seg(features.cls_attention, features.grid, head=options.head, mass=options.mass)
    return [[patch_object] for patch_object in objects]


def _vote(features: Features, options: VoteOptions) -> Objects:
    return vote_objects(features, candidates=options.candidates, small_large=options.small_large)


METHODS: dict[str, Callable[[Features, Any], Objects]] = {
    "lost": _lost,
    "tokencut": _tokencut,
    "deep_spectral": _deep_spectral,
    "maskcut": _maskcut,
    "dino_seg": _dino_seg,
    "vote": _vote,
}
"""How each of `PATCH_METHODS` reads a batch of features."""


class DiscoveryHead:
    """One discovery method.

    An object's score is its method's own or else its separation: half of how much more its patches resemble each other
    than the rest of the image, on average. What the features do not determine (`degenerate`) is not reported.

    Args:
        method: A key of `METHODS`.
    """

    def __init__(self, method: str) -> None:
        self._find = METHODS[method]
        self._method = method
        self._crf = DEEP_SPECTRAL if method == "deep_spectral" else MASKCUT
        self.default_options: Any = PATCH_METHODS[method]()

    def reads_features(self, options: Any) -> bool:
        """Return True: every discovery method reads keys or attention."""
        return True

    def __call__(self, batch: Batch, options: Any) -> list[InstanceResult]:
        """Return one result per image of the batch; with a memory, in agreement with earlier frames."""
        features = batch.require_features()
        if batch.area:
            features = look_away(features, [batch.area.cells(g.resized, g.patch) for g in batch.geometries])
        found = self._find(features, options)
        memory = batch.memories.get(self._method)
        if memory is not None:
            several = getattr(options, "n_masks", 1) > 1
            (objects,), (keys,) = found, features.keys
            determined = [patch_object for patch_object in objects if not patch_object.degenerate]
            found = [memory.update(keys, features.grid, determined, several=several)]
        with stage(f"{self._method}.pixels", is_part=True):
            results = score_objects(
                found, features.keys, batch.images, batch.geometries, post=options.post, crf=self._crf
            )
            if batch.area:
                return [cut_objects(result, batch.area.mask(result.geometry.resized)) for result in results]
            return results


def score_objects(
    objects: Objects,
    keys: Tensor,
    images: Sequence[Image],
    geometries: Sequence[Geometry],
    *,
    post: Post = "none",
    crf: CrfOptions = MASKCUT,
) -> list[InstanceResult]:
    """Score the objects of each image of a batch and bring them to pixels.

    Args:
        objects: Patch objects; those that are empty or not determined are left out.
        keys: Features float32 [B, N, C], for the scores.
        images: RGB uint8 [H, W, 3] of the source size, for the refinement.
        geometries: How the images became the backbone's input.
        post: Refinement of the masks.
        crf: The model of the refinement "crf".
    """
    determined = [[found for found in some if not found.degenerate and found.mask.any()] for some in objects]
    standing_out = separations(keys, [[found.mask for found in some] for some in determined])
    results = []
    for found, separation, image, geometry in zip(determined, standing_out, images, geometries, strict=True):
        scores = np.array([sep if own.score is None else own.score for own, sep in zip(found, separation, strict=True)])
        masks = [_to_pixels(one, geometry) for one in found]  # each h' w'
        if post != "none":
            masks = refine(masks, resize(image, geometry), post, crf=crf, device=keys.device)
        results.append(paint_objects(masks, scores, ("object",) * len(masks), geometry))
    return results


def paint_objects(
    masks: Sequence[BoolMap], scores: npt.NDArray[np.floating], labels: Sequence[str], geometry: Geometry
) -> InstanceResult:
    """Return the result that holds these objects, the best first; empty ones are left out.

    Args:
        masks: bool [h', w'] each, at the processed size; where they overlap, the better object stays.
        scores: [n] in [0, 1].
        labels: What the objects are called.
        geometry: How the image became the backbone's input.
    """
    boxes = [extent(mask) for mask in masks]
    order = [i for i in np.argsort(-scores, kind="stable") if boxes[i] is not None]
    instances = np.zeros(geometry.resized, np.uint16)
    for rank, i in reversed(list(enumerate(order, start=1))):
        instances[masks[i]] = rank
    ordered = np.array([boxes[i] for i in order], np.float32).reshape(-1, 4)
    ordered_scores, ordered_labels = scores[order].astype(np.float32), tuple(labels[i] for i in order)
    detections = Detections(boxes_to_source(ordered, geometry), ordered_scores, ordered_labels)
    return InstanceResult(detections, geometry, instances > 0, instances, lambda place: masks[order[place]])


def _to_pixels(found: PatchObject, geometry: Geometry) -> BoolMap:
    """Return the object's patches as pixels of the processed image, bool [h', w']."""
    patches: npt.NDArray[np.bool_] = found.mask.numpy()
    height, width = geometry.resized
    return patches.repeat(geometry.patch, axis=0).repeat(geometry.patch, axis=1)[:height, :width]
