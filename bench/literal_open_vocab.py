"""Literal formulation of CLIP-DIY (WACV 2024, sections 3.1 and 3.2): one window and one class at a time.

It is what `bench/open_vocab.py` measures against and what the tests compare the product's results with.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image
import torch
from open_clip.transformer import TextTransformer
from torch import Tensor
from torch.nn import functional as F

from objloc_ros.backbones.clip import ClipImage
from objloc_ros.backbones.clip_text import Tokenizer
from objloc_ros.types import Image

SIDE = 256
"""Images become squares of this side in pixels."""

SCALES = (256, 128, 64)
"""Sides of the windows in pixels."""

TEMPLATE = "a photo of a {}"


def clip_diy(
    image: Image, tower: ClipImage, texts: Tensor, saliency: Tensor, scales: Sequence[int] = SCALES
) -> npt.NDArray[np.int64]:
    """The class of each pixel.

    Args:
        image: RGB uint8 [H, W, 3].
        tower: CLIP's image tower.
        texts: Unit vectors float32 [C, D], the background's first.
        saliency: float32 [SIDE, SIDE] in [0, 1], high on objects.
        scales: Sides of the windows.

    Returns:
        int64 [SIDE, SIDE].
    """
    maps = similarity_maps(image, tower, texts, scales)
    scores = torch.empty_like(maps)
    for number, one in enumerate(maps):
        scores[number] = one * saliency if number else one * (1 - saliency)
    return scores.softmax(0).argmax(0).numpy()


def similarity_maps(image: Image, tower: ClipImage, texts: Tensor, scales: Sequence[int] = SCALES) -> Tensor:
    """The mean over the scales of the windows' cosines, interpolated: float32 [C, SIDE, SIDE]."""
    square = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)
    maps = []
    for side in scales:
        starts = range(0, SIDE - side + 1, side // 2)
        cosines = torch.empty(len(texts), len(starts), len(starts))
        for row, top in enumerate(starts):
            for column, left in enumerate(starts):
                window = window_input(square[top : top + side, left : left + side], tower)
                cosines[:, row, column] = texts @ F.normalize(tower(window[None])[0], dim=0)
        maps.append(F.interpolate(cosines[None], size=(SIDE, SIDE), mode="bilinear", align_corners=False)[0])
    return torch.stack(maps).mean(0)


def window_input(window: Image, tower: ClipImage) -> Tensor:
    """CLIP's preprocessing of one square window through Pillow: float32 [3, S, S]."""
    pixels = np.asarray(window_pixels(window, tower.side), np.float32) / 255
    normalised = (pixels - np.array(tower.mean, np.float32)) / np.array(tower.std, np.float32)
    return torch.from_numpy(normalised).permute(2, 0, 1)


def window_pixels(window: Image, side: int) -> Image:
    """Bicubic, with antialiasing where it shrinks: uint8 [side, side, 3]."""
    return np.asarray(PIL.Image.fromarray(window).resize((side, side), PIL.Image.Resampling.BICUBIC))


def class_texts(tower: TextTransformer, tokenizer: Tokenizer, classes: Sequence[str]) -> Tensor:
    """Each class in the one sentence, padded to the full context, in a pass of its own: unit vectors [C, D]."""
    vectors = [tower(tokenizer([TEMPLATE.format(name)]))[0] for name in classes]
    return torch.stack([F.normalize(vector, dim=0) for vector in vectors])
