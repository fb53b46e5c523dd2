"""CLIP-DIY, MaskCLIP and CLIP-DINOiser as heads: prompts in, a label for every pixel out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from objloc_ros.backbones.clip import ClipImage
from objloc_ros.engine.backbone import has_bfloat16_units
from objloc_ros.engine.heads.found import FoundHead
from objloc_ros.engine.heads.labelling import SegmentationOptions, choose, labelled
from objloc_ros.engine.prompts import ActivePrompts
from objloc_ros.engine.results import Batch, SemanticResult
from objloc_ros.engine.timings import stage
from objloc_ros.errors import ParameterError
from objloc_ros.methods import clip_dinoiser as dinoiser
from objloc_ros.methods.clip_diy import SIDE, Placement, resized_windows, similarity, split_windows, windows_per_row
from objloc_ros.methods.found import upsampled_saliency
from objloc_ros.methods.maskclip import value_features
from objloc_ros.ops.geometry import Geometry, plan, to_input
from objloc_ros.options import option
from objloc_ros.types import Image, Size, size_of

Correlations = Literal["auto", "head", "dino"]


@dataclass(frozen=True)
class ClipDiyOptions(SegmentationOptions):
    """CLIP-DIY's choices."""

    placement: Placement = option(
        "centred",
        "Where a window's answer belongs: `centred` at its centre, `tiled` as the original has it, `nearest` "
        "tiled without interpolation.",
        choices=get_args(Placement),
    )


@dataclass(frozen=True)
class MaskClipOptions(SegmentationOptions):
    """MaskCLIP's choices."""


@dataclass(frozen=True)
class DinoiserOptions(SegmentationOptions):
    """CLIP-DINOiser's choices."""

    gamma: float = option(0.2, "Correlations of patches below this are cut to 0.", low=0, high=1)
    delta: float = option(
        0.99, "A background pixel stays unlabelled if no prompt is more probable than this.", low=0, high=1
    )
    correlations: Correlations = option(
        "auto",
        "`head` takes those of the trained convolutions, `dino` those of the backbone's values without any training, "
        "`auto` the head's if there is one.",
        choices=get_args(Correlations),
    )


METHODS: dict[str, type[SegmentationOptions]] = {
    "clip_diy": ClipDiyOptions,
    "maskclip": MaskClipOptions,
    "clip_dinoiser": DinoiserOptions,
}
"""Open-vocabulary methods by name, with their options."""


class Towers(NamedTuple):
    """The networks that the heads of one pipeline share.

    Args:
        clip: The image tower.
        found: FOUND, for the background.
        dinoiser: CLIP-DINOiser's convolutions; None where there are none for this tower.
    """

    clip: ClipImage
    found: FoundHead
    dinoiser: dinoiser.DinoiserHead | None


class SegmentationHead:
    """One open-vocabulary method.

    Args:
        method: A key of `METHODS`.
        towers: What it runs on.
        device: Where that is.
    """

    def __init__(self, method: str, towers: Towers, device: torch.device) -> None:
        runs: dict[str, Callable[[Batch, ActivePrompts, Any], list[SemanticResult]]] = {
            "clip_diy": self._clip_diy,
            "maskclip": self._maskclip,
            "clip_dinoiser": self._dinoiser,
        }
        self._run = runs[method]
        self._clip, self._found, self._dinoiser_head = towers
        self._device = device
        self._autocast = torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16_units(device))
        self.default_options = METHODS[method]()

    def reads_features(self, options: SegmentationOptions) -> bool:
        """For FOUND's map of the background, and for CLIP-DINOiser's correlations without training."""
        if isinstance(options, DinoiserOptions):
            return not self._asks_head(options)
        return options.background == "found"

    def __call__(self, batch: Batch, options: Any) -> list[SemanticResult]:
        """Labels of each image.

        Raises:
            ParameterError: If there are no prompts, or CLIP-DINOiser lacks its head.
        """
        if batch.prompts is None:
            raise ParameterError("there are no prompts to look for; give some with set_prompts")
        return self._run(batch, batch.prompts, options)

    def _clip_diy(self, batch: Batch, prompts: ActivePrompts, options: ClipDiyOptions) -> list[SemanticResult]:
        squares = np.stack([cv2.resize(i, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR) for i in batch.images])
        pixels = torch.from_numpy(squares).to(self._device).permute(0, 3, 1, 2)
        cut = resized_windows(pixels, self._clip.side)
        mean, std = (
            torch.tensor(v, device=self._device)[:, None, None] * 255 for v in (self._clip.mean, self._clip.std)
        )
        with self._autocast:
            embedded = self._clip((cut.float() - mean) / std)
        scales = split_windows(embedded, len(squares), windows_per_row())
        maps = similarity(scales, prompts.texts, size=SIDE, placement=options.placement)
        geometries = [Geometry(size_of(i), (SIDE, SIDE), (SIDE, SIDE), self._clip.patch) for i in batch.images]
        with stage("clip_diy.pixels", is_part=True):
            return self._decided(maps, geometries, batch, prompts, options)

    def _maskclip(self, batch: Batch, prompts: ActivePrompts, options: MaskClipOptions) -> list[SemanticResult]:
        results = []
        for number, image in enumerate(batch.images):
            inputs, geometry = self._input(image)
            with self._autocast:
                features = value_features(self._clip, self._clip.tokens(inputs))
            cosines = (F.normalize(features, dim=-1) @ prompts.texts.T).mT
            with stage("maskclip.pixels", is_part=True):
                maps = _to_pixels(cosines.unflatten(2, geometry.grid), geometry)
                results += self._decided(maps, [geometry], _single(batch, number), prompts, options)
        return results

    def _dinoiser(self, batch: Batch, prompts: ActivePrompts, options: DinoiserOptions) -> list[SemanticResult]:
        texts = prompts.texts[1:] if options.background == "none" else prompts.texts
        results = []
        for number, image in enumerate(batch.images):
            inputs, geometry = self._input(image)
            with self._autocast:
                tokens = self._clip.tokens(inputs)
                features = value_features(self._clip, tokens)
            correlations, background = self._relations(tokens.middle, geometry.grid, _single(batch, number), options)
            pooled = dinoiser.pooled(features, correlations, gamma=options.gamma)
            probabilities = dinoiser.probabilities(pooled, texts).unflatten(2, geometry.grid)
            if options.background == "found":
                probabilities = dinoiser.apply_background(probabilities, background, delta=options.delta)
            with stage("clip_dinoiser.pixels", is_part=True):
                sure, best = _to_pixels(probabilities, geometry)[0].max(0)
                classes = best + int(options.background == "none")
                results.append(labelled(classes, sure, prompts.labels, geometry, options))
        return results

    def _asks_head(self, options: DinoiserOptions) -> bool:
        return options.correlations == "head" or (options.correlations == "auto" and self._dinoiser_head is not None)

    def _relations(self, middle: Tensor, grid: Size, single: Batch, options: DinoiserOptions) -> tuple[Tensor, Tensor]:
        """Return correlations [1, N, N] and background bool [1, h, w] of one image, by the head or DINO and FOUND."""
        if self._asks_head(options):
            if self._dinoiser_head is None:
                raise ParameterError(
                    "there is no CLIP-DINOiser head for this CLIP model: train one with `objloc train dinoiser`, or "
                    "choose correlations 'dino'"
                )
            correlations, logits = self._dinoiser_head(middle, grid)
            return correlations, logits <= 0
        features = single.seen()
        values = features.values.mT.unflatten(2, features.grid)
        values = F.interpolate(values, size=grid, mode="bilinear", align_corners=False).flatten(2).mT
        background = F.interpolate(
            self._found.logits(features)[:, None], size=grid, mode="bilinear", align_corners=False
        )
        return dinoiser.dino_correlations(values), background[:, 0] <= 0

    def _decided(
        self,
        maps: Tensor,
        geometries: Sequence[Geometry],
        batch: Batch,
        prompts: ActivePrompts,
        options: SegmentationOptions,
    ) -> list[SemanticResult]:
        """Label the pixels of cosine maps [B, 1 + P, h', w']."""
        saliencies: Sequence[Tensor | None] = [None] * len(maps)
        if options.background == "found":
            logits = self._found.logits(batch.seen()).cpu()
            each = zip(logits, batch.geometries, geometries, strict=True)
            saliencies = [self._saliency(one, seen, wanted.resized) for one, seen, wanted in each]
        results = []
        for cosines, saliency, geometry in zip(maps, saliencies, geometries, strict=True):
            classes, sure = choose(cosines, saliency, options.background, signed=self._clip.spec.signed)
            results.append(labelled(classes, sure, prompts.labels, geometry, options))
        return results

    def _saliency(self, logits: Tensor, seen: Geometry, size: Size) -> Tensor:
        """FOUND's soft map of one image, resized."""
        saliency = cv2.resize(upsampled_saliency(logits, seen), size[::-1], interpolation=cv2.INTER_LINEAR)
        return torch.from_numpy(saliency).to(self._device)

    def _input(self, image: Image) -> tuple[Tensor, Geometry]:
        """The whole image as the tower takes it."""
        geometry = plan(size_of(image), patch=self._clip.patch, short_side=self._clip.spec.short_side)
        clip = self._clip
        return to_input(image, geometry, clip.mean, clip.std, self._device, black=True), geometry


def _single(batch: Batch, number: int) -> Batch:
    """One image of a batch."""
    features = None if batch.features is None else batch.features.image(number)
    return Batch([batch.images[number]], [batch.geometries[number]], features, batch.prompts)


def _to_pixels(maps: Tensor, geometry: Geometry) -> Tensor:
    """Interpolate maps [B, C, h, w] on the patch grid to pixels and cut the padding off: [B, C, h', w']."""
    height, width = geometry.resized
    fine = F.interpolate(maps, size=geometry.padded, mode="bilinear", align_corners=False)
    return fine[..., :height, :width]
