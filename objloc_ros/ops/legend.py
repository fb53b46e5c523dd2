"""Pictures of label maps: every pixel in its label's colour, and a legend that says which is which."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping

import cv2
import numpy as np
import numpy.typing as npt

from objloc_ros.errors import InputError
from objloc_ros.ops.drawing import BOX, DARK, FONT, PALETTE, Colour, Pen, ascii_text
from objloc_ros.types import UNLABELLED, Image, check_image

TINT = 0.55
"""Share of its label's colour in a pixel."""

_GOLDEN = 0.61803398875


def colour_of(label: int) -> Colour:
    """RGB of a label: the palette of masks first, then hues that keep their distance from their neighbours'."""
    if label < len(PALETTE):
        return PALETTE[label]
    red, green, blue = colorsys.hsv_to_rgb(label * _GOLDEN % 1, 0.55 + 0.15 * (label % 4), 1 - 0.15 * (label % 3))
    return round(255 * red), round(255 * green), round(255 * blue)


def label_overlay(image: Image, labels: Image, names: Mapping[int, str]) -> Image:
    """Colour an image by a label map, and list the names of the labels in it at its bottom.

    Args:
        image: RGB uint8 [H, W, 3]; left untouched.
        labels: uint8 [H, W]; UNLABELLED pixels stay as they are.
        names: Name of each label; what is in the picture is listed by the area it covers.

    Returns:
        RGB uint8 [H, W, 3].

    Raises:
        InputError: If the image or the map has the wrong shape or type.
    """
    check_image(image)
    if labels.shape != image.shape[:2] or labels.dtype != np.uint8:
        raise InputError(
            f"labels must be uint8 of shape {list(image.shape[:2])}, got {labels.dtype} {list(labels.shape)}"
        )
    areas = np.bincount(labels.ravel(), minlength=256)
    present = [int(n) for n in np.argsort(-areas[:UNLABELLED], kind="stable") if areas[n]]
    table = np.zeros((256, 1, 3), np.uint8)
    for number in present:
        table[number] = colour_of(number)
    tinted = cv2.addWeighted(image, 1 - TINT, _looked_up(table, labels), TINT, 0)
    canvas: Image = np.where((labels == UNLABELLED)[..., None], image, tinted)
    pen = Pen.for_size(*image.shape[:2])
    edges = _edges(labels)
    canvas[edges] = table[labels[edges], 0]
    return _with_legend(canvas, [(colour_of(n), names.get(n, str(n))) for n in present], pen)


def _looked_up(table: Image, labels: Image) -> Image:
    coloured: Image = table[:, 0][labels]
    return coloured


def _edges(labels: Image) -> npt.NDArray[np.bool_]:
    """Labelled pixels whose right or lower neighbour has another label."""
    edges = np.zeros(labels.shape, bool)
    edges[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    edges[:-1] |= labels[:-1] != labels[1:]
    return edges & (labels != UNLABELLED)


def _with_legend(canvas: Image, entries: list[tuple[Colour, str]], pen: Pen) -> Image:
    """Write the entries from left to right on dark bars at the bottom, in as many rows as they need."""
    rows: list[list[tuple[Colour, str, int]]] = [[]]
    left, (_, text_height) = 0, cv2.getTextSize("Ag", FONT, pen.font, pen.stroke)[0]
    bar = text_height + 3 * pen.pad
    for colour, name in entries:
        text = ascii_text(name)
        width = cv2.getTextSize(text, FONT, pen.font, pen.stroke)[0][0] + bar + pen.pad
        if left and left + width > canvas.shape[1]:
            rows.append([])
            left = 0
        rows[-1].append((colour, text, left))
        left += width
    rows = rows[: canvas.shape[0] // (2 * bar)] if entries else []
    for number, row in enumerate(rows):
        top = canvas.shape[0] - bar * (len(rows) - number)
        canvas[top : top + bar] = canvas[top : top + bar] // 4 + np.array(DARK, np.uint8) // 4 * 3
        for colour, text, x in row:
            patch = (slice(top + pen.pad, top + bar - pen.pad), slice(x + pen.pad, x + bar - pen.pad))
            canvas[patch] = colour
            base = (x + bar, top + bar - pen.pad - pen.pad // 2)
            cv2.putText(canvas, text, base, FONT, pen.font, BOX, pen.stroke, cv2.LINE_AA)
    return canvas
