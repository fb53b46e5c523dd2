"""Pictures for people: masks, contours, boxes, label maps and their legend, scaled with the image's size."""

from __future__ import annotations

import colorsys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from objloc_ros.errors import InputError
from objloc_ros.types import UNLABELLED, Detections, Image, check_image

Colour = tuple[int, int, int]

MASK: Colour = (255, 36, 120)
"""RGB of the foreground: a pink that neither sky nor vegetation nor asphalt has."""

PALETTE: tuple[Colour, ...] = (MASK, (64, 220, 255), (255, 140, 0), (170, 90, 255), (60, 255, 130), (255, 240, 40))
"""RGB of objects with a mask each, in turn."""

BOX: Colour = (255, 208, 56)
"""RGB of boxes and labels."""

OUTLINE_COLOUR: Colour = (255, 255, 255)
"""RGB of the outlines of true objects."""

DARK: Colour = (14, 20, 28)
"""RGB of outlines under bright lines and of text on bright labels."""

_TINT = 0.45
FONT = cv2.FONT_HERSHEY_DUPLEX


@dataclass(frozen=True)
class Pen:
    """Line width and text size for an image.

    Args:
        line: Width of box lines and contours in pixels.
        edge: What the dark outline adds on each side of a box line; nothing on small images.
        font: OpenCV font scale.
        stroke: Width of the letters' strokes in pixels.
        pad: Space around the text of a label in pixels.
    """

    line: int
    edge: int
    font: float
    stroke: int
    pad: int

    @classmethod
    def for_size(cls, height: int, width: int) -> Pen:
        """Scale a pen to an image: 3 px lines and letters 11 px high at 640x480, never below 8 px."""
        unit = (height * width) ** 0.5 / 554
        font = max(0.36, 0.5 * unit)
        line = max(1, round(2.6 * unit))
        return cls(line, -(-line // 4) if line > 1 else 0, font, max(1, round(1.1 * font)), max(2, round(4 * unit)))


def overlay(image: Image, mask: npt.NDArray[np.generic] | None = None, detections: Detections | None = None) -> Image:
    """Draw tinted masks with their contours, then boxes with label and score.

    Args:
        image: RGB uint8 [H, W, 3]; left untouched.
        mask: Bool or uint8 [H, W], foreground where non-zero; or uint16 [H, W], a colour for each number above 0.
        detections: Boxes in the pixels of `image`; those that are tracked are named by their classes, if there are any,
            and ids.

    Returns:
        RGB uint8 [H, W, 3].

    Raises:
        InputError: If the image or the mask has the wrong shape or type.
    """
    check_image(image)
    canvas = image.copy()
    pen = Pen.for_size(*image.shape[:2])
    for number, one in _separate(mask, image.shape[:2]):
        _tint(canvas, one, pen, PALETTE[number % len(PALETTE)])
    if detections is not None:
        for box in detections.boxes:
            _box(canvas, box, pen)
        for box, score, name in zip(detections.boxes, detections.scores, _name(detections), strict=True):
            _label(canvas, box, float(score), name, pen)
    return canvas


def _name(detections: Detections) -> Sequence[str]:
    if detections.ids is None:
        return detections.labels
    classes = ["" if label == "object" else f"{label} " for label in detections.labels]
    return [f"{label}{track}:" for label, track in zip(classes, detections.ids, strict=True)]


def draw_outline(canvas: Image, mask: npt.NDArray[np.bool_]) -> Image:
    """Draw a line around true objects, in place.

    Args:
        canvas: RGB uint8 [H, W, 3].
        mask: bool [H, W], the pixels of the objects.

    Returns:
        The canvas.
    """
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(canvas, contours, -1, OUTLINE_COLOUR, 2, cv2.LINE_AA)
    return canvas


def _separate(mask: npt.NDArray[np.generic] | None, size: tuple[int, ...]) -> Iterator[tuple[int, Image]]:
    """Yield the number of each object, from 0, and its mask; a single one for a bool or uint8 mask."""
    if mask is None:
        return
    if mask.shape != size or mask.dtype not in (np.bool_, np.uint8, np.uint16):
        raise InputError(
            f"mask must be bool, uint8 or uint16 of shape {list(size)}, got {mask.dtype} {list(mask.shape)}"
        )
    if mask.dtype == np.uint16:
        for number in np.setdiff1d(mask, [0]):
            yield int(number) - 1, (mask == number).view(np.uint8)
    else:
        yield 0, np.ascontiguousarray(mask).view(np.uint8)


def _tint(canvas: Image, mask: Image, pen: Pen, colour: Colour) -> None:
    """Blend its colour into the foreground and outline it, in place; only the foreground's rectangle is touched."""
    x, y, w, h = cv2.boundingRect(mask)
    if w == 0:
        return
    region, inside = canvas[y : y + h, x : x + w], mask[y : y + h, x : x + w]
    plain = np.full_like(region, colour)
    cv2.copyTo(cv2.addWeighted(region, 1 - _TINT, plain, _TINT, 0), inside, region)
    contours, _ = cv2.findContours(inside, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(region, contours, -1, colour, max(1, round(0.7 * pen.line)), cv2.LINE_AA)


def _box(canvas: Image, box: npt.NDArray[np.float32], pen: Pen) -> None:
    """Draw one box whose line lies inside its borders, on a dark outline that keeps it visible on any background."""
    x1, y1, x2, y2 = _pixels(box)
    _frame(canvas, (x1 - pen.edge, y1 - pen.edge, x2 + pen.edge, y2 + pen.edge), pen.line + 2 * pen.edge, DARK)
    _frame(canvas, (x1, y1, x2, y2), pen.line, BOX)


def _frame(canvas: Image, corners: tuple[int, int, int, int], line: int, colour: Colour) -> None:
    """Fill the rim of a rectangle (exclusive max), clipped to the canvas; exact where cv2.rectangle is a pixel off."""
    x1, y1, x2, y2 = (max(0, corner) for corner in corners)
    top, left = canvas[y1:y2, x1:x2][:line], canvas[y1:y2, x1:x2][:, :line]
    bottom, right = canvas[max(y1, y2 - line) : y2, x1:x2], canvas[y1:y2, max(x1, x2 - line) : x2]
    for side in (top, bottom, left, right):
        side[:] = colour


def _label(canvas: Image, box: npt.NDArray[np.float32], score: float, label: str, pen: Pen) -> None:
    """Write label and score on a bar above the box, or inside it at the image's top; the score alone when tight."""
    height, width = canvas.shape[:2]
    for text in (f"{ascii_text(label)} {score:.2f}", f"{score:.2f}"):
        (text_w, text_h), _ = cv2.getTextSize(text, FONT, pen.font, pen.stroke)
        bar_w, bar_h = text_w + 2 * pen.pad, text_h + 2 * pen.pad
        if bar_w <= width and bar_h <= height:
            break
    else:
        return
    x1, y1, _, _ = _pixels(box)
    left = min(max(x1, 0), width - bar_w)
    top = y1 - bar_h if y1 >= bar_h else min(max(y1, 0), height - bar_h)
    cv2.rectangle(canvas, (left, top), (left + bar_w - 1, top + bar_h - 1), BOX, cv2.FILLED)
    base = (left + pen.pad, top + bar_h - pen.pad - 1)
    cv2.putText(canvas, text, base, FONT, pen.font, DARK, pen.stroke, cv2.LINE_AA)


def _pixels(box: npt.NDArray[np.float32]) -> tuple[int, int, int, int]:
    x1, y1, x2, y2 = (round(float(value)) for value in box)
    return x1, y1, x2, y2


def ascii_text(text: str) -> str:
    """Replace what OpenCV's fonts cannot draw by a question mark."""
    return "".join(letter if " " <= letter <= "~" else "?" for letter in text)


TINT = 0.55
"""Share of its label's colour in a pixel."""

_GOLDEN = 0.61803398875


def choose_colour(label: int) -> Colour:
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
        table[number] = choose_colour(number)
    tinted = cv2.addWeighted(image, 1 - TINT, _look_up(table, labels), TINT, 0)
    canvas: Image = np.where((labels == UNLABELLED)[..., None], image, tinted)
    pen = Pen.for_size(*image.shape[:2])
    edges = _edges(labels)
    canvas[edges] = table[labels[edges], 0]
    return _with_legend(canvas, [(choose_colour(n), names.get(n, str(n))) for n in present], pen)


def _look_up(table: Image, labels: Image) -> Image:
    coloured: Image = table[:, 0][labels]
    return coloured


def _edges(labels: Image) -> npt.NDArray[np.bool_]:
    """Return labelled pixels whose right or lower neighbour has another label."""
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
