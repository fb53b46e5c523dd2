import numpy as np
import pytest

from objloc_ros.nodes.overlay import draw
from objloc_ros.types import Detections

GREY = np.full((120, 160, 3), 90, np.uint8)


def one(box):
    return Detections.class_free(np.float32([box]), np.float32([0.8]))


NOTHING = Detections.class_free(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))


def test_nothing_found_is_the_picture_itself():
    np.testing.assert_array_equal(draw(GREY, NOTHING, np.zeros((120, 160), np.uint8)), GREY)


def test_the_input_is_left_alone():
    rgb, mask = GREY.copy(), np.full((120, 160), 255, np.uint8)
    draw(rgb, one((10, 20, 50, 60)), mask)
    np.testing.assert_array_equal(rgb, GREY)


def test_the_mask_is_tinted_where_it_is_set_and_nowhere_else():
    mask = np.zeros((120, 160), np.uint8)
    mask[30:60, 40:90] = 255
    changed = (draw(GREY, NOTHING, mask) != GREY).any(axis=2)
    np.testing.assert_array_equal(changed, mask > 0)


def test_a_box_is_framed_on_its_outermost_pixels():
    changed = (draw(GREY, one((40, 50, 100, 110))) != GREY).any(axis=2)
    ys, xs = np.nonzero(changed[52:])  # below the caption
    assert (xs.min(), xs.max(), ys.max() + 52) == (40, 99, 109)
    assert not changed[60:100, 50:90].any()


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (3000, 4000)])
def test_any_size_and_a_box_at_the_border(size):
    rgb = np.zeros((*size, 3), np.uint8)
    picture = draw(rgb, one((0, 0, size[1], size[0])), np.full(size, 255, np.uint8))
    assert picture.shape == rgb.shape
    assert picture.any()
