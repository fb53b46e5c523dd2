"""Contact sheets of objects: each cut out of its picture with a margin and its outline."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from objloc_ros.errors import InputError
from objloc_ros.fleet.objects import Fleet, FleetImage, FleetObject
from objloc_ros.io.contact_sheet import FRAME_RGB, fit_image, make_contact_sheet
from objloc_ros.io.drawing import draw_outline
from objloc_ros.io.media import read_image
from objloc_ros.types import Image

MARGIN = 0.25
"""Of the longer side of an object's box, shown around it."""

CELL = (150, 200)
"""Height and width of an object on a sheet, pixels."""


def make_object_sheet(fleet: Fleet, places: Sequence[int], captions: Sequence[str], *, columns: int = 6) -> Image:
    """Lay objects out on a page.

    Args:
        fleet: The objects.
        places: Which of them, at least one.
        captions: A line for each.
        columns: Objects per row.

    Returns:
        RGB uint8 page; an object whose picture cannot be read is an empty cell.
    """
    objects = fleet.objects
    numbers = fleet.image_numbers[list(places)]
    cuts = [
        _cut_out(fleet.images[number], objects[place]) for number, place in zip(numbers.tolist(), places, strict=True)
    ]
    return make_contact_sheet(cuts, captions, columns=columns, cell=CELL)


def _cut_out(image: FleetImage, fleet_object: FleetObject) -> Image:
    blank: Image = np.full((*CELL, 3), FRAME_RGB, np.uint8)
    try:
        pixels, mask = read_image(image.file), fleet_object.decode_mask(image.size)
    except InputError:
        return blank
    x1, y1, x2, y2 = fleet_object.box
    margin = MARGIN * max(x2 - x1, y2 - y1, 1)
    rows = slice(max(0, round(y1 - margin)), max(1, round(y2 + margin)))
    columns = slice(max(0, round(x1 - margin)), max(1, round(x2 + margin)))
    part, solid = pixels[rows, columns], mask[rows, columns]
    if part.shape[:2] != solid.shape or not solid.size:
        return blank
    cut = fit_image(np.ascontiguousarray(part), CELL)
    return draw_outline(cut, fit_image(solid.astype(np.uint8) * np.uint8(255), CELL) > 127)
