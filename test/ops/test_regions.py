from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from objloc_ros.ops.regions import components, fill_holes, mask_iou

MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=12))


def picture(*rows: str) -> np.ndarray:
    return np.array([[c == "#" for c in row] for row in rows])


def test_labels_follow_the_first_pixel_in_raster_order() -> None:
    regions = components(picture("..#.#", "#.#.#", "#.###", "....."))
    assert regions.labels.tolist() == [[0, 0, 1, 0, 1], [2, 0, 1, 0, 1], [2, 0, 1, 1, 1], [0, 0, 0, 0, 0]]
    assert regions.areas.tolist() == [7, 2]
    assert regions.boxes.tolist() == [[2, 0, 5, 3], [0, 1, 1, 3]]


def test_diagonal_neighbours_are_not_connected() -> None:
    assert len(components(picture("#.", ".#"))) == 2


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (("##.", "...", ".##"), ("##.", "...", "...")),
        (("#..", "...", ".##"), ("...", "...", ".##")),
        (("...", "..."), ("...", "...")),
        (("##", "##"), ("##", "##")),
    ],
)
def test_the_largest_component_is_the_first_of_equals(rows: tuple[str, ...], expected: tuple[str, ...]) -> None:
    regions = components(picture(*rows))
    largest = np.arange(1, len(regions) + 1) == regions.largest()
    assert (regions.select(largest) == picture(*expected)).all()


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (("###", "#.#", "###"), ("###", "###", "###")),
        (("###", "#.#", "#.#"), ("###", "#.#", "#.#")),
        (("##..", "#.#.", "####"), ("##..", "###.", "####")),
        ((".#.", "#.#", ".#."), (".#.", "###", ".#.")),
    ],
)
def test_holes_are_closed_unless_a_4_path_leads_out(rows: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert (fill_holes(picture(*rows)) == picture(*expected)).all()


@given(MASKS)
def test_components_agree_with_the_loop_over_labels(mask: np.ndarray) -> None:
    regions = components(mask)
    labels, n = ndimage.label(mask)
    assert (regions.labels == labels).all()
    values = np.arange(mask.size, dtype=np.float32).reshape(mask.shape)
    means = regions.mean(values)
    for i in range(n):
        rows, columns = np.nonzero(labels == i + 1)
        assert regions.areas[i] == len(rows)
        assert regions.boxes[i].tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert means[i] == pytest.approx(values[rows, columns].mean())


@given(MASKS)
def test_fill_holes_agrees_with_scipy(mask: np.ndarray) -> None:
    assert (fill_holes(mask) == ndimage.binary_fill_holes(mask)).all()


@pytest.mark.parametrize("density", [0.3, 0.55, 0.7])
def test_raster_order_holds_on_large_noisy_masks(density: float) -> None:
    mask = np.random.default_rng(0).random((480, 640)) < density
    assert (components(mask).labels == ndimage.label(mask)[0]).all()


def test_select_joins_components() -> None:
    regions = components(picture("#.#", "...", "#.#"))
    assert (regions.select(np.array([True, False, False, True])) == picture("#..", "...", "..#")).all()


@pytest.mark.parametrize(
    ("mask", "other", "iou"),
    [
        ([[0, 1], [1, 0]], [[0, 1], [1, 0]], 1.0),
        ([[1, 1], [0, 0]], [[1, 0], [1, 0]], 1 / 3),
        ([[1, 0], [0, 0]], [[0, 0], [0, 1]], 0.0),
        ([[0, 0], [0, 0]], [[0, 0], [0, 0]], 1.0),
        ([[0, 0], [0, 0]], [[0, 1], [0, 0]], 0.0),
    ],
)
def test_mask_iou(mask: list[list[int]], other: list[list[int]], iou: float) -> None:
    assert mask_iou(np.array(mask, bool), np.array(other, bool)) == pytest.approx(iou)
