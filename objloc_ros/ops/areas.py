"""Parts of an image, such as the robot's own bonnet, as polygons that fit it at any resolution."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from objloc_ros.errors import ParameterError
from objloc_ros.ops.regions import BoolMap
from objloc_ros.types import Size

Corner = tuple[float, float]
"""x and y in fractions of an image's width and height, from its top left."""


@dataclass(frozen=True)
class Area:
    """What lies inside some polygons; false where there are none.

    Args:
        polygons: At least three corners each, with x and y in [0, 1].
    """

    polygons: tuple[tuple[Corner, ...], ...] = ()

    def __bool__(self) -> bool:
        return bool(self.polygons)

    @classmethod
    def parse(cls, text: str) -> Area:
        """Parse polygons such as "0,0.9 1,0.9 1,1 0,1; 0.4,0 0.6,0 0.5,0.2"; nothing for an empty text.

        Raises:
            ParameterError: A corner is not two numbers in [0, 1], or a polygon has fewer than three.
        """
        return cls(tuple(_parse_polygon(part) for part in text.split(";") if part.strip()))

    def mask(self, size: Size) -> BoolMap:
        """Return the pixels whose centres lie inside a polygon, by the even-odd rule: bool [h, w], read-only."""
        return _draw(self, size)

    def cells(self, size: Size, cell: int) -> BoolMap:
        """Return the square cells that hold a pixel of the area: bool [ceil(h / cell), ceil(w / cell)].

        Args:
            size: Height and width of the image, h and w.
            cell: Side of a cell in pixels; the first begins at the image's top left.
        """
        below, right = (-side % cell for side in size)
        padded = np.pad(self.mask(size), ((0, below), (0, right)))
        rows, columns = padded.shape[0] // cell, padded.shape[1] // cell
        return np.asarray(padded.reshape(rows, cell, columns, cell).any(axis=(1, 3)))


def _parse_polygon(text: str) -> tuple[Corner, ...]:
    corners = tuple(_parse_corner(word) for word in text.split())
    if len(corners) < 3:
        raise ParameterError(f"a polygon needs at least 3 corners, got {len(corners)}: {text.strip()[:80]!r}")
    return corners


def _parse_corner(word: str) -> Corner:
    try:
        x, y = (float(number) for number in word.split(","))
    except ValueError:
        raise ParameterError(f"a corner must be two numbers 'x,y', got {word[:80]!r}") from None
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise ParameterError(f"a corner must lie in [0, 1], as fractions of width and height; got {word[:80]!r}")
    return x, y


@lru_cache(maxsize=64)
def _draw(area: Area, size: Size) -> BoolMap:
    height, width = size
    ys, xs = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
    drawn = np.zeros(size, np.bool_)
    for polygon in area.polygons:
        inside = np.zeros(size, np.bool_)
        for (x1, y1), (x2, y2) in zip(polygon, (*polygon[1:], polygon[0]), strict=True):
            rows = np.flatnonzero((y1 <= ys) != (y2 <= ys))  # those that the edge crosses
            if len(rows):
                crossings = x1 + (ys[rows] - y1) * (x2 - x1) / (y2 - y1)
                inside[rows] ^= xs < crossings[:, None]
        drawn |= inside
    drawn.flags.writeable = False
    return drawn
