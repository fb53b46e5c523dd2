"""Pictures of label maps: colours that suit their labels and tell them apart, and names on the regions."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest

from objloc_ros.errors import InputError
from objloc_ros.io.drawing import PALETTE, TINT, choose_colour, find_colour, label_overlay
from objloc_ros.scenes.attributes import COLOURS
from objloc_ros.types import UNLABELLED

U = UNLABELLED
NAMES = {0: "dog", 1: "traffic cone", 2: "road"}


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def halves(height: int, width: int, left: int, right: int) -> np.ndarray:
    labels = np.full((height, width), left, np.uint8)
    labels[:, width // 2 :] = right
    return labels


def is_colour(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (image == np.array(colour, np.uint8)).all(-1)


def test_no_two_labels_share_a_colour() -> None:
    colours = [choose_colour(label) for label in range(UNLABELLED)]
    shared = [(i, j) for i, j in itertools.combinations(range(UNLABELLED), 2) if colours[i] == colours[j]]
    assert shared == []


def test_the_first_labels_have_the_palette_and_differ_from_those_that_follow() -> None:
    assert tuple(choose_colour(label) for label in range(len(PALETTE))) == PALETTE
    first = np.array([choose_colour(label) for label in range(32)])
    for one, other in itertools.combinations(first, 2):
        assert np.abs(one - other).max() >= 20


BASIC = {
    "black": (0, 0, 0),
    "white": (255, 255, 255),
    "red": (255, 0, 0),
    "green": (0, 160, 0),
    "yellow": (255, 255, 0),
    "blue": (0, 0, 255),
    "brown": (150, 75, 0),
    "purple": (150, 0, 150),
    "pink": (255, 170, 190),
    "orange": (255, 140, 0),
    "grey": (128, 128, 128),
}
"""The eleven basic terms of colour, as people see them."""


def name_colour(colour: tuple[int, int, int]) -> str:
    """The basic term whose colour is the nearest in CIELAB."""
    pixels = np.array([colour, *BASIC.values()], np.float32)[None] / 255
    lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)[0]
    return list(BASIC)[int(np.linalg.norm(lab[1:] - lab[0], axis=1).argmin())]


@pytest.mark.parametrize("label", [*range(12), 100, 253])
@pytest.mark.parametrize("word", [*COLOURS, "grey", "brown"])
def test_no_colour_contradicts_its_name(word: str, label: int) -> None:
    for text in (f"{word} triangle", f"a photo of a {word.upper()}-striped shirt", f"car, {word}"):
        assert name_colour(choose_colour(label, text)) == word


def test_a_name_without_a_colour_leaves_the_choice_to_its_number() -> None:
    for text in ("dog", "blueberry", "greenhouse", "striped shirt", "", "信号"):
        assert find_colour(text) is None
        assert choose_colour(3, text) == choose_colour(3)


def test_the_first_of_two_colours_counts() -> None:
    assert find_colour("white circle on a red ground") == (255, 255, 255)


@pytest.mark.parametrize("label", range(UNLABELLED))
def test_every_colour_is_bright_bytes(label: int) -> None:
    colour = choose_colour(label)
    assert all(isinstance(value, int) and 0 <= value <= 255 for value in colour)
    assert max(colour) >= 100


def test_an_unlabelled_picture_is_the_image() -> None:
    image = noise(48, 64)
    drawn = label_overlay(image, np.full((48, 64), U, np.uint8), NAMES)
    assert np.array_equal(drawn, image)
    assert not np.shares_memory(drawn, image)


def test_labelled_pixels_take_on_the_colour_and_unlabelled_ones_stay() -> None:
    image, labels = noise(240, 320), halves(240, 320, 1, U)
    before = image.copy()
    drawn = label_overlay(image, labels, NAMES)
    assert np.array_equal(image, before)
    assert np.array_equal(drawn[:, 160:], image[:, 160:])
    expected = (1 - TINT) * image[:90, :150] + TINT * np.array(choose_colour(1))
    assert np.abs(drawn[:90, :150] - expected).max() <= 1
    assert is_colour(drawn[:90, 159], choose_colour(1)).all()  # the rim
    assert (drawn[100:140, :150] != image[100:140, :150]).any()  # the name


def test_rims_lie_on_the_labelled_side() -> None:
    """A row of labels: each keeps its rim within its own columns, and what nobody labelled has none."""
    labels = np.tile(np.repeat(np.array([0, 1, U, 2, U], np.uint8), 40), (200, 1))
    drawn = label_overlay(np.full((200, 200, 3), 100, np.uint8), labels, NAMES)[:80]
    for column, label in ((39, 0), (40, 1), (79, 1), (120, 2), (159, 2)):
        assert is_colour(drawn[:, column], choose_colour(label)).all()
    for column, label in ((30, 0), (50, 1), (130, 2)):
        blended = np.array(choose_colour(label)) * TINT + 100 * (1 - TINT)
        assert np.abs(drawn[:, column] - blended).max() <= 1
    assert (drawn[:, 80:120] == 100).all()
    assert (drawn[:, 160:] == 100).all()


def test_an_object_of_the_colour_of_its_name_has_a_rim_that_can_be_seen() -> None:
    for name in ("red ball", "black ball", "white ball", "yellow ball"):
        colour = choose_colour(0, name)
        labels = np.full((480, 640), U, np.uint8)
        labels[100:300, 100:300] = 0
        drawn = label_overlay(np.full((480, 640, 3), colour, np.uint8), labels, {0: name})
        row = drawn[120, 100:130].astype(int)
        assert np.abs(row - row[-1]).sum(1).max() > 250


def find_bars(drawn: np.ndarray, label: int, name: str = "") -> list[tuple[int, int, int, int]]:
    """Left, top, width and height of the areas of a label's pure colour that are too thick for a rim."""
    pure = is_colour(drawn, choose_colour(label, name)).astype(np.uint8)
    solid = cv2.morphologyEx(pure, cv2.MORPH_OPEN, np.ones((4, 8), np.uint8))
    _, _, stats, _ = cv2.connectedComponentsWithStats(cv2.dilate(solid, np.ones((15, 25), np.uint8)))
    return [tuple(map(int, row[:4])) for row in stats[1:]]


def test_a_name_stands_on_its_region() -> None:
    labels = np.full((480, 640), U, np.uint8)
    labels[40:440, 300:620] = 2
    labels[100:300, 20:250] = 0
    drawn = label_overlay(np.full((480, 640, 3), 100, np.uint8), labels, NAMES)
    for label in (2, 0):
        ((x, y, width, height),) = find_bars(drawn, label)
        assert (labels[y : y + height, x : x + width] == label).all()
    assert not is_colour(drawn, choose_colour(1)).any()


@pytest.mark.parametrize(("top", "beside"), [(200, slice(160, 200)), (0, slice(40, 80))])
def test_the_name_of_a_small_region_stands_above_it_or_below(top: int, beside: slice) -> None:
    labels = np.full((480, 640), U, np.uint8)
    labels[top : top + 40, 300:340] = 1
    drawn = label_overlay(np.full((480, 640, 3), 100, np.uint8), labels, NAMES)
    written = is_colour(drawn, choose_colour(1)).sum(1) > 60
    assert written[beside].any()
    assert not written[top : top + 40].any()


def test_every_large_region_has_its_name_and_small_ones_have_none_besides() -> None:
    labels = np.full((480, 640), U, np.uint8)
    for x in (20, 240, 460):
        labels[100:240, x : x + 160] = 0
    labels[400:420, 20:40] = 0
    drawn = label_overlay(np.full((480, 640, 3), 100, np.uint8), labels, NAMES)
    assert len(find_bars(drawn, 0)) == 3


def test_names_do_not_cover_each_other_and_what_finds_no_room_is_listed_below() -> None:
    labels = np.full((480, 640), U, np.uint8)
    labels[100:104, 300:304], labels[105:109, 300:304], labels[110:114, 300:304] = 0, 1, 2
    drawn = label_overlay(np.full((480, 640, 3), 100, np.uint8), labels, NAMES)
    assert (drawn[300:440] == 100).all()
    assert (drawn[460:] != 100).any(), "three names, two places"
    assert is_colour(drawn[460:], choose_colour(2)).sum() > 50
    assert not is_colour(drawn[440:], choose_colour(0)).any()


def test_a_label_without_a_name_goes_by_its_number() -> None:
    image, labels = np.full((240, 320, 3), 100, np.uint8), np.full((240, 320), 17, np.uint8)
    assert np.array_equal(label_overlay(image, labels, {}), label_overlay(image, labels, {17: "17"}))
    assert not np.array_equal(label_overlay(image, labels, {}), label_overlay(image, labels, {17: "71"}))


@pytest.mark.parametrize("name", ["信号", "Straße", "🚗", "é" * 30])
def test_letters_that_cannot_be_drawn_become_question_marks(name: str) -> None:
    image, labels = noise(240, 320), halves(240, 320, 0, 1)
    question = "".join(letter if " " <= letter <= "~" else "?" for letter in name)
    drawn = label_overlay(image, labels, {0: name, 1: "dog"})
    assert np.array_equal(drawn, label_overlay(image, labels, {0: question, 1: "dog"}))


@pytest.mark.parametrize("length", [60, 500])
def test_a_name_that_is_too_long_is_listed_and_cut_at_the_rim(length: int) -> None:
    image, labels = np.full((480, 640, 3), 100, np.uint8), halves(480, 640, 0, 1)
    labels[300:] = U
    drawn = label_overlay(image, labels, {0: "W" * length, 1: "dog"})
    assert drawn.shape == image.shape
    assert (drawn[300:440] == 100).all()
    assert is_colour(drawn[460:], choose_colour(0)).sum() > 50
    assert len(find_bars(drawn[:300], 1)) == 1


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (8, 8), (13, 17), (30, 20), (20, 400)])
@pytest.mark.parametrize("name", ["a", "a long name for a small picture", "🚗"])
def test_tiny_images_are_coloured_whether_or_not_there_is_room_for_a_legend(size: tuple[int, int], name: str) -> None:
    image = noise(*size)
    drawn = label_overlay(image, np.zeros(size, np.uint8), {0: name})
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    blended = (1 - TINT) * image + TINT * np.array(choose_colour(0))
    upper = slice(0, max(1, size[0] // 2))
    assert np.abs(drawn[upper] - blended[upper]).max() <= 1


@pytest.mark.parametrize("size", [(60, 80), (240, 320), (480, 640), (90, 1000)])
def test_many_labels_leave_the_upper_half_of_the_picture_alone(size: tuple[int, int]) -> None:
    count = min(254, size[1] - 1)
    labels = np.full(size, U, np.uint8)
    labels[-1, :count] = np.arange(count)
    image = noise(*size)
    drawn = label_overlay(image, labels, {number: f"thing number {number}" for number in range(254)})
    assert np.array_equal(drawn[: size[0] // 2], image[: size[0] // 2])
    assert (drawn[size[0] // 2 :] != image[size[0] // 2 :]).any()


def test_views_of_other_arrays_are_images() -> None:
    image, labels = noise(96, 128)[::-1, ::-1], halves(96, 128, 0, U)[:, ::-1]
    drawn = label_overlay(image, labels, NAMES)
    assert np.array_equal(drawn, label_overlay(image.copy(), labels.copy(), NAMES))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((48, 63), np.uint8), r"labels must be uint8 of shape \[48, 64\], got uint8 \[48, 63\]"),
        (np.zeros((64, 48), np.uint8), r"got uint8 \[64, 48\]"),
        (np.zeros((48, 64, 1), np.uint8), r"got uint8 \[48, 64, 1\]"),
        (np.zeros((48, 64), np.int64), r"got int64 \[48, 64\]"),
        (np.zeros((48, 64), bool), r"got bool \[48, 64\]"),
    ],
)
def test_a_map_that_does_not_fit_is_refused(labels: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        label_overlay(noise(48, 64), labels, NAMES)


@pytest.mark.parametrize("image", [np.zeros((48, 64), np.uint8), np.zeros((48, 64, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_not_an_image_is_refused(image: np.ndarray) -> None:
    with pytest.raises(InputError, match="expected"):
        label_overlay(image, np.zeros(image.shape[:2], np.uint8), NAMES)
