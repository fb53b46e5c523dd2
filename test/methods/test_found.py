from __future__ import annotations

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy import ndimage

from objloc_ros.errors import InputError, ParameterError
from objloc_ros.methods.found import corloc_box, localise, refine_mask
from objloc_ros.methods.found_network import background_mask, background_seed, head_logits, head_weights
from objloc_ros.methods.options import FoundOptions
from objloc_ros.ops.geometry import plan

ROOT = Path(__file__).resolve().parents[2]
EVERYTHING = FoundOptions(min_area=0)

spec = importlib.util.spec_from_file_location("literal", ROOT / "bench" / "literal.py")
literal = importlib.util.module_from_spec(spec)
spec.loader.exec_module(literal)


def random_inputs(seed: int, batch: int, grid: tuple, heads: int, dim: int) -> tuple:
    generator = torch.Generator().manual_seed(seed)
    n = grid[0] * grid[1]
    features = torch.randn(batch, n, heads * dim, generator=generator) + torch.randn(
        1, 1, heads * dim, generator=generator
    )
    attention = (3 * torch.randn(batch, heads, n + 1, generator=generator)).softmax(-1)[:, :, 1:]
    return features, attention


def field(*rows: str) -> np.ndarray:
    """Logits of +4 where the picture shows #, -4 elsewhere."""
    return np.array([[4.0 if c == "#" else -4.0 for c in row] for row in rows], dtype=np.float32)


def native(logits: np.ndarray, patch: int = 8):
    return plan((logits.shape[0] * patch, logits.shape[1] * patch), patch=patch, short_side=None)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("grid", "heads", "dim"), [((6, 9), 4, 8), ((1, 20), 6, 4), ((1, 1), 2, 3)])
def test_background_agrees_with_the_whole_similarity_matrix(batch: int, grid: tuple, heads: int, dim: int) -> None:
    features, attention = random_inputs(0, batch, grid, heads, dim)
    mask = background_mask(features, attention, grid, n_heads=heads)
    assert mask.shape == (batch, *grid)
    assert mask.dtype == torch.bool
    for i in range(batch):
        expected = literal.background_mask(features[i], attention[i], heads)
        assert torch.equal(mask[i].flatten(), expected)


def test_sparse_heads_weigh_more() -> None:
    attention = torch.tensor([[[0.9, 0.0, 0.0, 0.0], [0.3, 0.3, 0.3, 0.0], [0.0, 0.0, 0.0, 0.0]]])
    betas = head_weights(attention)[0]
    share = torch.tensor([1 / 4, 3 / 4, 0.0]) + 1e-10
    torch.testing.assert_close(betas, torch.log(share.sum() / share))
    assert betas[2] > betas[0] > betas[1]
    assert betas[2] > 20


def test_first_of_equally_unattended_patches_is_the_seed() -> None:
    attention = torch.tensor([[[0.5, 0.1, 0.3, 0.1], [0.2, 0.1, 0.2, 0.1]]])
    assert background_seed(attention, torch.ones(1, 2)).tolist() == [1]


def test_patches_all_alike_are_all_ground() -> None:
    features, attention = torch.ones(1, 6, 8), torch.full((1, 2, 6), 1 / 7)
    assert background_mask(features, attention, (2, 3), n_heads=2).all()


def test_zero_features_have_no_ground_and_no_nan() -> None:
    assert not background_mask(torch.zeros(1, 6, 8), torch.full((1, 2, 6), 1 / 7), (2, 3), n_heads=2).any()


@pytest.mark.parametrize(
    ("features", "attention", "grid", "heads"),
    [((1, 6, 8), (1, 2, 6), (2, 4), 2), ((1, 6, 8), (1, 2, 7), (2, 3), 2), ((1, 6, 9), (1, 2, 6), (2, 3), 2)],
)
def test_background_refuses_shapes_that_disagree(features: tuple, attention: tuple, grid: tuple, heads: int) -> None:
    with pytest.raises(InputError, match="do not fit a grid"):
        background_mask(torch.zeros(features), torch.zeros(attention), grid, n_heads=heads)


def test_head_is_a_1x1_convolution() -> None:
    features, _ = random_inputs(1, 2, (5, 7), 3, 4)
    convolution = torch.nn.Conv2d(12, 1, 1)
    expected = convolution(features.transpose(1, 2).unflatten(2, (5, 7)))[:, 0]
    torch.testing.assert_close(head_logits(features, convolution.weight, convolution.bias, (5, 7)), expected)


def test_head_refuses_another_width() -> None:
    with pytest.raises(InputError, match="do not fit a grid"):
        head_logits(torch.zeros(1, 6, 8), torch.zeros(1, 9, 1, 1), torch.zeros(1), (2, 3))


@pytest.mark.parametrize(
    ("size", "patch", "short"), [((48, 64), 8, None), ((45, 61), 8, None), ((5, 3), 16, None), ((90, 130), 8, 40)]
)
def test_saliency_is_the_sigmoid_of_upsampled_logits(size: tuple, patch: int, short: int | None) -> None:
    geometry = plan(size, patch=patch, short_side=short)
    logits = torch.randn(geometry.grid, generator=torch.Generator().manual_seed(0)) * 4
    up = torch.nn.functional.interpolate(logits[None, None], geometry.padded, mode="bilinear", align_corners=False)
    height, width = geometry.resized
    result = localise(logits.numpy(), geometry=geometry, options=EVERYTHING)
    np.testing.assert_allclose(result.saliency, up[0, 0, :height, :width].sigmoid(), rtol=0, atol=1e-5)
    assert result.mask.shape == geometry.resized
    assert (result.mask == (result.saliency > 0.5)).all()


def test_each_region_is_one_detection_scored_by_its_mean_saliency() -> None:
    logits = field("........", ".##.....", ".##...#.", "......#.", "........")
    result = localise(logits, geometry=native(logits), options=EVERYTHING)
    labels, n = ndimage.label(result.mask)
    assert n == len(result.boxes) == len(result.scores) == 2
    expected = [result.saliency[labels == i].mean() for i in (1, 2)]
    np.testing.assert_allclose(result.scores, sorted(expected, reverse=True), rtol=1e-5)
    for box, label in zip(result.boxes, np.argsort(expected)[::-1] + 1, strict=True):
        rows, columns = np.nonzero(labels == label)
        assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize(("threshold", "count"), [(0.0, 1), (1.0, 0)])
def test_both_ends_of_the_threshold_have_a_meaning(threshold: float, count: int) -> None:
    logits = field("........", ".##.....", "........")
    result = localise(logits, geometry=native(logits), options=FoundOptions(threshold=threshold))
    assert (len(result.boxes), result.mask.all(), result.mask.any()) == (count, count == 1, count == 1)


def test_single_mode_keeps_the_largest_region() -> None:
    logits = field("........", ".#......", "....##..", "....##..", "........")
    result = localise(logits, geometry=native(logits), options=FoundOptions(mode="single"))
    assert len(result.boxes) == 1
    assert result.mask[24, 40]
    assert not result.mask[12, 12]


def test_small_regions_and_surplus_regions_are_left_out_of_the_mask_too() -> None:
    logits = field("........", ".#..##..", "....##..", "........", ".#......")
    geometry = native(logits)
    assert len(localise(logits, geometry=geometry, options=EVERYTHING).boxes) == 3
    large = localise(logits, geometry=geometry, options=FoundOptions(min_area=0.06))
    assert len(large.boxes) == 1
    assert ndimage.label(large.mask)[1] == 1
    best = localise(logits, geometry=geometry, options=FoundOptions(min_area=0, max_detections=2))
    assert len(best.boxes) == 2
    assert ndimage.label(best.mask)[1] == 2


@pytest.mark.parametrize("mode", ["multi", "single"])
@pytest.mark.parametrize("post", ["none", "bilateral"])
def test_empty_and_full_masks(mode: str, post: str) -> None:
    options = FoundOptions(mode=mode, post=post)
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    geometry = plan((24, 32), patch=8, short_side=None)
    empty = localise(np.full((3, 4), -9, np.float32), geometry=geometry, options=options, image=image)
    assert empty.boxes.shape == (0, 4)
    assert empty.scores.shape == (0,)
    assert not empty.mask.any()
    full = localise(np.full((3, 4), 9, np.float32), geometry=geometry, options=options, image=image)
    assert full.boxes.tolist() == [[0, 0, 32, 24]]
    assert full.mask.all()


def test_an_image_smaller_than_a_patch() -> None:
    result = localise(field("#"), geometry=plan((5, 3), patch=16, short_side=None), options=FoundOptions())
    assert result.boxes.tolist() == [[0, 0, 3, 5]]


def test_extreme_logits_stay_in_range() -> None:
    logits = np.array([[-1e4, 1e4]], dtype=np.float32)
    result = localise(logits, geometry=native(logits), options=FoundOptions())
    assert np.isfinite(result.saliency).all()
    assert result.saliency.min() >= 0
    assert result.saliency.max() <= 1
    assert (result.scores <= 1).all()


def square_image() -> np.ndarray:
    image = np.full((96, 128, 3), 40, dtype=np.uint8)
    image[27:69, 37:91] = 210
    return image


def test_bilateral_mode_follows_the_edges() -> None:
    logits = field(*["................"] * 3, *["....########...."] * 6, *["................"] * 3)
    result = localise(logits, geometry=native(logits), options=FoundOptions(post="bilateral"), image=square_image())
    assert result.boxes.tolist() == [[37, 27, 91, 69]]


def test_bilateral_mode_works_at_the_processed_size() -> None:
    image = cv2.resize(square_image(), (256, 192), interpolation=cv2.INTER_NEAREST)
    logits = field(*["................"] * 3, *["....########...."] * 6, *["................"] * 3)
    geometry = plan((192, 256), patch=8, short_side=96)
    result = localise(logits, geometry=geometry, options=FoundOptions(post="bilateral"), image=image)
    assert result.boxes.tolist() == [[37, 27, 91, 69]]


def test_a_rejected_refinement_leaves_the_mask() -> None:
    mask = np.zeros((96, 128), dtype=bool)
    mask[:4, :4] = True
    for mode in ("multi", "single"):
        assert (refine_mask(mask, square_image(), mode=mode) == mask).all()


def test_bilateral_mode_needs_an_image() -> None:
    with pytest.raises(InputError, match="needs the image"):
        localise(field("#"), geometry=native(field("#")), options=FoundOptions(post="bilateral"))


def test_logits_of_another_grid_are_refused() -> None:
    with pytest.raises(InputError, match="expected logits of"):
        localise(field("##"), geometry=native(field("#")), options=FoundOptions())


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("threshold", -0.01),
        ("threshold", 1.01),
        ("threshold", float("nan")),
        ("mode", "all"),
        ("post", "crf"),
        ("min_area", -0.1),
        ("min_area", 1.5),
        ("max_detections", 0),
    ],
)
def test_options_name_the_value_they_refuse(option: str, value: object) -> None:
    with pytest.raises(ParameterError, match=f"^{option} must .* got {value!r}"):
        FoundOptions(**{option: value})


@pytest.mark.parametrize(
    ("rows", "image_size", "box"),
    [
        (("....", ".##.", "...#"), (24, 32), (8, 8, 24, 16)),
        (("#...", "...#"), (16, 32), (0, 0, 8, 8)),
        (("...#", "...#"), (13, 27), (24, 0, 27, 13)),
        (("....",), (8, 32), None),
    ],
)
def test_corloc_box(rows: tuple, image_size: tuple, box: tuple | None) -> None:
    assert corloc_box(field(*rows), 8, image_size) == box
