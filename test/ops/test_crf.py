"""The dense CRF: against a mean field written out, against the original's masks, and on odd input."""

import numpy as np
import pytest
import torch
from golden_cases import decode_image, find_cases, load_case, unpack_masks

from objloc_ros.errors import InputError, ParameterError
from objloc_ros.ops.crf import DEEP_SPECTRAL, MASKCUT, CrfOptions, DenseCrf, Lattice


def scene(size=(40, 56)):
    """A bright rectangle before a dark ground, and a mask that covers it badly."""
    image = np.full((*size, 3), 40, np.uint8)
    image[10:30, 16:40] = (200, 160, 60)
    truth = image[:, :, 0] == 200
    mask = np.zeros(size, bool)
    mask[8:24, 12:44] = True
    return image, truth, mask


def iou(a, b):
    union = np.count_nonzero(a | b)
    return np.count_nonzero(a & b) / union if union else 1.0


def mean_field(image, mask, options):
    """Two labels, two channels, every step as the paper writes it, on the same lattices."""
    h, w = mask.shape
    y, x = np.mgrid[:h, :w].reshape(2, -1)
    position = np.stack([x, y], 1)
    bilateral = np.concatenate(
        [position / options.bilateral_deviation, image.reshape(-1, 3) / options.colour_deviation], 1
    )
    kernels = []
    for weight, points in (
        (options.position_weight, position / options.position_deviation),
        (options.bilateral_weight, bilateral),
    ):
        lattice = Lattice(torch.from_numpy(points))
        norm = 1 / np.sqrt(lattice.filter(torch.ones(h * w, 1)).numpy() + 1e-20)
        kernels.append((weight, lattice, norm))
    p = np.where(mask.ravel(), options.confidence, 1 - options.confidence)
    unary = -np.log(np.stack([1 - p, p], 1))
    q = np.exp(-unary)
    for _ in range(options.iterations):
        energy = -unary
        for weight, lattice, norm in kernels:
            energy = energy + weight * norm * lattice.filter(torch.from_numpy((norm * q).astype(np.float32))).numpy()
        q = np.exp(energy - energy.max(1, keepdims=True))
        q /= q.sum(1, keepdims=True)
    return (q[:, 1] > q[:, 0]).reshape(h, w)


@pytest.mark.parametrize("options", [MASKCUT, DEEP_SPECTRAL], ids=["maskcut", "deep_spectral"])
def test_one_unknown_per_pixel_is_the_mean_field_of_two_labels(options):
    image, _, mask = scene()
    noisy = np.clip(image + np.random.default_rng(0).normal(0, 6, image.shape), 0, 255).astype(np.uint8)
    (ours,) = DenseCrf(noisy, options).refine([mask])
    np.testing.assert_array_equal(ours, mean_field(noisy, mask, options))


def test_a_mask_moves_to_the_edges_of_the_image():
    image, truth, mask = scene()
    (refined,) = DenseCrf(image).refine([mask])
    assert iou(mask, truth) < 0.7
    assert iou(refined, truth) > 0.97


def test_masks_refined_together_are_those_refined_alone():
    image, truth, mask = scene()
    crf = DenseCrf(image)
    for together, alone in zip(crf.refine([mask, truth, ~mask]), (mask, truth, ~mask), strict=True):
        np.testing.assert_array_equal(together, crf.refine([alone])[0])


def test_holes_are_filled_and_a_mask_that_moves_away_is_dropped():
    image, truth, _ = scene()
    holed = truth.copy()
    holed[18:20, 26:28] = False
    image[18:20, 26:28] = 255  # a speck of another colour
    kept, dropped = DenseCrf(image).gated([holed, np.eye(*truth.shape, dtype=bool)])
    assert kept[18:20, 26:28].all()
    assert not dropped.any()


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 5)])
@pytest.mark.parametrize("fill", [False, True])
def test_uniform_masks_stay_and_tiny_images_are_fine(size, fill):
    mask = np.full(size, fill)
    (refined,) = DenseCrf(np.zeros((*size, 3), np.uint8)).gated([mask])
    np.testing.assert_array_equal(refined, mask)
    assert DenseCrf(np.zeros((*size, 3), np.uint8)).refine([]) == []


def test_the_result_is_the_same_on_every_run_and_thread_count():
    image, _, mask = scene((90, 120))
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 1, 2):
            torch.set_num_threads(threads)
            results.append(DenseCrf(image).refine([mask])[0])
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


@pytest.mark.parametrize(
    "bad", [np.zeros((4, 5, 3), np.float32), np.zeros((4, 5), np.uint8), np.zeros((0, 5, 3), np.uint8)]
)
def test_what_is_no_image_is_refused(bad):
    with pytest.raises(InputError):
        DenseCrf(bad)


@pytest.mark.parametrize("bad", [np.zeros((4, 6), bool), np.zeros((4, 5), np.uint8)])
def test_a_mask_of_another_size_or_type_is_refused(bad):
    with pytest.raises(InputError, match=r"\(4, 5\)"):
        DenseCrf(np.zeros((4, 5, 3), np.uint8)).refine([bad])


@pytest.mark.parametrize(
    "options",
    [
        {"position_deviation": 0.0},
        {"colour_deviation": -1.0},
        {"bilateral_deviation": float("nan")},
        {"bilateral_weight": -0.1},
        {"confidence": 0.5},
        {"confidence": 1.0},
        {"iterations": 0},
    ],
)
def test_options_out_of_range_are_named(options):
    (name,) = options
    with pytest.raises(ParameterError, match=name):
        CrfOptions(**options)


def test_masks_agree_with_the_originals():
    """All but one are the same to the pixel on the machine where the originals ran."""
    refined, gated, kept = [], [], []
    for case in map(load_case, find_cases("maskcut")):
        if "image_png" not in case:
            continue
        image = decode_image(case)
        rough, crf_map, final = (
            list(unpack_masks(case[name], image.shape[:2])) for name in ("bipartitions", "crf_map", "final")
        )
        crf = DenseCrf(image)
        refined += [iou(ours, theirs) for ours, theirs in zip(crf.refine(rough), crf_map, strict=True)]
        gated += [iou(ours, theirs) for ours, theirs in zip(crf.gated(rough), final, strict=True)]
        kept += [mask.any() for mask in final]
    assert {*kept} == {True, False}, "both masks that the gate lets pass and masks that it drops"
    for ious in (sorted(refined), sorted(gated)):
        assert ious[0] >= 0.97
        assert ious[1] >= 0.999


def test_deviations_in_position_shrink_with_the_image():
    half = MASKCUT.shrink_to(240)
    assert (half.position_deviation, half.bilateral_deviation) == (1.5, 25.0)
    assert (half.colour_deviation, half.iterations) == (MASKCUT.colour_deviation, MASKCUT.iterations)
    assert half.shrink_to(240) == half
    assert MASKCUT.shrink_to(480) == MASKCUT.shrink_to(1080) == MASKCUT
    assert DEEP_SPECTRAL.shrink_to(100) == DEEP_SPECTRAL
