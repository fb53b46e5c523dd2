"""Points of depth images, against OpenCV's projection, which is written the other way round."""

import cv2
import numpy as np
import pytest

from objloc_ros.errors import InputError
from objloc_ros.ops.point_clouds import CameraModel, deproject, pixel_rays, transform

K = {"fx": 90.0, "fy": 95.0, "cx": 61.5, "cy": 40.25}
PLUMB_BOB = (-0.25, 0.06, 0.002, -0.001, -0.01)
RATIONAL = (0.5, -0.1, 0.001, 0.001, 0.02, 0.8, -0.05, 0.01)
EQUIDISTANT = (0.05, -0.02, 0.003, 0.0)


def camera(distortion=(), model="", width=128, height=80):
    return CameraModel(width, height, **K, distortion=distortion, distortion_model=model)


def project(points, camera):
    points, none = points.astype(np.float64).reshape(-1, 1, 3), np.zeros(3)
    if camera.distortion_model == "equidistant":
        pixels = cv2.fisheye.projectPoints(points, none, none, camera.matrix, np.array(camera.distortion))[0]
    else:
        pixels = cv2.projectPoints(points, none, none, camera.matrix, np.array(camera.distortion))[0]
    return pixels.reshape(-1, 2)


@pytest.mark.parametrize(
    ("model", "distortion"),
    [
        ("", ()),
        ("plumb_bob", PLUMB_BOB),
        ("rational_polynomial", RATIONAL),
        ("equidistant", EQUIDISTANT),
        ("equidistant", (0.0,) * 4),
    ],
)
def test_points_lie_where_their_pixels_look(model, distortion):
    depth = np.random.default_rng(0).uniform(0.5, 4, (80, 128)).astype(np.float32)
    points = deproject(depth, camera(distortion, model))
    assert points.shape == (80 * 128, 3)
    assert points.dtype == np.float32
    np.testing.assert_array_equal(points[:, 2], depth.ravel())
    rows, columns = np.mgrid[:80, :128]
    pixels = np.stack([columns.ravel(), rows.ravel()], axis=1)
    assert np.abs(project(points, camera(distortion, model)) - pixels).max() < 0.1


def test_a_point_by_hand():
    depth = np.zeros((80, 128), np.float32)
    depth[30, 100] = 2.0
    np.testing.assert_allclose(deproject(depth, camera()), [[2 * 38.5 / 90, 2 * -10.25 / 95, 2]], rtol=1e-6)


def test_pixels_without_a_depth_are_left_out():
    depth = np.full((80, 128), np.nan, np.float32)
    depth[0, :5] = 0, -1, np.inf, -np.inf, 1.5
    assert deproject(depth, camera())[:, 2].tolist() == [1.5]
    assert deproject(depth, camera(), np.zeros((80, 128), bool)).shape == (0, 3)


def test_only_wanted_pixels_are_taken():
    where = np.zeros((80, 128), bool)
    where[3, 7], where[5, 2] = True, True
    depth = np.arange(80 * 128, dtype=np.float32).reshape(80, 128)
    assert deproject(depth, camera(), where)[:, 2].tolist() == [3 * 128 + 7, 5 * 128 + 2]


def test_pixels_that_see_no_point_are_left_out():
    folded = camera((-0.9, 0.0, 0.0, 0.0, 0.0), "plumb_bob")  # radii beyond r(1 - 0.9 r^2) <= 0.406 are never met
    reach = np.hypot((np.arange(128) - 61.5) / 90, ((np.arange(80) - 40.25) / 95)[:, None])
    seen = np.isfinite(pixel_rays(folded)[..., 0])
    assert seen[reach < 0.39].all()
    assert not seen[reach > 0.42].any()
    assert len(deproject(np.ones((80, 128), np.float32), folded)) == seen.sum()


def test_zeros_are_no_distortion_whatever_their_model():
    np.testing.assert_array_equal(pixel_rays(camera((0.0,) * 5, "made_up")), pixel_rays(camera()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0}, "width must be finite and above 0, got 0"),
        ({"fx": 0.0}, "fx must be finite and above 0, got 0.0"),
        ({"fy": float("nan")}, "fy must be finite and above 0, got nan"),
        ({"cx": float("inf")}, "cx must be finite, got inf"),
        ({"distortion": (0.1, float("nan"))}, "distortion must be finite"),
        ({"distortion": (0.1,) * 4, "distortion_model": "odd"}, "must be one of plumb_bob.*; got 'odd'"),
        ({"distortion": (0.1,) * 6, "distortion_model": "plumb_bob"}, "plumb_bob has 4 or 5 coefficients, got 6"),
    ],
)
def test_cameras_that_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        CameraModel(**{"width": 128, "height": 80, **K, **change})


def test_a_smaller_depth_image_shows_the_same_points():
    half = camera().scaled(40, 64)
    assert (half.width, half.height, half.fx, half.fy) == (64, 40, 45.0, 47.5)
    rays, small = pixel_rays(camera()), pixel_rays(half)
    between = (rays[::2, ::2] + rays[1::2, 1::2]) / 2  # a pixel of the small image covers four
    np.testing.assert_allclose(small, between, atol=1e-6)
    assert camera().scaled(80, 128) == camera()


@pytest.mark.parametrize("size", [(80, 64), (96, 128), (40, 60)])
def test_another_aspect_is_refused(size):
    with pytest.raises(InputError, match=f"its size is {size[1]}x{size[0]}, the camera's 128x80"):
        camera().scaled(*size)


def test_other_sizes_are_refused():
    with pytest.raises(InputError, match="the depth image is 128x40 pixels large, the camera's images 128x80"):
        deproject(np.ones((40, 128), np.float32), camera())
    with pytest.raises(InputError, match="the mask is 128x40 pixels large, the depth image 128x80"):
        deproject(np.ones((80, 128), np.float32), camera(), np.ones((40, 128), bool))


def test_points_are_turned_then_shifted():
    quarter = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]], float)
    moved = transform(np.array([[1, 2, 3]], np.float32), quarter, np.array([10.0, 20, 30]))
    np.testing.assert_array_equal(moved, [[8, 21, 33]])
    assert moved.dtype == np.float32
