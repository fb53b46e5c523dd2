"""From patches to pixels: what a coarse mask becomes along the edges of its image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from objloc_ros.methods.options import Post
from objloc_ros.ops.bilateral import BilateralGrid, accepts, binary
from objloc_ros.ops.crf import MASKCUT, CrfOptions, DenseCrf
from objloc_ros.ops.regions import BoolMap


def refine(
    masks: Sequence[BoolMap],
    image: npt.NDArray[np.uint8],
    post: Post,
    *,
    crf: CrfOptions = MASKCUT,
    device: torch.device | str = "cpu",
) -> list[BoolMap]:
    """Move masks to the edges of their image.

    Args:
        masks: bool [H, W] each.
        image: RGB uint8 [H, W, 3].
        post: "bilateral" solves for a smooth map, as TokenCut's saliency does, and keeps the old mask where its IoU
            with the result is no more than 0.5; "crf" runs MaskCut's dense CRF, and gives an empty mask where the IoU
            is below 0.5; "none" leaves all as they are.
        crf: The model of "crf", which is shrunk to smaller images than it is for.
        device: Where "crf" is computed.
    """
    if post == "bilateral":
        grid = BilateralGrid(image)
        candidates = [binary(grid.solve(mask)) if mask.any() else mask for mask in masks]
        return [new if accepts(old, new) else old for old, new in zip(masks, candidates, strict=True)]
    if post == "crf" and masks:
        return DenseCrf(image, crf.shrink_to(min(image.shape[:2])), device=device).gated(masks)
    return list(masks)
