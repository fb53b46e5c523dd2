"""Rooms: what is rendered is what stands there."""

import numpy as np
import pytest

from objloc_ros.ops.point_clouds import deproject, transform
from objloc_ros.scenes.depth_faults import FAULTS, spoil
from objloc_ros.scenes.room import Room, Solid, default_camera, random_room, render_room

CAMERA = default_camera(160, 120)


def points_of(room, view, identity):
    points = deproject(view.depth_m, room.camera, view.identities == identity)
    return transform(points, room.rotation, room.translation).astype(np.float64)


def render(*solids, height=1.0, pitch=0.3, camera=CAMERA):
    room = Room(camera, height, pitch, 5.0, solids)
    return room, render_room(np.random.default_rng(0), room)


@pytest.mark.parametrize("distorted", [False, True])
def test_points_lie_on_the_surfaces(distorted):
    carton = Solid("carton", (1.8, 0.3, 0.25), (0.4, 0.3, 0.5), 0.5)
    drum = Solid("drum", (1.6, -0.3, 0.2), (0.3, 0.3, 0.4))
    room, view = render(carton, drum, camera=default_camera(160, 120, distorted=distorted))
    floor = points_of(room, view, 0)
    assert np.minimum(np.abs(floor[:, 2]), np.abs(floor[:, 0] - 5)).max() < 1e-5
    own = (points_of(room, view, 1) - carton.center) @ carton.rotation / (np.array(carton.size) / 2)
    assert len(own) > 300
    np.testing.assert_allclose(np.abs(own).max(1), 1, atol=1e-5)
    own = points_of(room, view, 2) - drum.center
    aside, above = np.hypot(own[:, 0], own[:, 1]) / 0.15, own[:, 2] / 0.2
    assert len(own) > 300
    assert (above > 0.999).any()
    assert (above < 0.5).any()
    np.testing.assert_allclose(np.maximum(aside, above), 1, atol=1e-5)


def test_what_is_nearer_hides_what_is_behind():
    near, far = (Solid("carton", (x, 0, 0.5), (0.2, 0.6, 1.0)) for x in (1.5, 3.0))
    _, view = render(far, near, pitch=0.0)
    assert view.identities[60, 80] == 2
    assert view.depth_m[60, 80] == pytest.approx(1.4)
    assert not (view.identities == 1).any() or view.identities[60, 80] == 2


def test_depth_is_along_the_axis_not_along_the_ray():
    _, view = render(pitch=0.0)
    np.testing.assert_allclose(view.depth_m[10], 5.0, rtol=1e-6)


def test_random_rooms_stand_apart_and_repeat():
    room = random_room(np.random.default_rng(3), CAMERA, solids=5)
    assert len(room.solids) == 5
    for i, one in enumerate(room.solids):
        assert one.center[2] == one.size[2] / 2
        for other in room.solids[:i]:
            assert np.hypot(*np.subtract(one.center, other.center)[:2]) > (one.size[1] + other.size[1]) / 2
    assert random_room(np.random.default_rng(3), CAMERA, solids=5) == room


def test_faults_do_what_their_names_say():
    _, view = render(Solid("carton", (1.8, 0, 0.25), (0.4, 0.4, 0.5), 0.5))
    spoilt = {name: spoil(np.random.default_rng(1), view.depth_m, name) for name in FAULTS}
    clean = view.depth_m
    assert all(depth.dtype == np.float32 and depth.shape == clean.shape for depth in spoilt.values())
    np.testing.assert_array_equal(spoilt["clean"], clean)
    changed = np.abs(spoilt["millimetres"] - clean)
    assert 0 < changed.max() < 0.00051
    assert 0.08 < (spoilt["holes"] == 0).mean() < 0.4
    assert 0.2 < np.isnan(spoilt["NaN"]).mean() < 0.4
    assert 0 < np.isinf(spoilt["NaN"]).mean() < 0.05
    for name, bounds in (("flying pixels", (0.005, 0.2)), ("reflections", (0.05, 0.12))):
        assert bounds[0] < (np.abs(spoilt[name] / clean - 1) > 0.03).mean() < bounds[1]
    flown = spoilt["flying pixels"]
    assert clean.min() <= flown.min() <= flown.max() <= clean.max()
    noise = (spoilt["stereo noise"] - clean) / clean**2
    assert noise.std() == pytest.approx(0.002, rel=0.05)
