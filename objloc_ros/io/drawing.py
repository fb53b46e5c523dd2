"""Pictures for people: masks, contours, boxes, label maps and their legend, scaled with the image's size."""

from __future__ import annotations

import colorsys
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ImageColor

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

HATCH = 64
"""What is added to the pixels of the lines in an area that is darkened to less than 128."""

DARK: Colour = (14, 20, 28)
"""RGB of outlines under bright lines and of text on bright labels."""

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
        bounds, colour = _bound(one), PALETTE[number % len(PALETTE)]
        _tint(canvas[bounds], one[bounds], colour)
        contours, _ = cv2.findContours(one[bounds], cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(canvas[bounds], contours, -1, colour, max(1, round(0.7 * pen.line)), cv2.LINE_AA)
    if detections is not None:
        for box in detections.boxes:
            _box(canvas, box, pen)
        for box, score, name in zip(detections.boxes, detections.scores, _name(detections), strict=True):
            _label(canvas, box, float(score), name, pen)
    return canvas


def hatch(image: Image, mask: npt.NDArray[np.bool_]) -> Image:
    """Darken a part of an image, and draw diagonal lines in it: RGB uint8 [H, W, 3], a new one.

    Args:
        image: RGB uint8 [H, W, 3]; left untouched.
        mask: bool [H, W], the part.
    """
    pen = Pen.for_size(*image.shape[:2])
    ys, xs = np.ogrid[: image.shape[0], : image.shape[1]]
    lines = (xs + ys) % (8 * pen.line) < pen.line
    canvas = image.copy()
    canvas[mask] //= 2
    canvas[mask & lines] += HATCH
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


def _tint(canvas: Image, mask: Image, colour: Colour) -> None:
    """Blend a colour into the foreground of a mask, in place."""
    plain = np.full_like(canvas, colour)
    cv2.copyTo(cv2.addWeighted(canvas, 1 - TINT, plain, TINT, 0), mask, canvas)


def _bound(mask: Image) -> tuple[slice, slice]:
    """Return the rows and columns of a mask's foreground and of the pixels next to it."""
    x, y, width, height = cv2.boundingRect(mask)
    return slice(max(0, y - 1), y + height + 1), slice(max(0, x - 1), x + width + 1)


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


TINT = 0.45
"""Share of its label's colour in a pixel."""

NAME_SCALE = 1.25
"""Size of a name on its object, relative to other text."""

NAMED_AREA = 0.004
"""Least part of the picture of a region with a name of its own; the largest region of a label has one in any case."""

MAX_NAMES = 12
"""Regions of a label, the largest first, that may have names."""

_GOLDEN = 0.61803398875


def find_colour(text: str) -> Colour | None:
    """Return the RGB of the first word that is the name of a colour in CSS; None if there is none."""
    names = (word for word in re.findall("[a-z]+", text.lower()) if word in ImageColor.colormap)
    word = next(names, None)
    return None if word is None else ImageColor.getrgb(word)[:3]


def choose_colour(label: int, name: str = "") -> Colour:
    """Choose the RGB of a label, which never contradicts its name.

    Args:
        label: Its number, 0 to 254.
        name: Its text.

    Returns:
        The colour that the name mentions, if it does; otherwise the palette's of masks first, then hues that keep their
        distance from their neighbours'.
    """
    named = find_colour(name)
    if named is not None:
        return named
    if label < len(PALETTE):
        return PALETTE[label]
    red, green, blue = colorsys.hsv_to_rgb(label * _GOLDEN % 1, 0.55 + 0.15 * (label % 4), 1 - 0.15 * (label % 3))
    return round(255 * red), round(255 * green), round(255 * blue)


def choose_ink(colour: Colour) -> Colour:
    """Return dark or white, whichever is easier to see on a colour or beside it (ITU-R BT.601 luma)."""
    red, green, blue = colour
    return DARK if 0.299 * red + 0.587 * green + 0.114 * blue > 110 else OUTLINE_COLOUR


def label_overlay(image: Image, labels: Image, names: Mapping[int, str]) -> Image:
    """Colour an image by a label map, outline its regions, and write the names of the labels on them.

    Args:
        image: RGB uint8 [H, W, 3]; left untouched.
        labels: uint8 [H, W]; UNLABELLED pixels stay as they are.
        names: Name of each label. Those that find no room on the picture are listed at its bottom.

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
    present = [int(number) for number in np.argsort(-areas[:UNLABELLED], kind="stable") if areas[number]]
    texts = {number: names.get(number, str(number)) for number in present}
    colours = {number: choose_colour(number, text) for number, text in texts.items()}
    canvas, pen = image.copy(), Pen.for_size(*image.shape[:2])
    masks = {number: (labels == number).view(np.uint8) for number in present}
    for number, mask in masks.items():
        bounds = _bound(mask)
        _tint(canvas[bounds], mask[bounds], colours[number])
        _outline(canvas[bounds], mask[bounds], pen, colours[number])
    bars: list[Bar] = []
    unnamed = [n for n in present if not _write_names(canvas, masks[n], texts[n], colours[n], pen, bars)]
    return _with_legend(canvas, [(colours[number], texts[number]) for number in unnamed], pen)


def _outline(canvas: Image, mask: Image, pen: Pen, colour: Colour) -> None:
    """Draw a line along the rims of the regions of a mask, in place, on their own pixels alone.

    A finer line inside it shows the rim on an object that has the colour itself.
    """
    for thickness, line in ((max(1, round(0.7 * pen.line)), colour), (max(1, pen.edge), choose_ink(colour))):
        core: Image = np.asarray(cv2.erode(mask, np.ones((3, 3), np.uint8), iterations=thickness), np.uint8)
        canvas[mask > core] = line
        mask = core


Bar = tuple[int, int, int, int]
"""Left, top, width and height of the ground of a name, in pixels."""


def _write_names(canvas: Image, mask: Image, name: str, colour: Colour, pen: Pen, bars: list[Bar]) -> bool:
    """Write a name on the regions of a mask, in place, clear of the bars so far; return whether any had room."""
    text, font = ascii_text(name), NAME_SCALE * pen.font
    (text_width, text_height), _ = cv2.getTextSize(text, FONT, font, pen.stroke)
    size = text_width + 2 * pen.pad, text_height + 2 * pen.pad
    bounds = _bound(mask)
    count, regions, stats, _ = cv2.connectedComponentsWithStats(mask[bounds], connectivity=4)
    written = False
    for region in 1 + np.argsort(-stats[1:count, cv2.CC_STAT_AREA], kind="stable")[:MAX_NAMES]:
        x, y, width, height, area = (int(value) for value in stats[region])
        if written and area < NAMED_AREA * mask.size:
            break
        inside = (regions[y : y + height, x : x + width] == region).view(np.uint8)
        bar = _place_bar(inside, (bounds[1].start + x, bounds[0].start + y), size, canvas.shape[:2], bars)
        if bar is not None:
            bars.append(bar)
            cv2.rectangle(canvas, bar, colour, cv2.FILLED)
            base = (bar[0] + pen.pad, bar[1] + size[1] - pen.pad - 1)
            cv2.putText(canvas, text, base, FONT, font, choose_ink(colour), pen.stroke, cv2.LINE_AA)
            written = True
    return written


def _place_bar(
    inside: Image, corner: tuple[int, int], size: tuple[int, int], limits: tuple[int, ...], bars: Sequence[Bar]
) -> Bar | None:
    """Find room for a name: in the middle of its region where that is large, else above or below it.

    Args:
        inside: uint8 [h, w], the region's pixels in its own rectangle.
        corner: Left and top of that rectangle.
        size: Width and height of the name's bar.
        limits: Height and width of the picture.
        bars: What is taken.

    Returns:
        The bar; None if there is no room.
    """
    (x, y), (height, width), (bar_width, bar_height) = corner, inside.shape, size
    if bar_width > limits[1] or bar_height > limits[0]:
        return None
    depth = cv2.distanceTransform(cv2.copyMakeBorder(inside, 1, 1, 1, 1, cv2.BORDER_CONSTANT), cv2.DIST_L2, 3)
    deep = np.argwhere(depth > 0.95 * depth.max())
    row, column = deep[np.abs(deep - deep.mean(0)).sum(1).argmin()]
    if bar_width <= width and 2 * bar_height <= depth.max():
        corners = [(x + int(column) - 1 - bar_width // 2, y + int(row) - 1 - bar_height // 2)]
    else:
        left = x + (width - bar_width) // 2
        corners = [(left, y - bar_height), (left, y + height)]
    for left, top in corners:
        left = min(max(left, 0), limits[1] - bar_width)
        if 0 <= top <= limits[0] - bar_height and not any(_overlap((left, top, *size), bar) for bar in bars):
            return left, top, *size
    return None


def _overlap(one: Bar, other: Bar) -> bool:
    return all(one[i] < other[i] + other[i + 2] and other[i] < one[i] + one[i + 2] for i in (0, 1))


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
