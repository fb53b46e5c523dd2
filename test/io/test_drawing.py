from __future__ import annotations

import numpy as np
import pytest
from counting import count_calls

from objloc_ros.errors import InputError
from objloc_ros.io.contact_sheet import FRAME_RGB, PAGE_RGB, make_contact_sheet
from objloc_ros.io.drawing import BOX, HATCH, MASK, PALETTE, Pen, ascii_text, hatch, overlay
from objloc_ros.types import Detections

SIZES = [(480, 640), (1080, 1920), (96, 128), (33, 700), (700, 33), (20, 20), (1, 1)]


def detections(*boxes: tuple[float, float, float, float]) -> Detections:
    return Detections.class_free(np.array(boxes, np.float32).reshape(-1, 4), np.full(len(boxes), 0.87, np.float32))


def grey(size: tuple[int, int], value: int = 100) -> np.ndarray:
    return np.full((*size, 3), value, np.uint8)


def is_colour(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (image == np.array(colour, np.uint8)).all(-1)


def test_nothing_to_draw_is_a_copy() -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    drawn = overlay(image, np.zeros((48, 64), bool), detections())
    assert np.array_equal(drawn, image)
    assert not np.shares_memory(drawn, image)


@pytest.mark.parametrize("size", SIZES)
def test_an_ignored_part_is_dark_with_lines_and_the_rest_stays(size: tuple[int, int]) -> None:
    image, mask = grey(size, 255), np.zeros(size, bool)
    mask[: size[0] // 2] = True
    drawn = hatch(image, mask)
    assert set(drawn[mask].ravel().tolist()) <= {127, 127 + HATCH}
    assert (drawn[~mask] == 255).all()
    assert (image == 255).all()
    if min(size) > 90:
        assert 0.05 < (drawn[mask] > 127).mean() < 0.25


@pytest.mark.parametrize("dtype", [bool, np.uint8])
def test_mask_is_tinted_exactly_where_it_is_set(dtype) -> None:
    image, mask = grey((120, 160)), np.zeros((120, 160), dtype)
    mask[30:90, 40:120] = 1 if dtype is bool else 255
    drawn = overlay(image, mask)
    inner = drawn[36:84, 46:114]
    assert (inner == inner[0, 0]).all()
    assert inner[0, 0].tolist() == [round(0.55 * 100 + 0.45 * channel) for channel in MASK]
    changed = (drawn != image).any(-1)
    assert changed[30:90, 40:120].all()
    changed[28:92, 38:122] = False
    assert not changed.any()
    assert (image == 100).all()


def test_numbered_objects_have_a_colour_each_and_colours_come_round() -> None:
    image, mask = grey((120, 240)), np.zeros((120, 240), np.uint16)
    numbers = {1: 10, 2: 70, len(PALETTE) + 2: 130, 60_000: 190}  # number: column
    for number, x in numbers.items():
        mask[40:80, x : x + 40] = number
    drawn = overlay(image, mask)
    for number, x in numbers.items():
        expected = [round(0.55 * 100 + 0.45 * channel) for channel in PALETTE[(number - 1) % len(PALETTE)]]
        assert drawn[60, x + 20].tolist() == expected
    assert (drawn[:30] == 100).all()


def test_holes_stay_clear_and_are_outlined() -> None:
    mask = np.zeros((480, 640), np.uint8)
    mask[100:400, 100:500] = 255
    mask[200:300, 250:350] = 0
    drawn = overlay(grey((480, 640)), mask)
    assert (drawn[210:290, 260:340] == 100).all()
    assert is_colour(drawn[195:205, 250:350], MASK).any(0).all()


def test_box_line_lies_inside_its_borders() -> None:
    drawn = overlay(grey((480, 640)), None, detections((100, 200, 300, 400)))
    line = is_colour(drawn, BOX)
    rows, columns = np.nonzero(line[200:, :])
    assert (columns.min(), columns.max()) == (100, 299)
    assert rows.max() + 200 == 399
    assert line[300, 100:103].all()
    assert line[300, 297:300].all()
    assert not line[300, 103:297].any()


@pytest.mark.parametrize(
    ("box", "rows"),
    [
        ((50, 200, 300, 400), slice(175, 200)),
        ((50, 0, 300, 400), slice(0, 25)),
        ((600, 200, 640, 400), slice(175, 200)),
    ],
    ids=["above", "inside at the top", "pushed left at the border"],
)
def test_label_stays_in_the_picture(box, rows: slice) -> None:
    drawn = overlay(grey((480, 640)), None, detections(box))
    bar = is_colour(drawn[rows], BOX)
    width = np.ptp(np.nonzero(bar)[1]) + 1
    assert bar.sum() > 700
    assert width > 90


@pytest.mark.parametrize("size", SIZES)
def test_any_size_and_box_can_be_drawn(size: tuple[int, int]) -> None:
    h, w = size
    boxes = detections((0, 0, w, h), (w - 1, h - 1, w, h), (-5, -5, w + 5, h + 5), (0.2, 0.2, 0.4, 0.4))
    drawn = overlay(grey(size), np.ones(size, bool), boxes)
    assert drawn.shape == (h, w, 3)
    assert drawn.dtype == np.uint8


def test_lines_and_text_grow_with_the_image() -> None:
    small, medium, large = Pen.for_size(240, 320), Pen.for_size(480, 640), Pen.for_size(3000, 4000)
    assert medium.line == 3
    assert small.line < medium.line < large.line
    assert small.font >= 0.36
    assert pytest.approx(medium.font, abs=0.01) == 0.5
    assert large.font == pytest.approx(0.5 * 6.25, rel=0.01)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((5, 5), bool), "of shape \\[4, 6\\], got bool \\[5, 5\\]"),
        (np.zeros((4, 6), np.float32), "got float32"),
    ],
)
def test_wrong_mask_is_refused(mask: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        overlay(grey((4, 6)), mask)


def test_overlay_is_quick_enough_for_a_camera() -> None:
    """It goes over no pixels one by one: a large image takes as many calls as a small one."""

    def calls(scale: int) -> int:
        image, mask = grey((120 * scale, 160 * scale)), np.zeros((120 * scale, 160 * scale), np.uint8)
        mask[12 * scale : 100 * scale, 12 * scale : 150 * scale] = 255
        corners = np.array([(12, 12, 150, 100), (2, 2, 50, 50), (75, 25, 125, 75)]) * scale
        boxes = detections(*corners.tolist())
        return count_calls(lambda: overlay(image, mask, boxes))

    calls(scale=2)  # what is made once
    assert calls(scale=2) == calls(scale=8)


def test_text_without_glyphs_becomes_question_marks() -> None:
    assert ascii_text("café \n1") == "caf? ?1"


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 4, 1), (4, 4, 1), (5, 4, 2), (3, 1, 3)])
@pytest.mark.parametrize("captions", [True, False])
def test_contact_sheet_grid(count: int, columns: int, rows: int, captions: bool) -> None:
    names = [f"picture {i}" for i in range(count)] if captions else None
    page = make_contact_sheet([grey((60, 80), 40 + i) for i in range(count)], names, columns=columns, cell=(120, 160))
    gap, line = 6, 14 if captions else 0
    used = min(count, columns)
    assert page.shape == (gap + rows * (120 + line + gap), gap + used * (160 + gap), 3)
    for i in range(count):
        top, left = gap + i // used * (120 + line + gap), gap + i % used * (160 + gap)
        assert (page[top : top + 120, left : left + 160] == 40 + i).all()


def test_contact_sheet_keeps_the_aspect() -> None:
    page = make_contact_sheet([grey((100, 20), 0)], cell=(120, 160))
    cell = page[6:126, 6:166]
    assert (cell[:, 68:92] == 0).all()
    assert is_colour(cell[:, :68], FRAME_RGB).all()
    assert is_colour(cell[:, 92:], FRAME_RGB).all()


def test_long_captions_stay_within_their_cell() -> None:
    page = make_contact_sheet([grey((60, 80))] * 2, ["a very long file name " * 5, ""], cell=(120, 160))
    bar = page[126:140]
    assert not is_colour(bar[:, 6:166], PAGE_RGB).all()
    assert is_colour(bar[:, 166:], PAGE_RGB).all()


@pytest.mark.parametrize(
    ("images", "captions", "columns"), [([], None, 4), ([grey((2, 2))], ["a", "b"], 4), ([grey((2, 2))], None, 0)]
)
def test_contact_sheet_refuses(images, captions, columns) -> None:
    with pytest.raises(InputError, match="contact sheet needs"):
        make_contact_sheet(images, captions, columns=columns)
