"""FOUND: Siméoni et al., "Unsupervised Object Localization: Observing the Background to Discover Objects", CVPR 2023.

The background is found first: the patch that draws the least attention, and everything that looks like it. A 1x1
convolution trained on the complement (`objloc_ros.training.found_head`) then tells objects in one product per patch.
Both are in `found_network`; here the answers become objects, without torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from objloc_ros.errors import InputError
from objloc_ros.methods.options import FoundOptions, Mode
from objloc_ros.ops.geometry import Geometry, resize
from objloc_ros.ops.regions import BoolMap, components
from objloc_ros.types import Size

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FoundResult:
    """Objects of one image, at the processed size.

    Args:
        saliency: float32 [h', w'] in [0, 1].
        mask: bool [h', w'], the union of the reported regions.
        boxes: float32 [n, 4] in processed pixels, max side exclusive.
        scores: float32 [n], mean saliency inside each region, highest first.
    """

    saliency: Floats
    mask: BoolMap
    boxes: Floats
    scores: Floats


def localise(
    logits: Floats,
    *,
    geometry: Geometry,
    options: FoundOptions,
    image: npt.NDArray[np.uint8] | None = None,
    ignored: BoolMap | None = None,
) -> FoundResult:
    """Turn the head's logits into objects by the paper's evaluation protocol.

    The logits, not the saliency, are interpolated; the padding is cut off.

    Args:
        logits: [h, w] on the patch grid.
        geometry: How the image became the ViT's input.
        options: Threshold, selection and post-processing.
        image: RGB uint8 [H, W, 3] of the source size; only post="bilateral" looks at it.
        ignored: bool [h', w'], pixels without saliency; None for none.

    Raises:
        InputError: If the logits do not fit the grid, or the image is missing.
    """
    saliency = upsampled_saliency(logits, geometry)
    return localise_saliency(saliency, geometry=geometry, options=options, image=image, ignored=ignored)


def localise_saliency(
    saliency: Floats,
    *,
    geometry: Geometry,
    options: FoundOptions,
    image: npt.NDArray[np.uint8] | None = None,
    ignored: BoolMap | None = None,
) -> FoundResult:
    """Turn a saliency map into objects: the regions above the threshold.

    Args:
        saliency: float32 [h', w'] in [0, 1] at the processed size.
        geometry: How the image became the network's input.
        options: Threshold, selection and post-processing.
        image: RGB uint8 [H, W, 3] of the source size; only post="bilateral" looks at it.
        ignored: bool [h', w'], pixels without saliency; None for none.

    Raises:
        InputError: If the image is missing.
    """
    if ignored is not None:
        saliency = np.where(ignored, np.float32(0), saliency)
    mask = saliency > options.threshold
    if options.post == "bilateral":
        if image is None:
            raise InputError("post='bilateral' needs the image, got none")
        mask = refine_mask(mask, resize(image, geometry), mode=options.mode)
    if ignored is not None:
        mask = mask & ~ignored
    return _report(saliency, mask, options)


def upsampled_saliency(logits: Floats, geometry: Geometry) -> Floats:
    """Interpolate logits [h, w] bilinearly to pixels, cut the padding off, squash: float32 [h', w'] in [0, 1]."""
    if logits.shape != geometry.grid:
        raise InputError(f"expected logits of {geometry.grid} patch rows x columns, got {logits.shape}")
    height, width = geometry.resized
    fine = cv2.resize(logits, geometry.padded[::-1], interpolation=cv2.INTER_LINEAR)[:height, :width]
    odds = cv2.exp(-fine).reshape(height, width)
    saliency: Floats = np.reciprocal(odds + np.float32(1))
    return saliency


def refine_mask(mask: BoolMap, image: npt.NDArray[np.uint8], *, mode: Mode = "multi") -> BoolMap:
    """Move a mask to the image's edges with the bilateral solver, if the result overlaps it by an IoU above 0.5.

    Args:
        mask: bool [H, W]; returned as it is when the result is rejected, in "single" mode too, with all its regions.
        image: RGB uint8 [H, W, 3].
        mode: "multi" keeps every region of the solver's output, "single" its main one.
    """
    if not mask.any():
        return mask
    from objloc_ros.ops.bilateral import accepts, binary, solve  # SciPy's; nobody else waits for it

    candidate = binary(solve(image, mask), keep="all" if mode == "multi" else "largest")
    return candidate if accepts(mask, candidate) else mask


def corloc_box(logits: Floats, patch: int, image_size: Size) -> tuple[int, int, int, int] | None:
    """Return the box of the largest region at patch resolution: the paper's single-object rule for CorLoc.

    Args:
        logits: [h, w] on the patch grid.
        patch: Patch side in pixels.
        image_size: Height and width of the image before padding; the box is clipped to it.

    Returns:
        (x1, y1, x2, y2) in pixels, max side exclusive; None where no patch is above 0.5 (a miss).
    """
    regions = components(logits > 0)  # where their sigmoid is above 0.5
    if not len(regions):
        return None
    x1, y1, x2, y2 = (patch * int(side) for side in regions.boxes[regions.largest() - 1])
    return x1, y1, min(x2, image_size[1]), min(y2, image_size[0])


def _report(saliency: Floats, mask: BoolMap, options: FoundOptions) -> FoundResult:
    """Select the regions worth reporting, the highest mean saliency first."""
    regions = components(mask)
    candidates = np.flatnonzero(regions.areas >= options.min_area * mask.size)
    if options.mode == "single":
        candidates = candidates[candidates == regions.largest() - 1]
    scores = regions.mean(saliency)[candidates]
    best = np.argsort(-scores, kind="stable")[: options.max_detections]
    chosen = np.isin(np.arange(len(regions)), candidates[best])
    return FoundResult(
        saliency=saliency,
        mask=mask if chosen.all() else regions.select(chosen),
        boxes=regions.boxes[candidates[best]].astype(np.float32),
        scores=np.minimum(scores[best], 1.0).astype(np.float32),
    )
