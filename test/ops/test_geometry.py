from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from objloc_ros.errors import InputError, ParameterError
from objloc_ros.ops.geometry import boxes_to_source, map_to_source, plan, resize
from objloc_ros.ops.inputs import to_input

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIDES = st.integers(1, 700)
PATCHES = st.sampled_from([1, 8, 14, 16])
SHORT = st.one_of(st.none(), st.integers(1, 400))


@pytest.mark.parametrize(
    ("source", "patch", "short_side", "resized", "padded"),
    [
        ((480, 640), 16, None, (480, 640), (480, 640)),
        ((375, 500), 16, None, (375, 500), (384, 512)),
        ((375, 500), 8, None, (375, 500), (376, 504)),
        ((720, 1280), 8, 240, (240, 427), (240, 432)),
        ((1280, 720), 8, 240, (427, 240), (432, 240)),
        ((120, 160), 8, 240, (120, 160), (120, 160)),
        ((1, 1), 16, None, (1, 1), (16, 16)),
        ((3000, 4000), 8, 224, (224, 299), (224, 304)),
    ],
)
def test_plan(source: tuple, patch: int, short_side: int | None, resized: tuple, padded: tuple) -> None:
    geometry = plan(source, patch=patch, short_side=short_side)
    assert (geometry.resized, geometry.padded) == (resized, padded)
    assert geometry.grid == (padded[0] // patch, padded[1] // patch)


@pytest.mark.parametrize(("source", "error"), [((0, 5), InputError), ((5, -1), InputError)])
def test_plan_refuses_empty_images(source: tuple, error: type) -> None:
    with pytest.raises(error, match="at least 1"):
        plan(source, patch=8, short_side=None)


@pytest.mark.parametrize(("patch", "short_side"), [(0, None), (8, 0)])
def test_plan_refuses_senseless_sizes(patch: int, short_side: int | None) -> None:
    with pytest.raises(ParameterError, match="at least 1, got 0"):
        plan((10, 10), patch=patch, short_side=short_side)


@given(SIDES, SIDES, PATCHES, SHORT)
def test_padding_is_less_than_a_patch_and_aspect_is_kept(
    height: int, width: int, patch: int, short: int | None
) -> None:
    geometry = plan((height, width), patch=patch, short_side=short)
    for resized, padded in zip(geometry.resized, geometry.padded, strict=True):
        assert padded % patch == 0
        assert 0 <= padded - resized < patch
    if short is not None:
        assert min(geometry.resized) == min(short, height, width)
    scale = min(geometry.resized) / min(height, width)
    assert max(geometry.resized) == pytest.approx(max(height, width) * scale, abs=0.5)


@given(SIDES, SIDES, PATCHES)
def test_native_input_is_the_normalised_image_with_zeros_behind(height: int, width: int, patch: int) -> None:
    image = np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    geometry = plan((height, width), patch=patch, short_side=None)
    tensor = to_input(image, geometry, MEAN, STD)
    literal = torch.zeros(1, 3, *geometry.padded)
    pixels = torch.from_numpy(image).permute(2, 0, 1).float() / 255
    literal[0, :, :height, :width] = (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    torch.testing.assert_close(tensor, literal, rtol=0, atol=1e-6)
    assert (tensor[0, :, height:] == 0).all()
    assert (tensor[0, :, :, width:] == 0).all()


def test_shrinking_averages_areas() -> None:
    image = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    geometry = plan((64, 96), patch=8, short_side=32)
    small = cv2.resize(image, (48, 32), interpolation=cv2.INTER_AREA)
    expected = to_input(small, plan((32, 48), patch=8, short_side=None), MEAN, STD)
    assert torch.equal(to_input(image, geometry, MEAN, STD), expected)


@pytest.mark.parametrize(
    ("size", "short"), [((720, 1280), 192), ((3000, 4000), 192), ((300, 700), 70), ((301, 703), 40), ((480, 640), 192)]
)
def test_halving_first_changes_next_to_nothing(size: tuple, short: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (short // 4, short // 2, 3), dtype=np.uint8)
    image = cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC)
    geometry = plan(size, patch=8, short_side=short)
    direct = cv2.resize(image, geometry.resized[::-1], interpolation=cv2.INTER_AREA)
    difference = np.abs(resize(image, geometry).astype(int) - direct)
    assert difference.mean() < 2
    assert difference.max() < 30


@pytest.mark.parametrize(
    ("black", "behind"), [(False, torch.zeros(3)), (True, -torch.tensor(MEAN) / torch.tensor(STD))]
)
def test_padding_is_zero_or_black(black: bool, behind: torch.Tensor) -> None:
    geometry = plan((61, 83), patch=8, short_side=40)
    pixels = np.full((61, 83, 3), 200, dtype=np.uint8)
    inputs = to_input(pixels, geometry, MEAN, STD, black=black)
    assert inputs.shape == (1, 3, *geometry.padded)
    torch.testing.assert_close(inputs[0, :, -1, -1], behind)


def test_input_of_another_size_is_refused() -> None:
    with pytest.raises(InputError, match="expected an image of"):
        to_input(np.zeros((5, 4, 3), np.uint8), plan((4, 5), patch=8, short_side=None), MEAN, STD)


@st.composite
def processed_boxes(draw: st.DrawFn) -> tuple:
    geometry = plan((draw(SIDES), draw(SIDES)), patch=draw(PATCHES), short_side=draw(SHORT))
    rows, columns = geometry.resized
    boxes = []
    for _ in range(draw(st.integers(0, 4))):
        x1, y1 = draw(st.integers(0, columns - 1)), draw(st.integers(0, rows - 1))
        boxes.append([x1, y1, draw(st.integers(x1 + 1, columns)), draw(st.integers(y1 + 1, rows))])
    return geometry, np.array(boxes, dtype=np.float32).reshape(-1, 4)


@given(processed_boxes())
def test_boxes_stay_in_the_image_and_go_back_exactly(case: tuple) -> None:
    geometry, boxes = case
    (height, width), (rows, columns) = geometry.source, geometry.resized
    mapped = boxes_to_source(boxes, geometry)
    assert mapped.shape == boxes.shape
    assert (mapped >= 0).all()
    assert (mapped <= [width, height, width, height]).all()
    assert (mapped[:, 2:] > mapped[:, :2]).all()
    back = mapped * np.tile([columns / width, rows / height], 2)
    np.testing.assert_allclose(back, boxes, rtol=1e-6)
    if geometry.resized == geometry.source:
        assert (mapped == boxes).all()


def test_boxes_in_the_padding_are_clipped() -> None:
    geometry = plan((30, 50), patch=16, short_side=None)
    assert boxes_to_source(np.array([[16, 16, 64, 32]], np.float32), geometry).tolist() == [[16, 16, 50, 30]]


@given(SIDES, SIDES, SHORT)
def test_maps_go_back_to_the_source_size_in_range(height: int, width: int, short: int | None) -> None:
    geometry = plan((height, width), patch=8, short_side=short)
    values = np.random.default_rng(height).random(geometry.resized, dtype=np.float32)
    mapped = map_to_source(values, geometry)
    assert mapped.shape == (height, width)
    assert mapped.min() >= values.min() - 1e-6
    assert mapped.max() <= values.max() + 1e-6
    mask = map_to_source(values > 0.5, geometry)
    assert mask.dtype == bool
    assert mask.shape == (height, width)


def test_masks_are_sampled_at_the_nearest_pixel() -> None:
    geometry = plan((4, 6), patch=8, short_side=2)
    mask = np.array([[True, False, True], [False, True, False]])
    assert (map_to_source(mask, geometry) == mask.repeat(2, 0).repeat(2, 1)).all()


def test_map_of_another_size_is_refused() -> None:
    with pytest.raises(InputError, match="expected a map of"):
        map_to_source(np.zeros((5, 4), np.float32), plan((4, 5), patch=8, short_side=None))
