"""Real cut-outs and grounds: read from a folder, and mixed with the procedural ones."""

import cv2
import numpy as np
import pytest

from objloc_ros.errors import InputError
from objloc_ros.scenes.compose import DRAWN_SHARE, PHOTOGRAPHED_SHARE, Bank, random_scene, render
from objloc_ros.scenes.material import GROUND_CROPS, balance_sources, fill_outline, fit_cutout, load_material


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A red lamp in two views, a blue ball, a green drawing, and a ground whose columns have their own colours."""
    root = tmp_path_factory.mktemp("material")
    pictures = (("shop/lamp@0", 60, 20, 0), ("shop/lamp@1", 60, 30, 0), ("shop/ball", 40, 40, 2))
    for name, height, width, colour in (*pictures, ("fluent-emoji-3d/frog", 40, 40, 1)):
        picture = np.zeros((height, width, 4), np.uint8)
        picture[..., [colour, 3]] = 255
        path = root / "cutouts" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGBA2BGRA))
    (root / "grounds" / "walls").mkdir(parents=True)
    wall = np.repeat(np.tile(np.arange(256, dtype=np.uint8), (200, 1))[..., None], 3, axis=2)
    cv2.imwrite(str(root / "grounds" / "walls" / "fence.jpg"), wall)
    return root


def test_things_are_drawn_equally_often_whatever_their_views(folder):
    material = load_material(folder, side=96, outlines=0)
    assert [picture.shape for picture in material.cutouts] == [(48, 48, 4)] * 4
    assert material.photographed.tolist() == [False, True, True, True]
    rng = np.random.default_rng(0)
    drawn = np.bincount([material.draw_cutout(rng, photographed=True) for _ in range(2000)], minlength=4) / 2000
    np.testing.assert_allclose(drawn, [0, 0.5, 0.25, 0.25], atol=0.05)
    assert material.draw_cutout(rng, photographed=False) == 0


def test_filled_outlines_are_drawn_as_often_as_photographs_are(folder):
    material = load_material(folder, side=96, outlines=5)
    assert material.photographed.tolist() == [False, *[True] * 8]
    rng = np.random.default_rng(0)
    drawn = [material.draw_cutout(rng, photographed=True) >= 4 for _ in range(1000)]
    assert np.mean(drawn) == pytest.approx(0.5, abs=0.05)


def test_an_outline_shows_the_ground_that_fills_it():
    ground = np.zeros((64, 64, 3), np.uint8)
    ground[..., 1] = 200
    greens = []
    for seed in range(12):
        filled = fill_outline(np.random.default_rng(seed), [ground], np.ones(1), 48)
        assert filled.shape == (48, 48, 4)
        red, green, _ = filled[filled[..., 3] > 200][:, :3].mean(axis=0)
        greens.append(green > red + 30)
    assert np.mean(greens) > 0.7  # a third is blended with the outline's own texture


def test_a_large_source_does_not_drown_a_small_one():
    weights = balance_sources([("small", "a"), *(("large", str(number)) for number in range(16))])
    assert weights[0] == pytest.approx(1 / 5)
    np.testing.assert_allclose(weights[1:], 4 / 5 / 16)


def test_crops_of_a_ground_differ_and_come_back_with_their_seed(folder):
    one, again, other = (load_material(folder, side=64, seed=seed, outlines=0).grounds for seed in (3, 3, 4))
    assert len(one) == GROUND_CROPS
    assert all(ground.shape == (64, 64, 3) and ground.dtype == np.uint8 for ground in one)
    assert len({ground.tobytes() for ground in one}) == GROUND_CROPS
    assert [ground.tobytes() for ground in one] == [ground.tobytes() for ground in again]
    assert [ground.tobytes() for ground in one] != [ground.tobytes() for ground in other]


def test_a_cutout_keeps_its_aspect_and_bleeds_its_colour_outwards():
    picture = np.zeros((60, 30, 4), np.uint8)
    picture[5:55, 5:25] = [200, 40, 10, 255]
    square = fit_cutout(picture, 50)
    rows, columns = np.nonzero(square[..., 3] > 127)
    assert np.ptp(rows) / np.ptp(columns) == pytest.approx(50 / 20, rel=0.1)
    assert not square[[0, -1]].any(axis=1)[:, 3].any()
    inside = square[15:35, 22:28, :3].reshape(-1, 3).astype(int)
    np.testing.assert_allclose(inside, np.broadcast_to([200, 40, 10], inside.shape), atol=2)
    beside = square[20:30, 0:10, :3].reshape(-1, 3).astype(int)
    np.testing.assert_allclose(beside, np.broadcast_to([200, 40, 10], beside.shape), atol=6)


def test_a_folder_without_pictures_says_how_to_make_them(tmp_path):
    with pytest.raises(InputError, match=r"no cut-out in .*objloc_ros.training.material"):
        load_material(tmp_path)


def test_ground_and_objects_of_a_scene_are_of_one_kind(folder):
    material = load_material(folder, side=96, outlines=0)
    bank = Bank(5, backgrounds=2, sprites=4, side=96, material=material)
    scenes = [random_scene(np.random.default_rng(seed), bank) for seed in range(600)]
    photographed = [scene for scene in scenes if scene.photographed]
    assert len(photographed) / len(scenes) == pytest.approx(PHOTOGRAPHED_SHARE, abs=0.06)
    assert all(scene.background.index >= 2 for scene in photographed)
    assert all(pasted.index > 4 for scene in photographed for pasted in scene.objects)  # 4 is the drawing
    others = [scene for scene in scenes if not scene.photographed]
    assert all(scene.background.index < 2 for scene in others)
    indices = [pasted.index for scene in others for pasted in scene.objects]
    assert max(indices) == 4
    assert np.mean([index == 4 for index in indices]) == pytest.approx(DRAWN_SHARE, abs=0.06)


def test_what_is_real_stays_upright_and_in_its_colours(folder):
    bank = Bank(5, backgrounds=2, sprites=4, side=96, material=load_material(folder, side=96, outlines=3))
    scenes = [random_scene(np.random.default_rng(seed), bank) for seed in range(400)]
    real = [pasted for scene in scenes for pasted in scene.objects if pasted.index >= 4]
    assert np.mean([abs(pasted.angle) > 0.6 for pasted in real]) < 0.2
    assert all(np.argmax(pasted.colours[:, :3], axis=1).tolist() == [0, 1, 2] for pasted in real)


def test_without_material_nothing_is_drawn_for_it(folder):
    plain = Bank(5, backgrounds=2, sprites=4, side=96)
    mixed = Bank(5, backgrounds=2, sprites=4, side=96, material=load_material(folder, side=96, outlines=1))
    for bank in (plain, mixed.without_material()):
        one, other = np.random.default_rng(1), np.random.default_rng(1)
        assert not bank.choose_photographs(one)
        assert not bank.choose_real(one, photographed=False)
        assert one.random() == other.random()
    first, second = (random_scene(np.random.default_rng(2), bank) for bank in (plain, mixed.without_material()))
    image, _ = render(np.random.default_rng(3), plain, first, (32, 32))
    again, _ = render(np.random.default_rng(3), mixed.without_material(), second, (32, 32))
    np.testing.assert_array_equal(image, again)


def test_scenes_of_real_things_show_them_in_their_colours(folder):
    bank = Bank(5, backgrounds=1, sprites=1, side=96, material=load_material(folder, side=96, outlines=0))
    scenes = (random_scene(np.random.default_rng(seed), bank, counts=(1.0,), sizes=(0.6, 0.8)) for seed in range(40))
    for scene in scenes:
        if scene.objects[0].index == 2:  # the ball, after the procedural sprite and the drawing
            image, identities = render(np.random.default_rng(0), bank, scene, (96, 96))
            red, _, blue = image[identities == 1].mean(axis=0)
            assert blue > red + 60
            return
    pytest.fail("no scene shows the ball")
