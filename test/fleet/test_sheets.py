"""Contact sheets of objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fleet_making import SIZE, picture, prelabels

from objloc_ros.fleet.objects import read_fleet
from objloc_ros.fleet.sheets import CELL, make_object_sheet
from objloc_ros.io.contact_sheet import FRAME_RGB

RED, GREEN = (200, 40, 40), (40, 200, 40)
LEFT, CORNER = (8, 8, 40, 40), (SIZE[1] - 20, SIZE[0] - 20, SIZE[1], SIZE[0])


def count(sheet: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((np.abs(sheet.astype(int) - colour).max(-1) < 20).sum())


def test_each_object_is_cut_out_with_its_outline(tmp_path: Path) -> None:
    folder = prelabels(tmp_path, [(picture(RED, LEFT), [LEFT]), (picture(GREEN, CORNER), [CORNER])])
    fleet = read_fleet([folder])
    both = make_object_sheet(fleet, [0, 1], ["a", "b"])
    assert count(both, RED) > 5000
    assert count(both, GREEN) > 5000, "at the picture's corner, too"
    second = make_object_sheet(fleet, [1], ["b"])
    assert second.shape[1] < both.shape[1]
    assert count(second, RED) == 0
    assert count(second, (255, 255, 255)) > 200, "its outline"


def test_a_picture_that_cannot_be_read_or_is_another_leaves_its_cell_empty(tmp_path: Path) -> None:
    folder = prelabels(tmp_path, [(picture(RED, LEFT), [LEFT])] * 2)
    fleet = read_fleet([folder])
    fleet.images[0].file.write_bytes(b"")
    empty = make_object_sheet(fleet, [0], [""])
    assert count(empty, RED) == 0
    assert count(empty, FRAME_RGB) >= CELL[0] * CELL[1]
