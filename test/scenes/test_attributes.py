"""Objects with known attributes: the words are true of the pixels."""

import copy
from itertools import product

import cv2
import numpy as np
import pytest

from objloc_ros.errors import ParameterError
from objloc_ros.scenes.attributes import (
    COLOURS,
    HUES,
    KEPT_OUT,
    PATTERNS,
    SHAPES,
    AttributeBank,
    Attributes,
    attribute_scene,
    attribute_sprite,
    draw_pattern,
    draw_shape,
    sample_colour,
)
from objloc_ros.scenes.compose import Camera, render

SIDE = 96
AREAS = {  # of the square that a shape is drawn in, whose unit circle has a radius of 0.46
    "circle": (0.665, 0.665),
    "square": (0.626, 0.626),
    "triangle": (0.275, 0.275),
    "star": (0.249, 0.311),
    "cross": (0.404, 0.478),
    "ring": (0.441, 0.548),
}
SECOND = {"plain": (0.0, 0.0), "striped": (0.28, 0.48), "dotted": (0.15, 0.3), "checkered": (0.4, 0.6)}
"""Share of an object that shows its second colour."""


@pytest.fixture(scope="module")
def bank():
    return AttributeBank(5, backgrounds=3, copies=2, side=96)


def is_called(rgb, name):
    """Pixels [n, 3] that a colour word is true of, with some room for texture and light."""
    hsv = cv2.cvtColor(rgb.reshape(1, -1, 3), cv2.COLOR_RGB2HSV)[0].astype(int)
    if name == "white":
        return rgb.min(1) > 195
    if name == "black":
        return rgb.max(1) < 60
    hue, room = HUES[name]
    off = np.abs((hsv[:, 0] - hue + 90) % 180 - 90)
    return (off <= room + 4) & (hsv[:, 1] > 70) & (hsv[:, 2] > 100)


def opaque(sprite):
    return sprite[sprite[..., 3] == 255][:, :3]


@pytest.mark.parametrize("colour", COLOURS)
def test_a_colour_is_what_its_word_says(colour):
    rng = np.random.default_rng(0)
    drawn = np.stack([sample_colour(rng, colour) for _ in range(300)])
    assert drawn.dtype == np.float32
    assert is_called(drawn.astype(np.uint8), colour).all()
    for other in set(COLOURS) - {colour}:
        assert not is_called(drawn.astype(np.uint8), other).any(), other


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("colour", COLOURS)
def test_a_plain_object_has_its_colour_all_over(colour, shape):
    for seed in range(3):
        sprite = attribute_sprite(np.random.default_rng(seed), SIDE, Attributes(colour, "plain", shape))
        assert sprite.shape == (SIDE, SIDE, 4)
        assert sprite.dtype == np.uint8
        assert is_called(opaque(sprite), colour).mean() > 0.97


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("colour", COLOURS)
def test_a_patterned_object_has_its_colour_on_most_of_it(colour, pattern):
    """The second colour is a shade of the first, or none; it is never another colour word's, grey apart."""
    shares = []
    for seed in range(8):
        pixels = opaque(attribute_sprite(np.random.default_rng(seed), SIDE, Attributes(colour, pattern, "square")))
        shares.append(is_called(pixels, colour).mean())
        for other in set(COLOURS) - {colour, "white", "black"}:
            assert is_called(pixels, other).mean() < 0.02, other
    assert np.mean(shares) > {"plain": 0.98, "dotted": 0.75, "striped": 0.55, "checkered": 0.45}[pattern]
    assert min(shares) > 0.35


@pytest.mark.parametrize(("colour", "other"), [("white", "black"), ("black", "white")])
def test_a_chessboard_of_black_and_white_is_neither(colour, other):
    for seed in range(20):
        pixels = opaque(attribute_sprite(np.random.default_rng(seed), SIDE, Attributes(colour, "checkered", "square")))
        assert is_called(pixels, other).mean() < 0.01


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shape_has_its_area_and_lies_in_the_middle(shape):
    """Antialiasing adds half a pixel all round, hence the fine grid."""
    low, high = AREAS[shape]
    for seed in range(10):
        cover = draw_shape(np.random.default_rng(seed), 256, shape)
        assert (cover.dtype, cover.shape) == (np.float32, (256, 256))
        assert (cover.min(), cover.max()) == (0, 1)
        assert low < cover.mean() < high + 0.015
        assert not cover[[0, 1, 2, -3, -2, -1]].any()
        assert not cover[:, [0, 1, 2, -3, -2, -1]].any()
        assert np.abs(cover - cover[:, ::-1]).mean() < 0.015  # all of them are upright
        rows, columns = (cover > 0.5).nonzero()
        assert np.ptp(columns) / 256 == pytest.approx(0.79 if shape in ("square", "triangle") else 0.89, abs=0.045)
        assert abs(columns.mean() / 256 - 0.5) < 0.01
        assert abs(rows.mean() / 256 - 0.5) < 0.08


def corners(shape):
    """Corners of the outline's simplest polygon."""
    cover = (draw_shape(np.random.default_rng(1), 200, shape) > 0.5).astype(np.uint8)
    (outline, *_), _ = cv2.findContours(cover, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return len(cv2.approxPolyDP(outline, 8, closed=True)), cover


def test_shapes_are_what_their_words_say():
    expected = {"square": 4, "triangle": 3, "star": 10, "cross": 12}
    for shape, count in expected.items():
        assert corners(shape)[0] == count, shape
    for shape in ("circle", "ring"):
        _, cover = corners(shape)
        y, x = np.mgrid[0:200, 0:200] - 99.5
        radii = np.hypot(x, y)[cover > 0]
        assert radii.max() == pytest.approx(92, abs=2)
        assert (radii.min() > 36) == (shape == "ring")
        assert cover[99, 99] == (shape == "circle")


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_pattern_covers_its_share(pattern):
    low, high = SECOND[pattern]
    for seed in range(10):
        field = draw_pattern(np.random.default_rng(seed), SIDE, pattern)
        assert (field.dtype, field.shape) == (np.float32, (SIDE, SIDE))
        assert set(np.unique(field)) <= {0, 1}
        assert low <= field.mean() <= high


@pytest.mark.parametrize(("pattern", "one_way"), [("striped", True), ("dotted", False), ("checkered", False)])
def test_only_stripes_run_one_way(pattern, one_way):
    """Turned the right way, all pixels of a column of stripes are equal: its mean varies as much as the pixels do."""
    for seed in range(8):
        field = draw_pattern(np.random.default_rng(seed), 200, pattern)
        shares = []
        for angle in range(180):
            turn = cv2.getRotationMatrix2D((99.5, 99.5), angle, 1)
            middle = cv2.warpAffine(field, turn, (200, 200), flags=cv2.INTER_NEAREST)[40:160, 40:160]
            shares.append(middle.mean(0).var() / middle.var())
        assert (max(shares) > 0.8) == one_way
        assert one_way or max(shares) < 0.6


def test_a_bank_holds_every_combination(bank):
    expected = [Attributes(*words) for words in product(COLOURS, PATTERNS, SHAPES) for _ in range(2)]
    assert bank.attributes == expected
    assert len(bank.sprites) == len(expected) == 2 * 9 * 4 * 6
    assert len(bank.backgrounds) == 3
    assert bank.backgrounds[0].shape == (96, 96, 3)
    for sprite, attributes in zip(bank.sprites, bank.attributes, strict=True):
        assert sprite.shape == (38, 38, 4)
        assert is_called(opaque(sprite), attributes.colour).mean() > 0.3
        low, high = AREAS[attributes.shape]
        assert low < (sprite[..., 3] / 255).mean() < high + 0.065  # half a pixel all round


def test_equal_seeds_draw_equal_banks(bank):
    again = AttributeBank(5, backgrounds=3, copies=2, side=96)
    other = AttributeBank(6, backgrounds=3, copies=2, side=96)
    for pictures in ("backgrounds", "sprites"):
        pairs = zip(getattr(bank, pictures), getattr(again, pictures), strict=True)
        assert all(np.array_equal(one, two) for one, two in pairs)
        pairs = zip(getattr(bank, pictures), getattr(other, pictures), strict=True)
        assert not any(np.array_equal(one, two) for one, two in pairs)
    assert again.attributes == bank.attributes == other.attributes


def test_blurring_changes_the_backgrounds_only(bank):
    """A white point spreads to a Gaussian and leaves the bank itself alone."""
    point = np.zeros((41, 41, 3), np.uint8)
    point[20, 20] = 255
    sharp = copy.copy(bank)
    sharp.backgrounds = [point]
    blurred = sharp.blurred(2.0)
    assert blurred.sprites is bank.sprites
    assert blurred.attributes is bank.attributes
    assert (point > 0).sum() == 3
    assert sharp.backgrounds[0] is point
    y, x = np.mgrid[-20:21, -20:21]
    expected = 255 * np.exp(-(x**2 + y**2) / 8) / (8 * np.pi)
    assert blurred.backgrounds[0].dtype == np.uint8
    assert np.abs(blurred.backgrounds[0] - expected[..., None]).max() <= 1


def seen(bank, kept_out, scenes=300):
    """Pairs of colour and shape in scenes."""
    rng = np.random.default_rng(0)
    pairs = []
    for _ in range(scenes):
        scene = attribute_scene(rng, bank, kept_out=kept_out)
        pairs += [(bank.attributes[o.index].colour, bank.attributes[o.index].shape) for o in scene.objects]
    return pairs


def test_pairs_that_are_kept_out_do_not_occur(bank):
    everything = set(product(COLOURS, SHAPES))
    assert everything > KEPT_OUT
    assert set(seen(bank, frozenset())) == everything
    assert set(seen(bank, KEPT_OUT)) == everything - KEPT_OUT
    only = frozenset(everything - {("red", "star"), ("blue", "ring")})
    assert set(seen(bank, only, scenes=10)) == {("red", "star"), ("blue", "ring")}


def test_keeping_everything_out_is_an_error(bank):
    count = len(bank.sprites)
    with pytest.raises(ParameterError, match=f"kept_out leaves no picture of {count} in the bank"):
        attribute_scene(np.random.default_rng(0), bank, kept_out=frozenset(product(COLOURS, SHAPES)))


def test_keeping_nothing_out_is_the_default(bank):
    one, other = (
        attribute_scene(np.random.default_rng(7), bank, **options) for options in ({}, {"kept_out": frozenset()})
    )
    assert [placed.index for placed in one.objects] == [placed.index for placed in other.objects]


def test_every_colour_and_shape_is_left_by_what_is_kept_out():
    left = set(product(COLOURS, SHAPES)) - KEPT_OUT
    assert {colour for colour, _ in left} == set(COLOURS)
    assert {shape for _, shape in left} == set(SHAPES)
    assert len({shape for _, shape in KEPT_OUT}) == len(KEPT_OUT) == len(SHAPES)


def test_objects_stand_almost_upright_and_equal_seeds_place_equal_scenes(bank):
    counts = set()
    for seed in range(80):
        scene = attribute_scene(np.random.default_rng(seed), bank, aspect=1.5)
        again = attribute_scene(np.random.default_rng(seed), bank, aspect=1.5)
        counts.add(len(scene.objects))
        assert scene.aspect == 1.5
        for placed, same in zip(scene.objects, again.objects, strict=True):
            assert (placed.index, placed.x, placed.y, placed.angle) == (same.index, same.x, same.y, same.angle)
            assert np.array_equal(placed.colours, same.colours)
            assert abs(placed.angle) <= 0.4
            assert 0.93 <= placed.aspect <= 1.08
            assert not placed.colours[~np.eye(3, 4, dtype=bool)].any()  # no hue is turned into another
            gains = np.diag(placed.colours[:, :3])
            assert ((gains > 0.84) & (gains < 1.15)).all()
            assert np.ptp(gains) < 0.1
    assert counts == {1, 2, 3}


def test_a_rendered_object_still_has_its_colour(bank):
    rng, quiet = np.random.default_rng(3), Camera(strength=0.0, grey=0.0)
    judged = 0
    for _ in range(60):
        scene = attribute_scene(rng, bank, counts=(1.0,), sizes=(0.5, 0.8))
        attributes = bank.attributes[scene.objects[0].index]
        image, identities = render(rng, bank, scene, (96, 96), camera=quiet)
        if attributes.pattern != "plain":
            continue
        inner = cv2.erode((identities == 1).view(np.uint8), np.ones((5, 5))) > 0
        pixels = np.ascontiguousarray(image)[inner]
        if attributes.colour == "white":
            assert (pixels.min(1) > 150).mean() > 0.9
        elif attributes.colour == "black":
            assert (pixels.max(1) < 80).mean() > 0.9
        else:
            assert is_called(pixels, attributes.colour).mean() > 0.85
        judged += 1
    assert judged >= 8
