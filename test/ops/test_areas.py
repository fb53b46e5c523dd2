"""Polygons in fractions of an image: what is read, what is refused, and which pixels and cells they hold."""

from __future__ import annotations

import re

import numpy as np
import pytest

from objloc_ros.errors import ParameterError
from objloc_ros.ops.areas import Area

LOWER = "0,0.5 1,0.5 1,1 0,1"


def test_polygons_are_read_in_their_order() -> None:
    area = Area.parse(" 0,0.5 1,.5  1,1 ;0,0 1e-1,0 0,0.25; ")
    assert area.polygons == (((0, 0.5), (1, 0.5), (1, 1)), ((0, 0), (0.1, 0), (0, 0.25)))
    assert area
    assert not Area.parse("")
    assert not Area.parse(" ; ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,0 1,1", "a polygon needs at least 3 corners, got 2: '0,0 1,1'"),
        ("0,0 1,0 1,1; 0.5,0.5", "a polygon needs at least 3 corners, got 1: '0.5,0.5'"),
        ("0,0 1,0 1,1.2", "a corner must lie in [0, 1], as fractions of width and height; got '1,1.2'"),
        ("0,0 640,0 640,480", "a corner must lie in [0, 1], as fractions of width and height; got '640,0'"),
        ("-0.1,0 1,0 1,1", "got '-0.1,0'"),
        ("0,nan 1,0 1,1", "got '0,nan'"),
        ("0,inf 1,0 1,1", "got '0,inf'"),
        ("0,0 1,0 1", "a corner must be two numbers 'x,y', got '1'"),
        ("0,0,0 1,0 1,1", "a corner must be two numbers 'x,y', got '0,0,0'"),
        ("left 1,0 1,1", "a corner must be two numbers 'x,y', got 'left'"),
        ("0, 0 1,0 1,1", "a corner must be two numbers 'x,y', got '0,'"),
    ],
)
def test_what_is_no_polygon_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(ParameterError, match=re.escape(message)):
        Area.parse(text)


@pytest.mark.parametrize("size", [(4, 6), (480, 640), (1, 1), (481, 7)])
def test_a_mask_holds_the_pixels_whose_centres_lie_inside_at_any_size(size: tuple[int, int]) -> None:
    centres = (np.arange(size[0]) + 0.5) / size[0]
    expected = np.repeat(centres[:, None] >= 0.5, size[1], axis=1)
    assert np.array_equal(Area.parse(LOWER).mask(size), expected)
    assert np.array_equal(Area.parse("0,1 1,1 1,0.5 0,0.5").mask(size), expected)  # whichever way round


def test_shapes() -> None:
    triangle = Area.parse("0,0 1,0 0,1").mask((4, 4))
    assert triangle.tolist() == [[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    assert Area.parse("0,0 1,0 1,1 0,1").mask((3, 5)).all()
    assert not Area.parse("0,0 0.5,0.5 1,1").mask((8, 8)).any()  # without an inside
    assert Area.parse("0,0 1,1 1,0 0,1").mask((2, 4)).tolist() == [[1, 0, 0, 1]] * 2  # crosses itself
    both = Area.parse("0,0 0.5,0 0.5,1 0,1; 0.25,0 0.75,0 0.75,1 0.25,1").mask((1, 4))
    assert both.tolist() == [[1, 1, 1, 0]]


def test_cells_are_touched_by_any_pixel() -> None:
    lowest = Area.parse("0,0.9 1,0.9 1,1 0,1")
    assert lowest.cells((10, 8), 4).tolist() == [[0, 0], [0, 0], [1, 1]]
    assert lowest.cells((12, 8), 4).tolist() == [[0, 0], [0, 0], [1, 1]]
    assert Area.parse(LOWER).cells((6, 6), 4).tolist() == [[1, 1], [1, 1]]
