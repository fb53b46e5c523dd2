"""The camera that pans over photographs, and the photographs that come with the package."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from objloc_ros.scenes.panning import PHOTOGRAPHS, ZOOM, pan_over


def ramp(height: int, width: int) -> np.ndarray:
    """A photograph whose red tells the column and whose green tells the row, from 0 to 200."""
    columns, rows = np.linspace(0, 200, width), np.linspace(0, 200, height)
    return np.stack(np.broadcast_arrays(columns, rows[:, None], 7), axis=2).round().astype(np.uint8)


def plain(value: int) -> np.ndarray:
    return np.full((48, 64, 3), value, np.uint8)


@pytest.mark.parametrize(("height", "width"), [(480, 640), (300, 800), (800, 300), (60, 80)])
def test_frames_have_the_size_whatever_the_photograph_has(height: int, width: int) -> None:
    frames = list(pan_over([ramp(height, width)], size=(120, 160), frames=5))
    assert [frame.shape for frame in frames] == [(120, 160, 3)] * 5
    assert all((frame[..., 2] == 7).all() for frame in frames)


def test_every_photograph_has_the_same_time() -> None:
    levels = [int(frame[0, 0, 0]) for frame in pan_over([plain(10), plain(20), plain(30)], frames=7)]
    assert levels == [10, 10, 10, 20, 20, 30, 30]
    assert [int(frame[0, 0, 0]) for frame in pan_over([plain(10), plain(20), plain(30)], frames=2)] == [10, 20]


def spans(frame: np.ndarray) -> tuple[float, float]:
    """Left edge and width of what a frame shows of a ramp, as parts of the photograph."""
    left, right = frame[:, 0, 0].mean() / 200, frame[:, -1, 0].mean() / 200
    return left, right - left


def test_the_camera_zooms_into_one_photograph_and_out_of_the_next() -> None:
    frames = list(pan_over([ramp(480, 640)] * 2, frames=20))
    widths = [spans(frame)[1] for frame in frames]
    assert widths[0] == pytest.approx(1, abs=0.01)
    assert widths[9] == pytest.approx(ZOOM, abs=0.01)
    assert widths[10] == pytest.approx(ZOOM, abs=0.01)
    assert (np.diff(widths[:10]) < 0).all()
    assert (np.diff(widths[10:]) > 0).all()


def test_a_wide_photograph_is_crossed_slowly() -> None:
    frames = list(pan_over([ramp(240, 1280)], size=(240, 320), frames=50))
    lefts = [spans(frame)[0] for frame in frames]
    steps = np.diff(lefts)
    assert (steps > 0).all()
    assert steps.max() < 0.02
    assert lefts[-1] - lefts[0] > 0.5
    assert all(frame[:, 0, 1].max() <= 200 for frame in frames)


def test_the_photographs_are_small_and_credited() -> None:
    paths = sorted(PHOTOGRAPHS.glob("*.jpg"))
    credits = (PHOTOGRAPHS / "CREDITS.md").read_text()
    assert len(paths) >= 6
    for path in paths:
        assert path.stat().st_size <= 60_000
        assert cv2.imread(str(path)).shape == (480, 640, 3)
        (line,) = (line for line in credits.splitlines() if f"`{path.name}`" in line)
        assert any(licence in line for licence in ("CC0 1.0", "CC BY 4.0", "public domain"))
    assert credits.count(".jpg`") == len(paths)
