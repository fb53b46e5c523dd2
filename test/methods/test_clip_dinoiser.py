from __future__ import annotations

import math

import pytest
import torch

from objloc_ros.backbones.clip import build_clip_image
from objloc_ros.errors import InputError, ParameterError
from objloc_ros.methods.clip_dinoiser import (
    DinoiserHead,
    apply_background,
    dino_correlations,
    pooled,
    probabilities,
)

WIDTH = 12


def randn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def head() -> DinoiserHead:
    torch.manual_seed(0)
    return DinoiserHead(WIDTH).requires_grad_(False)


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))


def projected(head: DinoiserHead, feature_map: torch.Tensor, y: int, x: int) -> torch.Tensor:
    """The 3x3 convolution at one patch of [h, w, W]; beyond the border the nearest patch is taken again."""
    height, width, _ = feature_map.shape
    total = head.obj_proj.bias.clone()
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            inside = feature_map[min(max(y + dy, 0), height - 1), min(max(x + dx, 0), width - 1)]
            total += head.obj_proj.weight[:, :, dy + 1, dx + 1] @ inside
    return total


@pytest.mark.parametrize("grid", [(3, 4), (1, 5), (1, 1)])
def test_head_agrees_with_loops(head: DinoiserHead, grid: tuple[int, int]) -> None:
    middle = randn(1, 2, grid[0] * grid[1], WIDTH)
    correlations, logits = head(middle, grid)
    assert logits.shape == (2, *grid)
    for image in range(2):
        feature_map = middle[image].unflatten(0, grid)
        cells = [(y, x) for y in range(grid[0]) for x in range(grid[1])]
        vectors = [projected(head, feature_map, y, x) for y, x in cells]
        for p, a in enumerate(vectors):
            for q, b in enumerate(vectors):
                assert correlations[image, p, q].item() == pytest.approx(max(cosine(a, b), 0), abs=1e-5)
        for y, x in cells:
            unit = feature_map[y, x] / feature_map[y, x].norm()
            expected = float(head.bkg_decoder.weight.flatten() @ unit + head.bkg_decoder.bias)
            assert logits[image, y, x].item() == pytest.approx(expected, abs=1e-5)


def test_correlations_are_cut_at_zero_and_include_the_patch_itself(head: DinoiserHead) -> None:
    head.obj_proj.bias.zero_()
    middle = randn(2, 1, 2, WIDTH)
    middle[0, 1] = -4 * middle[0, 0]
    head.obj_proj.weight[:, :, :, [0, 2]] = 0  # each patch alone
    correlations, _ = head(middle, (1, 2))
    torch.testing.assert_close(correlations[0], torch.eye(2))


def test_the_ground_does_not_depend_on_the_length_of_features(head: DinoiserHead) -> None:
    middle = randn(3, 1, 6, WIDTH)
    torch.testing.assert_close(head(middle, (2, 3))[1], head(50 * middle, (2, 3))[1])


def test_a_batch_equals_its_images_one_by_one(head: DinoiserHead) -> None:
    middle, features, text = randn(4, 3, 6, WIDTH), randn(5, 3, 6, 7), randn(6, 4, 7)

    def run(start: int, stop: int) -> torch.Tensor:
        correlations, logits = head(middle[start:stop], (2, 3))
        maps = probabilities(pooled(features[start:stop], correlations), text).unflatten(2, (2, 3))
        return apply_background(maps, logits <= 0, delta=0.999)

    together = run(0, 3)
    torch.testing.assert_close(together, torch.cat([run(i, i + 1) for i in range(3)]))
    assert (together[:, 0] == 1).any()
    assert (together[:, 0] < 1).any()


@pytest.mark.parametrize(("shape", "grid"), [((1, 6, WIDTH), (2, 4)), ((1, 6, WIDTH + 1), (2, 3))])
def test_head_refuses_shapes_that_disagree(head: DinoiserHead, shape: tuple, grid: tuple) -> None:
    with pytest.raises(InputError, match="do not fit a grid of 2x"):
        head(torch.zeros(shape), grid)


def test_head_reads_the_features_of_the_tower() -> None:
    torch.manual_seed(0)
    tower = build_clip_image("tiny_clip").eval()
    with torch.no_grad():
        tokens = tower.tokens(randn(7, 2, 3, 16, 24))
        correlations, logits = DinoiserHead(tower.spec.width)(tokens.middle, tokens.grid)
    assert correlations.shape == (2, 6, 6)
    assert logits.shape == (2, 2, 3)


def test_dino_correlations_are_cosines() -> None:
    values = randn(8, 2, 5, 6)
    correlations = dino_correlations(values)
    for image in range(2):
        for p in range(5):
            for q in range(5):
                expected = cosine(values[image, p], values[image, q])
                assert correlations[image, p, q].item() == pytest.approx(expected, abs=1e-6)
    assert correlations.min() < 0


def test_pooling_is_a_mean_weighted_by_the_correlations_from_gamma_on() -> None:
    features = torch.tensor([[[2.0, 0.0], [0.0, 4.0], [10.0, 10.0]]])
    correlations = torch.tensor([[[1.0, 0.5, 0.25], [0.5, 1.0, 0.0], [0.24, 0.0, 1.0]]])
    expected = torch.tensor(
        [[[(2 + 2.5) / 1.75, (2 + 2.5) / 1.75], [1 / 1.5, 4 / 1.5], [10.0, 10.0]]]  # 0.25 counts, 0.24 does not
    )
    torch.testing.assert_close(pooled(features, correlations, gamma=0.25), expected)
    assert correlations[0, 2, 0] == torch.tensor(0.24)


def test_pooling_agrees_with_loops() -> None:
    features, correlations = randn(9, 2, 7, 3), dino_correlations(randn(10, 2, 7, 4))
    result = pooled(features, correlations)
    for image in range(2):
        for p in range(7):
            total, weight = torch.zeros(3), 0.0
            for q in range(7):
                c = correlations[image, p, q].item()
                if c >= 0.2:
                    total, weight = total + c * features[image, q], weight + c
            torch.testing.assert_close(result[image, p], total / (weight + 1e-6))
    assert not torch.allclose(result, pooled(features, correlations, gamma=0.0))


def test_pooling_over_nothing_is_zero_and_not_nan() -> None:
    assert pooled(torch.ones(1, 2, 3), torch.zeros(1, 2, 2)).tolist() == [[[0.0] * 3] * 2]


def test_pooling_refuses_what_does_not_fit() -> None:
    with pytest.raises(InputError, match=r"correlations \(1, 2, 3\) do not fit"):
        pooled(torch.ones(1, 2, 3), torch.zeros(1, 2, 3))
    for gamma in (-0.1, 1.1, float("nan")):
        with pytest.raises(ParameterError, match=rf"gamma must lie in \[0, 1\], got {gamma}"):
            pooled(torch.ones(1, 2, 3), torch.zeros(1, 2, 2), gamma=gamma)


def test_probabilities_are_a_softmax_of_a_hundred_cosines() -> None:
    features, text = randn(11, 2, 4, 5), randn(12, 3, 5)
    features[:, 1:] = 3 * text + 0.02 * features[:, 1:]  # near texts, so that others are nearly impossible
    result = probabilities(features, text)
    assert result.shape == (2, 3, 4)
    for image in range(2):
        for p in range(4):
            odds = [math.exp(100 * (cosine(features[image, p], t) - 1)) for t in text]
            torch.testing.assert_close(result[image, :, p], torch.tensor(odds) / sum(odds), rtol=1e-3, atol=1e-6)
    with pytest.raises(InputError, match="is not as wide as"):
        probabilities(features, torch.ones(3, 4))


def test_the_ground_takes_uncertain_patches_only() -> None:
    maps = torch.tensor([[[0.985, 0.5, 0.5, 0.01]], [[0.015, 0.5, 0.5, 0.99]]])[None]  # [1, 2 classes, 1, 4]
    background = torch.tensor([[[True, True, False, True]]])
    result = apply_background(maps, background)
    assert result[0, 0, 0].tolist() == pytest.approx([1.0, 1.0, 0.5, 0.01])  # 0.99 is not below delta
    assert torch.equal(result[0, 1], maps[0, 1])
    assert maps[0, 0, 0].tolist() == pytest.approx([0.985, 0.5, 0.5, 0.01])
    other = apply_background(maps, background, index=1, delta=0.6)
    assert other[0, 1, 0].tolist() == pytest.approx([0.015, 1.0, 0.5, 0.99])
    assert torch.equal(other[0, 0], maps[0, 0])


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"background": torch.ones(1, 2, 4, dtype=torch.bool)}, InputError, r"background \(1, 2, 4\) does not fit"),
        ({"background": torch.ones(2, 3, dtype=torch.bool)}, InputError, "does not fit"),
        ({"index": 5}, ParameterError, r"index must lie in \[0, 4\] for 5 classes, got 5"),
        ({"index": -1}, ParameterError, "got -1"),
        ({"delta": 1.5}, ParameterError, r"delta must lie in \[0, 1\], got 1.5"),
    ],
)
def test_senseless_backgrounds_are_refused(change: dict, error: type, match: str) -> None:
    arguments = {"background": torch.ones(1, 2, 3, dtype=torch.bool)} | change
    with pytest.raises(error, match=match):
        apply_background(torch.ones(1, 5, 2, 3), **arguments)
