"""CLIP-DIY, MaskCLIP and CLIP-DINOiser as heads: prompts in, a label for every pixel out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from objloc_ros.backbones.clip import ClipImage, ImageTower
from objloc_ros.backbones.lite_clip import LiteImage
from objloc_ros.backbones.reduced import reduced
from objloc_ros.engine.heads.exemplars import mark_exemplars
from objloc_ros.engine.heads.found import FoundHead
from objloc_ros.engine.heads.labelling import choose_classes, label_pixels, unite_regions
from objloc_ros.engine.precision import choose_dtype, name_dtype
from objloc_ros.engine.prompts import ActivePrompts
from objloc_ros.engine.results import Batch, SemanticResult
from objloc_ros.engine.timings import stage
from objloc_ros.engine.transfers import transfers_of
from objloc_ros.errors import ParameterError
from objloc_ros.methods import clip_dinoiser as dinoiser
from objloc_ros.methods.clip_diy import (
    PATCH_SIZES,
    SIDE,
    STRIDE,
    resized_windows,
    similarity,
    split_windows,
    windows_per_row,
)
from objloc_ros.methods.found import upsampled_saliency
from objloc_ros.methods.maskclip import dense_features, value_features
from objloc_ros.methods.options import (
    SEGMENTATION,
    ClipDiyOptions,
    DinoiserOptions,
    MaskClipOptions,
    SegmentationOptions,
)
from objloc_ros.ops.geometry import Geometry, plan
from objloc_ros.types import Image, Size, size_of


class Towers(NamedTuple):
    """The networks that the heads of one pipeline share.

    Args:
        clip: The image tower.
        found: FOUND, for the background.
        dinoiser: CLIP-DINOiser's convolutions; None where there are none for this tower.
    """

    clip: ImageTower
    found: FoundHead
    dinoiser: dinoiser.DinoiserHead | None


class SegmentationHead:
    """One open-vocabulary method.

    Args:
        method: A key of `SEGMENTATION`.
        towers: What it runs on.
        device: Where the towers are.
        precision: What the image tower computes in, see `choose_dtype`; texts and cosines are float32.

    Raises:
        ParameterError: If the device has no passes of this precision.
    """

    def __init__(self, method: str, towers: Towers, device: torch.device, precision: str = "auto") -> None:
        runs: dict[str, Callable[[Batch, ActivePrompts, Any], list[SemanticResult]]] = {
            "clip_diy": self._clip_diy,
            "maskclip": self._maskclip,
            "clip_dinoiser": self._dinoiser,
        }
        self._run = runs[method]
        self._clip, self._found, self._dinoiser_head = towers
        self._device, self._transfers = device, transfers_of(device)
        self._dtype = choose_dtype(precision, device, pays_on_cpu=True)
        self.default_options = SEGMENTATION[method]()

    @property
    def precision(self) -> str:
        """What the image tower computes in: "float32", "bfloat16" or "float16"."""
        return name_dtype(self._dtype)

    def reads_features(self, options: SegmentationOptions) -> bool:
        """Return whether FOUND's map of the background or CLIP-DINOiser's untrained correlations are wanted."""
        if isinstance(options, DinoiserOptions):
            return not self._uses_head(options)
        return options.background == "found"

    def __call__(self, batch: Batch, options: Any) -> list[SemanticResult]:
        """Label the pixels of each image.

        Raises:
            ParameterError: If there are no prompts, or CLIP-DINOiser lacks its head.
        """
        if batch.prompts is None:
            raise ParameterError("there are no prompts to look for; give some with set_prompts")
        return self._run(batch, batch.prompts, options)

    def _clip_diy(self, batch: Batch, prompts: ActivePrompts, options: ClipDiyOptions) -> list[SemanticResult]:
        squares = np.stack([cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR) for image in batch.images])
        pixels = torch.from_numpy(squares).to(self._device).permute(0, 3, 1, 2)  # B 3 SIDE SIDE
        with reduced(self._device, self._dtype):
            scales = embed_windows(self._clip, pixels)  # for each scale: B n n D
        cosines = similarity(scales, prompts.texts, size=SIDE, placement=options.placement)  # B 1+P SIDE SIDE
        square = (SIDE, SIDE)
        geometries = [Geometry(size_of(image), square, square, self._clip.patch) for image in batch.images]
        with stage("clip_diy.pixels", is_part=True):
            return self._label(cosines, geometries, batch, prompts, options)

    def _maskclip(self, batch: Batch, prompts: ActivePrompts, options: MaskClipOptions) -> list[SemanticResult]:
        results = []
        for number, image in enumerate(batch.images):
            inputs, geometry = self._prepare(image)
            with reduced(self._device, self._dtype):
                features, _ = dense_features(self._clip, inputs)  # 1 N D
            cosines = (F.normalize(features, dim=-1) @ prompts.texts.T).mT  # 1 1+P N
            with stage("maskclip.pixels", is_part=True):
                cosines = _to_pixels(cosines.unflatten(2, geometry.grid), geometry)  # 1 1+P h' w'
                results += self._label(cosines, [geometry], _take_one(batch, number), prompts, options)
        return results

    def _dinoiser(self, batch: Batch, prompts: ActivePrompts, options: DinoiserOptions) -> list[SemanticResult]:
        texts = prompts.texts[1:] if options.background == "none" else prompts.texts
        results = []
        for number, image in enumerate(batch.images):
            inputs, geometry = self._prepare(image)
            with reduced(self._device, self._dtype):
                if isinstance(self._clip, ClipImage):
                    tokens = self._clip.tokens(inputs)
                    features, middle = value_features(self._clip, tokens), tokens.middle  # 1 N D, 1 N W
                else:
                    features, middle = *dense_features(self._clip, inputs)[:1], None
            correlations, background = self._relate(middle, geometry.grid, _take_one(batch, number), options)
            pooled = dinoiser.pool_features(features, correlations, gamma=options.gamma)  # 1 N D
            probabilities = dinoiser.compute_probabilities(pooled, texts, logit_scale=self._clip.logit_scale)
            probabilities = probabilities.unflatten(2, geometry.grid)  # 1 texts h w
            if options.background == "found":
                probabilities = dinoiser.apply_background(probabilities, background, delta=options.delta)
            with stage("clip_dinoiser.pixels", is_part=True):
                fine = _to_pixels(probabilities, geometry)[0]  # texts h' w'
                first = int(options.background == "none")
                classes = fine.argmax(0) + first
                ignored = batch.ignored(geometry)
                if ignored is not None:
                    classes = classes.masked_fill(torch.tensor(ignored, device=classes.device), 0)
                if options.per_region:
                    classes = unite_regions(classes, fine[1 - first :], min_area=options.min_area)
                confidence = fine.gather(0, (classes - first).clamp(min=0)[None])[0]  # h' w'
                classes, confidence = _mark(classes, confidence, batch, number, prompts)
                results.append(label_pixels(classes, confidence, prompts.labels, geometry, options, ignored))
        return results

    def _uses_head(self, options: DinoiserOptions) -> bool:
        return options.correlations == "head" or (options.correlations == "auto" and self._dinoiser_head is not None)

    def _relate(
        self, middle: Tensor | None, grid: Size, single: Batch, options: DinoiserOptions
    ) -> tuple[Tensor, Tensor]:
        """Return correlations [1, N, N] and background bool [1, h, w] of one image, by the head or DINO and FOUND."""
        if self._uses_head(options):
            if self._dinoiser_head is None or middle is None:
                raise ParameterError(
                    "there is no CLIP-DINOiser head for this CLIP model: train one with `objloc train dinoiser` (of "
                    "CLIP's own transformers and of tiny_clip alone), or choose correlations 'dino'"
                )
            correlations, logits = self._dinoiser_head(middle, grid)
            return correlations, logits <= 0
        features = single.require_features()
        values = features.values.mT.unflatten(2, features.grid)  # 1 C h w on DINO's grid
        values = F.interpolate(values, size=grid, mode="bilinear", align_corners=False).flatten(2).mT  # 1 N C on CLIP's
        logits = self._found.logits(features)[:, None]
        logits = F.interpolate(logits, size=grid, mode="bilinear", align_corners=False)[:, 0]  # 1 h w on CLIP's
        return dinoiser.dino_correlations(values), logits <= 0

    def _label(
        self,
        cosine_maps: Tensor,
        geometries: Sequence[Geometry],
        batch: Batch,
        prompts: ActivePrompts,
        options: SegmentationOptions,
    ) -> list[SemanticResult]:
        """Label the pixels of cosine maps float32 [B, 1 + P, h', w'] of geometries of one processed size."""
        saliency = None
        if options.background == "found":
            logits = self._found.logits(batch.require_features()).float().cpu().numpy()  # B h w
            maps = [
                self._resize_saliency(image_logits, found_geometry, geometry.resized)
                for image_logits, found_geometry, geometry in zip(logits, batch.geometries, geometries, strict=True)
            ]
            saliency = torch.from_numpy(np.stack(maps)).to(self._device, non_blocking=True)  # B h' w'
        ignored = batch.ignored(geometries[0])
        at_once = 1 if cosine_maps.device.type == "cpu" else len(cosine_maps)  # an image's maps fit a CPU's cache
        parts = cosine_maps.split(at_once)
        chosen = [
            choose_classes(
                cosines,
                some,
                options.background,
                signed=self._clip.spec.signed,
                logit_scale=self._clip.logit_scale,
                min_region=options.min_area if options.per_region else None,
                ignored=None if ignored is None else torch.tensor(ignored, device=cosines.device),
            )
            for cosines, some in zip(
                parts, [None] * len(parts) if saliency is None else saliency.split(at_once), strict=True
            )
        ]
        images = [image for part in chosen for image in zip(*part, strict=True)]  # classes, confidence: each h' w'
        if prompts.exemplars:
            images = [_mark(*maps, batch, number, prompts) for number, maps in enumerate(images)]
        classes, confidences = (torch.stack(maps).cpu() for maps in zip(*images, strict=True))
        return [
            label_pixels(best, sure, prompts.labels, geometry, options, ignored)
            for best, sure, geometry in zip(classes, confidences, geometries, strict=True)
        ]

    @staticmethod
    def _resize_saliency(logits: npt.NDArray[np.float32], geometry: Geometry, size: Size) -> npt.NDArray[np.float32]:
        """Bring FOUND's saliency of one image from its own size to another: float32 [h', w'] in [0, 1]."""
        saliency = cv2.resize(upsampled_saliency(logits, geometry), size[::-1], interpolation=cv2.INTER_LINEAR)
        return saliency.astype(np.float32, copy=False)

    def _prepare(self, image: Image) -> tuple[Tensor, Geometry]:
        """Return the whole image as the tower takes it, float32 [1, 3, Hp, Wp], and how it came to be."""
        geometry = plan(size_of(image), patch=self._clip.patch, short_side=self._clip.spec.short_side)
        clip = self._clip
        return self._transfers.prepare([image], [geometry], clip.mean, clip.std, black=True), geometry


def embed_windows(tower: ImageTower, images: Tensor) -> list[Tensor]:
    """Embed the windows of three scales.

    A tower sees each window by itself, resized as it is used to. `lite_clip` sees the image once, larger, and averages:
    its features of a window hardly depend on what lies around it.

    Args:
        tower: The image tower.
        images: uint8 [B, 3, SIDE, SIDE] RGB.

    Returns:
        Per scale float32 [B, n, n, D], not normalised.
    """
    mean, std = (torch.tensor(values, device=images.device)[:, None, None] * 255 for values in (tower.mean, tower.std))
    if isinstance(tower, LiteImage):
        side = tower.spec.window_side
        large = F.interpolate(images.float(), size=(side, side), mode="bilinear", align_corners=False)
        return tower.windows((large - mean) / std, [Fraction(patch, SIDE) for patch in PATCH_SIZES], STRIDE)
    pixels = resized_windows(images, tower.side, interpolation=tower.interpolation)  # B*windows 3 S S
    return split_windows(tower((pixels.float() - mean) / std), len(images), windows_per_row())


def _mark(
    classes: Tensor, confidence: Tensor, batch: Batch, number: int, prompts: ActivePrompts
) -> tuple[Tensor, Tensor]:
    """Mark in the maps [h', w'] of one image of a batch what was shown, where anything was."""
    if not prompts.exemplars:
        return classes, confidence
    image, geometry = batch.images[number], batch.geometries[number]
    features = batch.require_features().image(number)
    first = 1 + len(prompts.prompts)
    return mark_exemplars(classes, confidence, prompts.exemplars, image, features, geometry, first=first)


def _take_one(batch: Batch, number: int) -> Batch:
    """Return a batch of one image of a batch."""
    features = None if batch.features is None else batch.features.image(number)
    return Batch([batch.images[number]], [batch.geometries[number]], features, batch.prompts, area=batch.area)


def _to_pixels(maps: Tensor, geometry: Geometry) -> Tensor:
    """Interpolate maps [B, C, h, w] on the patch grid to pixels and cut the padding off: [B, C, h', w']."""
    height, width = geometry.resized
    fine = F.interpolate(maps, size=geometry.padded, mode="bilinear", align_corners=False)
    return fine[..., :height, :width]
