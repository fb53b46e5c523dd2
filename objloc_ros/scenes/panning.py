"""A camera that pans and zooms over photographs, one after the other: real pictures in slow motion."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from objloc_ros.types import Image, Size, size_of

PHOTOGRAPHS = Path(__file__).with_name("photographs")
"""Folder of the photographs that come with the package; CREDITS.md names who took them."""

ZOOM = 0.86
"""Width of the narrowest view relative to the widest."""

DRIFT = 0.7
"""Part of the room beside a view that it crosses while the camera pans."""


def pan_over(photographs: Sequence[Image], *, size: Size = (480, 640), frames: int = 150) -> Iterator[Image]:
    """Yield the frames of a camera that gives each photograph the same time, zooming into one and out of the next.

    Args:
        photographs: RGB uint8 [H, W, 3], of any sizes.
        size: Height and width of the frames in pixels.
        frames: Number of frames; where there are fewer than photographs, the first ones have one each.

    Yields:
        RGB uint8 [height, width, 3].
    """
    for number, shot in enumerate(np.array_split(np.arange(frames), len(photographs))):
        for time in np.linspace(0, 1, len(shot)):
            inwards = time if number % 2 == 0 else 1 - time
            yield _take_view(photographs[number], size, 1 - (1 - ZOOM) * inwards, 0.5 + DRIFT * (time - 0.5))


def _take_view(photograph: Image, size: Size, zoom: float, place: float) -> Image:
    """Return what the camera sees: a rectangle of the frame's proportions, scaled to its size.

    Args:
        photograph: RGB uint8 [H, W, 3].
        size: Height and width of the frame.
        zoom: Width of the view relative to the widest one.
        place: Where it stands between the left and the right edge, and between top and bottom, in [0, 1].
    """
    scale = zoom * min(whole / part for whole, part in zip(size_of(photograph), size, strict=True))
    height, width = size_of(photograph)
    left, top = place * (width - scale * size[1]), place * (height - scale * size[0])
    # Centres of pixels correspond: x' = (x + 1/2) scale - 1/2 + left.
    shift = 0.5 * scale - 0.5
    to_source = np.array([[scale, 0, left + shift], [0, scale, top + shift]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    view = cv2.warpAffine(photograph, to_source, size[::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(view, np.uint8)
