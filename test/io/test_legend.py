"""Pictures of label maps: colours that tell labels apart, and a legend that fits whatever the image is like."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from objloc_ros.errors import InputError
from objloc_ros.io.drawing import PALETTE, TINT, colour_of, label_overlay
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
    colours = [colour_of(label) for label in range(UNLABELLED)]
    shared = [(i, j) for i, j in itertools.combinations(range(UNLABELLED), 2) if colours[i] == colours[j]]
    assert shared == []


def test_the_first_labels_have_the_palette_and_differ_from_those_that_follow() -> None:
    assert tuple(colour_of(label) for label in range(len(PALETTE))) == PALETTE
    first = np.array([colour_of(label) for label in range(32)])
    for one, other in itertools.combinations(first, 2):
        assert np.abs(one - other).max() >= 20


@pytest.mark.parametrize("label", range(UNLABELLED))
def test_every_colour_is_bright_bytes(label: int) -> None:
    colour = colour_of(label)
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
    above = slice(0, 200)
    assert np.array_equal(drawn[above, 160:], image[above, 160:])
    expected = (1 - TINT) * image[above, :158] + TINT * np.array(colour_of(1))
    assert np.abs(drawn[above, :158] - expected).max() <= 1
    assert is_colour(drawn[above, 159:160], colour_of(1)).all()  # the rim
    assert (drawn[-10:] != image[-10:]).any()  # the legend


def test_rims_lie_on_the_labelled_side() -> None:
    """A row of labels: the pixel before a change is a rim, unless nobody labelled it."""
    labels = np.tile(np.repeat(np.array([0, 1, U, 2, U], np.uint8), 40), (200, 1))
    drawn = label_overlay(np.full((200, 200, 3), 100, np.uint8), labels, NAMES)[:100]
    for column, label in ((39, 0), (79, 1), (159, 2)):
        assert is_colour(drawn[:, column], colour_of(label)).all()
    for column, label in ((38, 0), (40, 1), (120, 2)):
        blended = np.array(colour_of(label)) * TINT + 100 * (1 - TINT)
        assert np.abs(drawn[:, column] - blended).max() <= 1
    assert (drawn[:, 80:120] == 100).all()
    assert (drawn[:, 160:] == 100).all()


def swatches(drawn: np.ndarray, labels: list[int]) -> list[tuple[int, int]]:
    """Rows and columns of the legend's patches: where each label's pure colour covers most of a small square."""
    places = []
    for label in labels:
        pure = is_colour(drawn, colour_of(label))
        solid = pure[:-3, :-3] & pure[3:, :-3] & pure[:-3, 3:] & pure[3:, 3:] & pure[1:-2, 1:-2] & pure[2:-1, 2:-1]
        rows, columns = solid.nonzero()
        assert len(rows), f"no patch for label {label}"
        places.append((int(rows.min()), int(columns.min())))
    return places


def test_the_legend_lists_what_is_in_the_picture_by_area() -> None:
    labels = np.full((480, 640), U, np.uint8)
    labels[:300, 200:640] = 2
    labels[:300, :150] = 0
    labels[310:320, :40] = 5
    names = {**NAMES, 5: "cat", 3: "absent"}
    drawn = label_overlay(np.full((480, 640, 3), 100, np.uint8), labels, names)[330:]
    (first, second, third) = swatches(drawn, [2, 0, 5])
    assert first[0] == second[0] == third[0]
    assert first[1] < second[1] < third[1]
    assert not is_colour(drawn, colour_of(3)).any()
    assert not is_colour(drawn, colour_of(1)).any()


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


@pytest.mark.parametrize("length", [1, 60, 500])
def test_a_long_name_is_cut_at_the_rim_and_the_next_one_has_its_own_row(length: int) -> None:
    image, labels = np.full((480, 640, 3), 100, np.uint8), halves(480, 640, 0, 1)
    labels[300:] = U
    drawn = label_overlay(image, labels, {0: "W" * length, 1: "dog"})
    assert drawn.shape == image.shape
    (upper, lower) = swatches(drawn[310:], [0, 1])
    assert (upper[0] < lower[0]) == (length > 1)
    assert (upper[1] == lower[1]) == (length > 1)
    assert (drawn[300:400] == 100).all()
    one_row = label_overlay(image, labels, {0: "a", 1: "dog"})
    heights = [(picture[300:] != 100).any((1, 2)).sum() for picture in (one_row, drawn)]
    assert heights[1] == (1 + (length > 1)) * heights[0]


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (8, 8), (13, 17), (30, 20), (20, 400)])
@pytest.mark.parametrize("name", ["a", "a long name for a small picture", "🚗"])
def test_tiny_images_are_coloured_whether_or_not_there_is_room_for_a_legend(size: tuple[int, int], name: str) -> None:
    image = noise(*size)
    drawn = label_overlay(image, np.zeros(size, np.uint8), {0: name})
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    blended = (1 - TINT) * image + TINT * np.array(colour_of(0))
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
