"""Procedural scenes: the same from the same seed, and a truth that belongs to the picture."""

import numpy as np
import pytest

from objloc_ros.scenes.compose import Bank, Camera, Scene, Window, moved, random_background, random_scene, render
from objloc_ros.scenes.sprites import sprite
from objloc_ros.scenes.textures import field, fractal, paint, texture
from objloc_ros.scenes.video import drive_video


@pytest.fixture(scope="module")
def bank():
    return Bank(5, backgrounds=6, sprites=12, side=96)


def test_the_same_seed_draws_the_same_bank(bank):
    again = Bank(5, backgrounds=6, sprites=12, side=96)
    for one, other in zip(bank.backgrounds + bank.sprites, again.backgrounds + again.sprites, strict=True):
        np.testing.assert_array_equal(one, other)


def test_rendering_is_repeatable_and_shows_every_object(bank):
    scene = random_scene(np.random.default_rng(1), bank, counts=(0, 0, 1), overlap=0.0)
    image, identities = render(np.random.default_rng(2), bank, scene, (120, 120))
    again, _ = render(np.random.default_rng(2), bank, scene, (120, 120))
    assert image.dtype == identities.dtype == np.uint8
    assert image.shape == (120, 120, 3)
    np.testing.assert_array_equal(image, again)
    assert set(np.unique(identities)) == set(range(len(scene.objects) + 1))


def test_truth_is_where_the_object_changed_the_picture(bank):
    full = random_scene(np.random.default_rng(3), bank, counts=(1.0,), sizes=(0.4, 0.6))
    empty = Scene(full.background, (), full.aspect)
    quiet = Camera(strength=0.0, grey=0.0)
    with_object, identities = render(np.random.default_rng(0), bank, full, (96, 96), camera=quiet)
    without, nothing = render(np.random.default_rng(0), bank, empty, (96, 96), camera=quiet)
    assert not nothing.any()
    change = np.abs(with_object.astype(int) - without).max(2)
    assert change[identities == 1].mean() > 5 * max(change[identities == 0].mean(), 0.1)


def test_a_window_shows_part_of_the_canvas(bank):
    scene = random_scene(np.random.default_rng(4), bank, counts=(1.0,), sizes=(0.3, 0.4))
    target = scene.objects[0]
    _, whole = render(np.random.default_rng(0), bank, scene, (96, 96))
    around = Window(target.x - 0.25, target.y - 0.25, 0.5)
    _, close = render(np.random.default_rng(0), bank, scene, (96, 96), window=around)
    assert np.count_nonzero(close) == pytest.approx(4 * np.count_nonzero(whole), rel=0.15)


def test_a_mirrored_view_is_the_view_mirrored(bank):
    scene = random_scene(np.random.default_rng(4), bank)
    straight = render(np.random.default_rng(0), bank, scene, (48, 64))
    mirrored = render(np.random.default_rng(0), bank, scene, (48, 64), mirrored=True)
    for one, other in zip(straight, mirrored, strict=True):
        np.testing.assert_array_equal(one[:, ::-1], other)


def test_objects_move_and_grounds_change_independently(bank):
    rng = np.random.default_rng(6)
    scene = random_scene(rng, bank, counts=(0, 1.0))
    later = moved(rng, scene)
    assert [o.index for o in later.objects] == [o.index for o in scene.objects]
    assert later.background == scene.background
    assert later.objects[0].x != scene.objects[0].x
    assert random_background(rng, bank) != scene.background


@pytest.mark.parametrize("seed", range(12))
def test_textures_stay_in_range(seed):
    rng = np.random.default_rng(seed)
    assert field(rng, 32).shape == (32, 32)
    coloured = texture(rng, 32, [np.random.default_rng(0).random((64, 64), dtype=np.float32)])
    assert coloured.shape == (32, 32, 3)
    assert coloured.min() >= 0
    assert coloured.max() <= 255
    cut_out = sprite(rng, 32)
    assert cut_out.shape == (32, 32, 4)
    assert 0 < (cut_out[..., 3] > 127).mean() < 1


def test_fractal_noise_fills_the_unit_range():
    noise = fractal(np.random.default_rng(0), 64)
    assert noise.min() == 0
    assert noise.max() == pytest.approx(1, abs=1e-4)


def test_painting_interpolates_or_snaps():
    ramp = np.array([[0.0, 0.5, 1.0]], np.float32)
    colours = np.array([[0, 0, 0], [200, 100, 50]], np.float32)
    np.testing.assert_allclose(paint(ramp, colours)[0], [[0, 0, 0], [100, 50, 25], [200, 100, 50]], atol=1)
    np.testing.assert_array_equal(paint(ramp, colours, hard=True)[0], colours[[0, 1, 1]])


def test_the_drive_is_repeatable_and_its_objects_grow():
    frames = list(drive_video(seed=0, size=(96, 128), frames=12))
    again = list(drive_video(seed=0, size=(96, 128), frames=12))
    np.testing.assert_array_equal(frames[-1][0], again[-1][0])
    nearest = 1 + int(np.argmax(np.bincount(frames[0][1].ravel())[1:]))
    areas = [np.count_nonzero(identities == nearest) for _, identities in frames]
    assert areas[-1] > 1.2 * areas[0] > 0
