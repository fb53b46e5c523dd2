"""CLIP-DIY's windows, maps and fusion against slow loops over pixels."""

import numpy as np
import pytest
import torch
from PIL import Image

from objloc_ros.errors import InputError, ParameterError
from objloc_ros.methods.clip_diy import (
    SIDE,
    fuse,
    gate_by_saliency,
    resized_windows,
    similarity,
    split_windows,
    windows,
    windows_per_row,
)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(side, count=1, seed=0):
    """Smooth colours with noise on top: uint8 [count, 3, side, side]."""
    values = torch.rand(count, 3, side, side, generator=rng(seed)) * 120
    ramp = torch.linspace(0, 135, side)
    return (values + ramp[:, None] * 0.5 + ramp * 0.5).to(torch.uint8)


def close(ours, pillows):
    """Within one grey level, and once in ten thousand values within two: both round after each direction."""
    difference = np.abs(ours.astype(int) - pillows.astype(int))
    return difference.max() <= 2 and (difference > 1).mean() < 1e-4 and (difference > 0).mean() < 0.03


def starts(size, patch, stride):
    """Where windows begin along one side."""
    found, at = [], 0
    while at + patch <= size:
        found.append(at)
        at += patch // stride
    return found


@pytest.mark.parametrize(
    ("size", "patch", "stride", "per_row"),
    [
        (256, 256, 2, 1),
        (256, 128, 2, 3),
        (256, 64, 2, 7),
        (256, 64, 4, 13),
        (256, 64, 1, 4),
        (320, 256, 2, 1),
        (250, 63, 2, 7),
        (10, 3, 2, 8),
        (5, 1, 1, 5),
        (7, 7, 7, 1),
    ],
)
def test_windows_are_slices_of_the_image(size, patch, stride, per_row):
    images = noise(size, 2)
    cut = windows(images, patch, stride)
    corners = starts(size, patch, stride)
    assert len(corners) == per_row
    assert cut.shape == (2, per_row, per_row, 3, patch, patch)
    assert windows_per_row(size, [patch], stride) == [per_row]
    for image in range(2):
        for row, y in enumerate(corners):
            for column, x in enumerate(corners):
                assert torch.equal(cut[image, row, column], images[image, :, y : y + patch, x : x + patch])


def test_the_papers_windows_are_1_9_and_49():
    assert windows_per_row() == [1, 3, 7]
    assert resized_windows(noise(SIDE), 8).shape == (59, 3, 8, 8)


@pytest.mark.parametrize(("patch", "stride"), [(11, 2), (0, 2), (1, 2), (3, 0), (4, -1)])
def test_windows_that_do_not_fit_are_refused(patch, stride):
    with pytest.raises(ParameterError, match=f"windows of {patch} px with stride {stride} do not fit 10 px"):
        windows(noise(10), patch, stride)


@pytest.mark.parametrize("side", [224, 64, 33])
def test_windows_are_resized_as_pillow_resizes_them(side):
    images, sizes = noise(96, 2), (96, 64, 24)
    resized = resized_windows(images, side, sizes)
    assert resized.dtype == torch.uint8
    expected = []
    for patch in sizes:
        for image in images.permute(0, 2, 3, 1).numpy():
            for y in starts(96, patch, 2):
                for x in starts(96, patch, 2):
                    one = Image.fromarray(np.ascontiguousarray(image[y : y + patch, x : x + patch]))
                    expected.append(np.asarray(one.resize((side, side), Image.Resampling.BICUBIC)))
    expected = np.stack(expected).transpose(0, 3, 1, 2)
    assert resized.shape == expected.shape
    assert close(resized.numpy(), expected)
    assert not close(np.roll(resized.numpy(), 1, axis=3), expected)


def test_extremes_are_clipped_as_pillow_clips_them():
    board = torch.from_numpy((np.indices((16, 16)).sum(0) % 4 < 2).astype(np.uint8) * 255).expand(1, 3, 16, 16)
    resized = resized_windows(board, 40, (16,))[0, 0].numpy()
    assert close(resized, np.asarray(Image.fromarray(board[0, 0].numpy()).resize((40, 40), Image.Resampling.BICUBIC)))
    assert (resized.min(), resized.max()) == (0, 255)


def test_windows_of_the_right_size_stay_as_they_are():
    images = noise(16)
    assert torch.equal(resized_windows(images, 8, (8,))[4], images[0, :, 4:12, 4:12])


def test_embeddings_find_back_to_their_windows():
    """Scale after scale, image after image, row after row, as `resized_windows` lays them out."""
    batch, sides = 2, [1, 3, 7]
    numbered = torch.arange(float(batch * 59))[:, None]
    parts = split_windows(numbered, batch, sides)
    count = 0.0
    for part, side in zip(parts, sides, strict=True):
        assert part.shape == (batch, side, side, 1)
        for image in range(batch):
            for row in range(side):
                for column in range(side):
                    assert part[image, row, column, 0] == count
                    count += 1


def test_split_windows_and_windows_agree():
    images = noise(16, 3)
    flat = resized_windows(images, 4, (8, 4)).flatten(1).float()
    coarse, fine = split_windows(flat, 3, windows_per_row(16, (8, 4)))
    assert torch.equal(fine[2, 1, 5].view(3, 4, 4).byte(), images[2, :, 2:6, 10:14])
    assert torch.equal(coarse[1, 2, 0], resized_windows(images[1:2, :, 8:16, :8], 4, (8,)).flatten().float())


def hat(places, at):
    """Weights of linear interpolation at a place between places in ascending order, flat beyond them."""
    weights = [0.0] * len(places)
    if at <= places[0]:
        weights[0] = 1.0
    elif at >= places[-1]:
        weights[-1] = 1.0
    else:
        right = next(i for i, place in enumerate(places) if place >= at)
        share = (at - places[right - 1]) / (places[right] - places[right - 1])
        weights[right - 1], weights[right] = 1 - share, share
    return weights


def spread(values, size, placement, patch, stride):
    """One scale's values [n][n] brought to pixels, one by one."""
    n = len(values)
    if placement == "centred":
        places = [k * (patch // stride) + patch / 2 for k in range(n)]
    else:
        places = [(k + 0.5) * size / n for k in range(n)]
    result = np.zeros((size, size))
    for y in range(size):
        for x in range(size):
            if placement == "nearest":
                result[y, x] = values[y * n // size][x * n // size]
                continue
            vertical, horizontal = hat(places, y + 0.5), hat(places, x + 0.5)
            result[y, x] = sum(
                vertical[i] * horizontal[j] * values[i][j] for i in range(n) for j in range(n) if vertical[i]
            )
    return result


@pytest.mark.parametrize("placement", ["tiled", "centred", "nearest"])
@pytest.mark.parametrize(
    ("size", "patches", "stride", "weights"),
    [(16, (16, 8, 4), 2, None), (16, (8,), 2, (0.7,)), (12, (4, 12), 4, (0.5, 2.0)), (16, (8, 4), 1, (1.0, 3.0))],
)
def test_the_maps_are_those_of_a_loop_over_pixels(placement, size, patches, stride, weights):
    texts = torch.randn(3, 5, generator=rng(1)) * 4
    sides = windows_per_row(size, patches, stride)
    embeddings = [torch.randn(2, n, n, 5, generator=rng(n)) * 3 for n in sides]
    maps = similarity(embeddings, texts, size=size, weights=weights, placement=placement, stride=stride)
    assert maps.shape == (2, 3, size, size)
    for image in range(2):
        for prompt in range(3):
            expected = np.zeros((size, size))
            for scale, weight in enumerate(weights or (1.0,) * len(patches)):
                n = sides[scale]
                cosines = [
                    [
                        float(e @ texts[prompt] / e.norm() / texts[prompt].norm())
                        for e in (embeddings[scale][image, row, column] for column in range(n))
                    ]
                    for row in range(n)
                ]
                expected += weight * spread(cosines, size, placement, patches[scale], stride)
            np.testing.assert_allclose(maps[image, prompt], expected / len(patches), atol=1e-5)


def test_weights_are_divided_by_the_number_of_scales_not_by_their_sum():
    window, text = torch.tensor([3.0, 0.0]), torch.tensor([[2.0, 0.0]])
    scales = [window.expand(1, n, n, 2) for n in (1, 3)]
    assert similarity(scales, text, size=4, weights=(5.0, 1.0)).unique().tolist() == [3.0]
    assert similarity(scales, text, size=4).unique().tolist() == [1.0]


def test_tiled_is_the_default_and_placements_differ():
    embeddings, texts = [torch.randn(1, 3, 3, 5, generator=rng())], torch.randn(2, 5, generator=rng(1))
    maps = {p: similarity(embeddings, texts, size=16, placement=p) for p in ("tiled", "centred", "nearest")}
    assert torch.equal(similarity(embeddings, texts, size=16), maps["tiled"])
    assert (maps["tiled"] - maps["centred"]).abs().max() > 0.01
    assert (maps["tiled"] - maps["nearest"]).abs().max() > 0.01


def test_half_precision_embeddings_are_compared_in_single():
    embeddings = [torch.randn(1, 2, 2, 8, generator=rng())]
    texts = torch.randn(3, 8, generator=rng(1))
    halves = similarity([e.half() for e in embeddings], texts.half(), size=8)
    assert halves.dtype == torch.float32
    torch.testing.assert_close(halves, similarity(embeddings, texts, size=8), atol=2e-3, rtol=0)


@pytest.mark.parametrize(("scales", "weights"), [(0, None), (2, (1.0,)), (1, ()), (1, (1.0, 2.0))])
def test_every_scale_needs_a_weight(scales, weights):
    with pytest.raises(InputError, match=f"weight for each of 1 or more scales, got {scales} and "):
        similarity([torch.ones(1, 1, 1, 4)] * scales, torch.ones(2, 4), size=8, weights=weights)


def test_fusing_weighs_the_background_with_what_is_no_object():
    """Two prompts and the background at four pixels, by hand."""
    maps = torch.tensor([[[[0.5, 0.5, 0.5, 0.5]], [[0.4, 0.4, 0.1, 0.3]], [[0.2, 0.1, 0.3, 0.6]]]])
    saliency = torch.tensor([[[0.0, 0.5, 1.0, 0.6]]])
    expected = torch.tensor([[[[0.5, 0.25, 0.0, 0.2]], [[0.0, 0.2, 0.1, 0.18]], [[0.0, 0.05, 0.3, 0.36]]]])
    torch.testing.assert_close(gate_by_saliency(maps, saliency), expected)
    assert fuse(maps, saliency).tolist() == [[[0, 0, 2, 2]]]
    assert maps[0, 0].tolist() == [[0.5, 0.5, 0.5, 0.5]]  # left as they were


def test_any_class_may_be_the_background():
    maps, saliency = torch.rand(2, 4, 6, 6, generator=rng()), torch.rand(2, 6, 6, generator=rng(1))
    order = [2, 0, 1, 3]
    first = gate_by_saliency(maps[:, order], saliency)
    assert torch.equal(gate_by_saliency(maps, saliency, background=2)[:, order], first)
    ours = fuse(maps, saliency, background=2)
    assert torch.equal(torch.tensor(order)[fuse(maps[:, order], saliency)], ours)


def test_a_softmax_in_between_changes_nothing():
    maps = torch.rand(2, 5, 32, 32, generator=rng()) * 2 - 1
    saliency = torch.rand(2, 32, 32, generator=rng(1))
    assert torch.equal(fuse(maps, saliency), gate_by_saliency(maps, saliency).double().softmax(1).argmax(1))


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_a_certain_saliency_decides_alone(level):
    maps = torch.rand(1, 4, 8, 8, generator=rng()) + 0.1
    best = fuse(maps, torch.full((1, 8, 8), level))
    expected = torch.zeros(1, 8, 8, dtype=torch.int64) if level == 0 else maps[:, 1:].argmax(1) + 1
    assert torch.equal(best, expected)


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 8, 9), (2, 1, 8, 8), (2, 8)])
def test_a_saliency_of_another_size_is_refused(shape):
    with pytest.raises(InputError, match=r"saliency \[.*\] does not fit a similarity of \[2, 3, 8, 8\]"):
        fuse(torch.zeros(2, 3, 8, 8), torch.zeros(shape))


@pytest.mark.parametrize("background", [-1, 3])
def test_the_background_must_be_one_of_the_classes(background):
    with pytest.raises(ParameterError, match=f"background must be one of 3 classes, got {background}"):
        fuse(torch.zeros(1, 3, 8, 8), torch.zeros(1, 8, 8), background=background)
