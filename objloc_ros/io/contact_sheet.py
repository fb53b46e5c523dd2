"""Several captioned pictures on one page."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from objloc_ros.errors import InputError
from objloc_ros.io.drawing import ascii_text
from objloc_ros.types import Image, check_image

PAGE = (247, 248, 250)
INK = (44, 52, 64)
FRAME = (226, 230, 235)

_FONT = cv2.FONT_HERSHEY_DUPLEX
_ELLIPSIS = "..."


def make_contact_sheet(
    images: Sequence[Image],
    captions: Sequence[str] | None = None,
    *,
    columns: int = 4,
    cell: tuple[int, int] = (240, 320),
) -> Image:
    """Lay images out in rows, each fitted into an equal cell with its caption below.

    Args:
        images: RGB uint8 [H, W, 3], sizes may differ; never enlarged more than fits the cell, aspect kept.
        captions: One line per image, shortened to the cell's width; None for none.
        columns: Images per row; fewer where there are fewer images.
        cell: Height and width of a picture on the sheet in pixels.

    Returns:
        RGB uint8 page.

    Raises:
        InputError: If there is no image, `columns` is not positive, or captions and images differ in number.
    """
    if not images or columns < 1:
        raise InputError(f"a contact sheet needs images and at least one column, got {len(images)} and {columns}")
    if captions is not None and len(captions) != len(images):
        raise InputError(f"a contact sheet needs one caption per image, got {len(captions)} for {len(images)}")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    height, width = cell
    gap = max(4, width // 24)
    line = 0 if captions is None else max(14, width // 11)
    page = np.full((gap + rows * (height + line + gap), gap + columns * (width + gap), 3), PAGE, np.uint8)
    for i, image in enumerate(images):
        check_image(image)
        top, left = gap + i // columns * (height + line + gap), gap + i % columns * (width + gap)
        _paste(page[top : top + height, left : left + width], image)
        if captions is not None:
            _caption(page[top + height : top + height + line, left : left + width], captions[i])
    return page


def fit_image(image: Image, cell: tuple[int, int]) -> Image:
    """Scale an image to the size that it has in a cell of this height and width."""
    scale = min(cell[0] / image.shape[0], cell[1] / image.shape[1])
    size = (max(1, round(scale * image.shape[1])), max(1, round(scale * image.shape[0])))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC), np.uint8)


def _paste(cell: Image, image: Image) -> None:
    """Fit an image into the middle of a cell, in place."""
    cell[:] = FRAME
    picture = fit_image(image, (cell.shape[0], cell.shape[1]))
    top, left = ((whole - part) // 2 for whole, part in zip(cell.shape[:2], picture.shape[:2], strict=True))
    cell[top : top + picture.shape[0], left : left + picture.shape[1]] = picture


def _caption(bar: Image, caption: str) -> None:
    """Write one line into a bar, left-aligned and vertically centred, in place."""
    height, width = bar.shape[:2]
    font = height / 58
    text = ascii_text(caption)
    while cv2.getTextSize(text, _FONT, font, 1)[0][0] > width and len(text) > len(_ELLIPSIS):
        text = text[: -len(_ELLIPSIS) - 1] + _ELLIPSIS
    letter = cv2.getTextSize("X", _FONT, font, 1)[0][1]
    cv2.putText(bar, text, (0, (height + letter) // 2), _FONT, font, INK, 1, cv2.LINE_AA)
