"""Filmed scenes: what moves, what stays, and the truth of every frame."""

from itertools import pairwise

import numpy as np
import pytest

from objloc_ros.scenes.compose import Bank, Camera, random_scene
from objloc_ros.scenes.motion import Motion, render_video


@pytest.fixture(scope="module")
def bank():
    return Bank(7, backgrounds=4, sprites=6, side=96)


def film(bank, seed=0, frames=6):
    rng = np.random.default_rng(seed)
    scene = random_scene(rng, bank, aspect=4 / 3, counts=(0.0, 1.0), sizes=(0.4, 0.6))
    return list(render_video(rng, bank, scene, (60, 80), frames=frames, camera=Camera(strength=0.5)))


def test_frames_are_pictures_with_their_truth(bank):
    for image, identities in film(bank):
        assert (image.shape, image.dtype) == ((60, 80, 3), np.uint8)
        assert (identities.shape, identities.dtype) == ((60, 80), np.uint8)
        assert set(np.unique(identities)) <= {0, 1, 2}


def test_neighbouring_frames_differ_a_little(bank):
    frames = film(bank)
    for (image, _), (after, _) in pairwise(frames):
        difference = np.abs(image.astype(float) - after).mean()
        assert 0.5 < difference < 30


def test_exposure_stays_while_noise_does_not(bank):
    levels = [image.mean() for image, _ in film(bank, frames=4)]
    assert np.ptp(levels) < 10


def test_a_film_comes_from_its_seed(bank):
    for (image, truth), (again, its_truth) in zip(film(bank, 3), film(bank, 3), strict=True):
        np.testing.assert_array_equal(image, again)
        np.testing.assert_array_equal(truth, its_truth)
    assert not np.array_equal(film(bank, 3)[0][0], film(bank, 4)[0][0])


def test_the_camera_starts_where_it_looks_and_objects_drift():
    motion = Motion(drifts=((0.1, -0.05, 0.2),), sway=(0.05, 0.03), zoom=0.92, phases=(0.0, 0.0, 0.0))
    start = motion.window(0, 4 / 3)
    assert (start.height, start.x, start.y) == pytest.approx((0.92, 0.04 * 4 / 3, 0.04))
    bank = Bank(7, backgrounds=2, sprites=2, side=64)
    scene = random_scene(np.random.default_rng(0), bank, counts=(1.0,))
    (before,), (after,) = scene.objects, motion.objects(scene, 3)
    assert (after.x - before.x, after.y - before.y) == pytest.approx((0.3, -0.15))
    assert after.angle - before.angle == pytest.approx(0.6)
