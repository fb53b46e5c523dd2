"""Objects in space, in rooms whose truth is known."""

import cv2
import numpy as np
import pytest

from objloc_ros.errors import InputError, ParameterError
from objloc_ros.methods.location import LocationOptions, fit_box, locate
from objloc_ros.ops.point_clouds import CameraModel, deproject, transform
from objloc_ros.scenes.depth_faults import FAULTS, spoil
from objloc_ros.scenes.room import Room, Solid, default_camera, render_room

CAMERA = default_camera(320, 240)
PLAIN = CameraModel(40, 30, 40.0, 40.0, 19.5, 14.5)
OPTIONS = LocationOptions()


def wall(depth):
    return np.full((30, 40), depth, np.float32)


def rectangle(rows, columns, shape=(30, 40)):
    region = np.zeros(shape, bool)
    region[slice(*rows), slice(*columns)] = True
    return region


@pytest.mark.parametrize("fault", FAULTS)
def test_a_carton_before_a_wall_under_every_fault(fault):
    room = Room(CAMERA, 1.0, 0.3, 5.0, (Solid("carton", (1.8, 0.1, 0.3), (0.4, 0.5, 0.6), 0.4),))
    view = render_room(np.random.default_rng(0), room)
    seen = view.identities == 1
    depth = spoil(np.random.default_rng(1), view.depth_m, fault)
    found = locate(depth, [seen], CAMERA, OPTIONS, rotation=room.rotation, translation=room.translation)
    assert (found.indices, found.unlocated) == ((0,), ())
    truth = transform(deproject(view.depth_m, CAMERA, seen), room.rotation, room.translation)
    middle = (truth.min(0) + truth.max(0)) / 2
    assert np.linalg.norm(found.centers[0] - middle) < 0.08


def test_a_mask_too_large_shows_the_wall_which_is_not_the_object():
    depth = wall(3.0)
    depth[8:22, 12:28] = 1.0
    found = locate(depth, [rectangle((4, 26), (8, 32))], PLAIN, OPTIONS)
    assert len(found.points[0]) == 14 * 16
    assert set(found.points[0][:, 2]) == {1.0}
    np.testing.assert_allclose(found.centers[0], (0, 0, 1), atol=0.02)


@pytest.mark.parametrize("kind", ["patches", "box"])
def test_the_floor_below_and_the_wall_behind_are_not_the_object(kind):
    room = Room(CAMERA, 0.8, 0.25, 4.0, (Solid("carton", (2.0, 0.1, 0.25), (0.4, 0.5, 0.5), 0.4),))
    view = render_room(np.random.default_rng(0), room)
    seen = view.identities == 1
    if kind == "box":
        rows, columns = (np.flatnonzero(seen.any(axis)) for axis in (1, 0))
        region = rectangle((rows[0], rows[-1] + 1), (columns[0], columns[-1] + 1), seen.shape)
    else:
        region = cv2.dilate(seen.astype(np.uint8), np.ones((17, 17), np.uint8)) > 0
    assert (region & ~seen).sum() > 0.1 * seen.sum()
    found = locate(view.depth_m, [region], CAMERA, OPTIONS, rotation=room.rotation, translation=room.translation)
    own = (found.points[0] - room.solids[0].center) @ room.solids[0].rotation / (0.2, 0.25, 0.25)
    assert np.abs(own).max() < 1.05
    assert len(own) > 0.9 * seen.sum()
    assert np.linalg.norm(found.centers[0] - room.solids[0].center) < 0.03  # its front, a side and its lid are seen


def test_a_region_within_an_object_keeps_its_faces():
    room = Room(CAMERA, 1.0, 0.3, 5.0, (Solid("carton", (1.8, 0, 0.3), (0.6, 0.6, 0.6), 0.6),))
    view = render_room(np.random.default_rng(0), room)
    core = cv2.erode((view.identities == 1).astype(np.uint8), np.ones((25, 25), np.uint8)) > 0
    found = locate(view.depth_m, [core], CAMERA, OPTIONS)
    assert len(found.points[0]) == core.sum()  # the planes around it are the carton's own


def test_a_poster_is_a_part_of_its_wall():
    found = locate(wall(1.5), [rectangle((10, 20), (10, 25))], PLAIN, OPTIONS)
    assert len(found.points[0]) == 150


def test_a_large_region_is_looked_at_in_every_second_row_and_column():
    depth = np.full((240, 320), 3.0, np.float32)
    depth[60:180, 100:220] = 1.0
    found = locate(depth, [rectangle((50, 190), (90, 230), depth.shape)], CAMERA, OPTIONS)
    assert len(found.points[0]) == 60 * 60
    np.testing.assert_allclose(sorted(found.sizes[0]), (0, 120 / CAMERA.fx, 120 / CAMERA.fx), atol=0.02)


def test_the_same_frame_gives_the_same_boxes():
    depth = np.random.default_rng(0).uniform(0.9, 1.1, (30, 40)).astype(np.float32)
    one, other = (locate(depth, [rectangle((5, 25), (5, 35))], PLAIN, OPTIONS) for _ in range(2))
    np.testing.assert_array_equal(one.centers, other.centers)


def test_a_reflection_and_holes_do_not_count():
    depth = wall(1.0)
    depth[5:10, 12:18] = 0.4
    depth[18:22, 20:26] = 7.0
    depth[:, 19] = np.nan  # a line of holes does not divide the object
    depth[14] = 0
    points = locate(depth, [rectangle((2, 28), (4, 36))], PLAIN, OPTIONS).points[0]
    assert set(points[:, 2]) == {1.0}
    assert points[:, 0].min() < -0.3
    assert points[:, 0].max() > 0.3


def test_a_long_object_seen_from_its_end_is_one():
    depth = wall(6.0)
    depth[:, 14:26] = np.linspace(3.0, 1.0, 30, dtype=np.float32)[:, None]
    found = locate(depth, [rectangle((0, 30), (10, 30))], PLAIN, LocationOptions(depth_step=0.08))
    assert found.sizes[0][:2].max() == pytest.approx(2.0, abs=0.15)


def test_regions_that_hold_nothing_are_told():
    depth = wall(1.0)
    depth[:, 20:] = np.nan
    regions = [rectangle((0, 0), (0, 0)), rectangle((0, 30), (20, 40)), rectangle((0, 4), (0, 5)), ~np.isnan(depth)]
    found = locate(depth, regions, PLAIN, OPTIONS)
    assert found.indices == (3,)
    assert found.unlocated == (
        (0, "the region is empty"),
        (1, "0 points of the object, of 0 with a depth in 600 pixels; at least 30 are wanted"),
        (2, "20 points of the object, of 20 with a depth in 20 pixels; at least 30 are wanted"),
    )
    assert locate(depth, [], PLAIN, OPTIONS).centers.shape == (0, 3)


def test_depth_out_of_range_does_not_count():
    near, far = LocationOptions(max_range=0.9), LocationOptions(min_range=1.1)
    assert len(locate(wall(1.0), [wall(1.0) > 0], PLAIN, near)) == 0
    assert len(locate(wall(1.0), [wall(1.0) > 0], PLAIN, far)) == 0
    assert len(locate(wall(1.0), [wall(1.0) > 0], PLAIN, OPTIONS)) == 1


@pytest.mark.parametrize("angle", [0, 20, 45, 77])
def test_two_sides_of_a_carton_give_its_angle(angle):
    turn = np.deg2rad(angle)
    along, ahead = np.array([np.cos(turn), np.sin(turn), 0]), np.array([-np.sin(turn), np.cos(turn), 0])
    rng = np.random.default_rng(0)
    steps, heights = rng.uniform(0, 1, (400, 1)), np.array([0, 0, 1.0]) * rng.uniform(0, 0.3, (800, 1))
    corner = np.concatenate([0.6 * steps * along, 0.4 * steps * ahead]) + heights
    _, size, rotation = fit_box(corner.astype(np.float32), np.eye(3))
    assert max(abs(along @ rotation[:, 0]), abs(along @ rotation[:, 1])) > np.cos(np.deg2rad(1.1))
    np.testing.assert_allclose(sorted(size), (0.3, 0.4, 0.6), atol=0.03)


def test_boxes_along_the_axes_do_not_turn():
    depth = wall(1.0)
    found = locate(depth, [depth > 0], PLAIN, LocationOptions(box="axis_aligned"))
    np.testing.assert_array_equal(found.rotations[0], np.eye(3))
    np.testing.assert_allclose(found.sizes[0], (39 / 40, 29 / 40, 0), atol=0.06)


def test_boxes_stand_upright_in_every_frame():
    depth = wall(1.0)
    up = (0.0, -0.8, -0.6)
    ahead = locate(depth, [depth > 0], PLAIN, OPTIONS)
    np.testing.assert_allclose(ahead.rotations[0][:, 2], (0, -1, 0), atol=1e-12)
    tilted = locate(depth, [depth > 0], PLAIN, OPTIONS, up=2 * np.array(up))
    np.testing.assert_allclose(tilted.rotations[0][:, 2], up, atol=1e-12)
    room = Room(PLAIN, 1.0, 0.2, 5.0, ())
    moved = locate(depth, [depth > 0], PLAIN, OPTIONS, rotation=room.rotation, translation=room.translation)
    np.testing.assert_allclose(moved.rotations[0][:, 2], (0, 0, 1), atol=1e-12)
    for found in (ahead, tilted, moved):
        np.testing.assert_allclose(found.rotations[0].T @ found.rotations[0], np.eye(3), atol=1e-12)
        assert np.linalg.det(found.rotations[0]) == pytest.approx(1)
    np.testing.assert_allclose(moved.points[0], transform(ahead.points[0], room.rotation, room.translation), rtol=1e-6)


def test_other_sizes_and_options_are_refused():
    with pytest.raises(InputError, match="the depth image is 40x30 pixels large, the camera's images 320x240"):
        locate(wall(1.0), [], CAMERA, OPTIONS)
    with pytest.raises(InputError, match=r"region 1 has \(3, 4\), the depth image \(30, 40\)"):
        locate(wall(1.0), [wall(1) > 0, np.ones((3, 4), bool)], PLAIN, OPTIONS)
    with pytest.raises(InputError, match="up must have a length above 0"):
        locate(wall(1.0), [], PLAIN, OPTIONS, up=np.zeros(3))
    with pytest.raises(ParameterError, match="box must be one of oriented, axis_aligned; got 'round'"):
        LocationOptions(box="round")
