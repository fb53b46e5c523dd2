"""Copy-paste, against the original's outputs and by its properties."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from golden_cases import IS_ILL_POSED, find_cases, load_case

from objloc_ros.training.copy_paste import Draw, copy_paste, draw_paste, paste_objects

SIZE = (30, 40)


def mask(x1: int, y1: int, x2: int, y2: int) -> np.ndarray:
    drawn = np.zeros(SIZE, np.bool_)
    drawn[y1:y2, x1:x2] = True
    return drawn


@pytest.mark.parametrize("path", find_cases("cutler_copy_paste"), ids=lambda path: path.stem)
def test_the_original_pastes_the_same(path: Path) -> None:
    case = load_case(path)
    target = case["target"].transpose(1, 2, 0)
    image, masks, boxes = copy_paste(
        case["source"].transpose(1, 2, 0),
        case["source_masks"],
        target,
        case["target_masks"].reshape(-1, *target.shape[:2]),
        choice=case["choice"],
        ratio=float(case["ratio"]),
        shift_x=int(case["shift_x"]),
        shift_y=int(case["shift_y"]),
    )
    assert (image == case["image"].transpose(1, 2, 0)).all()
    assert (masks == case["masks"]).all()
    if not IS_ILL_POSED["cutler_copy_paste"](case):
        assert boxes.tolist() == case["boxes"].tolist()
    for box, drawn in zip(boxes, masks, strict=True):
        rows, columns = np.nonzero(drawn)
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_an_object_may_cover_less_than_half_of_another() -> None:
    image, target = np.full((*SIZE, 3), 200, np.uint8), np.zeros((*SIZE, 3), np.uint8)
    there = np.stack([mask(10, 10, 20, 20), mask(0, 0, 5, 5)])
    for covered, fits in ((4, True), (5, False)):
        pasted = paste_objects(image, mask(20 - covered, 10, 35, 20)[None], target, there, Draw(np.array([0]), 1, 0, 0))
        assert pasted.pasted.tolist() == ([0] if fits else [])
        assert pasted.kept.tolist() == [0, 1]
        assert (pasted.image.any(axis=2) == (pasted.masks[2] if fits else False)).all()
        assert pasted.boxes[0].tolist() == [10, 10, 20 - covered if fits else 20, 20]
    assert not target.any(), "the target stays as it was"


def test_what_vanishes_is_no_object() -> None:
    image = np.zeros((*SIZE, 3), np.uint8)
    draw = Draw(np.array([0, 1]), 0.1, 0, 0)  # to 3 x 4 pixels, of every tenth in each direction
    pasted = paste_objects(
        image, np.stack([mask(0, 0, 1, 1), mask(0, 0, 30, 30)]), image, np.zeros((0, *SIZE), bool), draw
    )
    assert pasted.pasted.tolist() == [1]
    assert pasted.masks.shape == (1, *SIZE)


def test_draws_depend_on_their_key_alone_and_stay_in_range() -> None:
    draws = [draw_paste(np.random.default_rng([5, 2, i]), 4, SIZE) for i in range(300)]
    again = draw_paste(np.random.default_rng([5, 2, 17]), 4, SIZE)
    assert (again.choice.tolist(), *again[1:]) == (draws[17].choice.tolist(), *draws[17][1:])
    assert {len(draw.choice) for draw in draws} == {1, 2, 3}, "never all"
    assert all(len(set(draw.choice.tolist())) == len(draw.choice) for draw in draws)
    assert 0.3 <= min(draw.ratio for draw in draws) < 0.32 < 0.98 < max(draw.ratio for draw in draws) <= 1
    for draw in draws:
        assert 0 <= draw.shift_x <= SIZE[1] - int(draw.ratio * SIZE[1])
        assert 0 <= draw.shift_y <= SIZE[0] - int(draw.ratio * SIZE[0])
    assert draw_paste(np.random.default_rng(0), 1, SIZE, (1.0, 1.0)) == (np.array([0]), 1.0, 0, 0)
