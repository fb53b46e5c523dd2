"""What the discovery methods say to input that they cannot use, and to input of unusual kinds and sizes."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from objloc_ros.errors import InputError, ParameterError
from objloc_ros.methods.deep_spectral import deep_spectral
from objloc_ros.methods.dino_seg import dino_seg
from objloc_ros.methods.lost import lost
from objloc_ros.methods.maskcut import maskcut
from objloc_ros.methods.patch_object import PatchObject
from objloc_ros.methods.tokencut import tokencut

sys.path.insert(0, str(Path(__file__).parent))
from planted_scene import GRID, SCENE, planted

FEATURES = torch.randn(1, 12, 6, generator=torch.Generator().manual_seed(0))
CALLS = {
    "lost": lambda f, g: lost(f, g),
    "tokencut": lambda f, g: tokencut(f, g),
    "tokencut weighted": lambda f, g: tokencut(f, g, binary=False),
    "maskcut": lambda f, g: [one for objects in maskcut(f, g) for one in objects],
    "deep_spectral": lambda f, g: [each.object() for each in deep_spectral(f, g)],
}


@pytest.mark.parametrize("method", CALLS)
@pytest.mark.parametrize(
    ("features", "words"),
    [
        (FEATURES[:, :11], r"\[B, 12, C\] for grid \(3, 4\), got \(1, 11, 6\)"),
        (FEATURES[0], r"got \(12, 6\)"),
        (FEATURES.index_fill(1, torch.tensor([3]), float("nan")), "NaN"),
        (FEATURES.index_fill(1, torch.tensor([3]), float("inf")), "infinite"),
        (FEATURES.index_fill(1, torch.tensor([3]), 1e30), "too large"),
    ],
)
def test_unusable_features_are_one_clear_error(method, features, words):
    with pytest.raises(InputError, match=words):
        CALLS[method](features, (3, 4))


@pytest.mark.parametrize("method", CALLS)
@pytest.mark.parametrize(
    "features",
    [torch.ones(2, 12, 6), torch.zeros(2, 12, 6), FEATURES[:, :1].expand(2, 12, 6)],
    ids=["ones", "zeros", "equal"],
)
def test_features_without_structure_have_no_determined_object(method, features):
    for found in CALLS[method](features, (3, 4)):
        assert found.degenerate
        assert found.box(8, (24, 32)) is None or method == "lost"


@pytest.mark.parametrize("method", CALLS)
def test_half_precision_is_taken_like_single(method):
    for one, other in zip(
        CALLS[method](FEATURES.half(), (3, 4)), CALLS[method](FEATURES.half().float(), (3, 4)), strict=True
    ):
        assert torch.equal(one.mask, other.mask)


@pytest.mark.parametrize("method", CALLS)
@pytest.mark.parametrize(("n", "grid"), [(1, (1, 1)), (2, (1, 2)), (3, (3, 1)), (5, (1, 5))])
def test_tiny_grids_have_an_answer_inside_the_image(method, n, grid):
    for found in CALLS[method](FEATURES[:, :n], grid):
        box = found.box(8, (8 * grid[0] - 5, 8 * grid[1] - 5))
        assert box is None or (0 <= box[0] < box[2] <= 8 * grid[1] - 5 and 0 <= box[1] < box[3] <= 8 * grid[0] - 5)
        if n == 1 and method != "lost":
            assert found.degenerate


@pytest.mark.parametrize("method", CALLS)
def test_some_zero_rows_are_no_obstacle(method):
    features = planted(SCENE)
    features[0, :9] = 0
    for found in CALLS[method](features, GRID):
        assert found.mask.shape == GRID


@pytest.mark.parametrize("method", CALLS)
def test_an_empty_batch_is_an_empty_answer(method):
    assert CALLS[method](FEATURES[:0], (3, 4)) == []


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: lost(FEATURES, (3, 4), k_patches=0), "k_patches must be at least 1, got 0"),
        (lambda: tokencut(FEATURES, (3, 4), tau=1.5), r"tau must lie in \[-1, 1\], got 1.5"),
        (lambda: tokencut(FEATURES, (3, 4), eps=0.0), "eps must lie between 0 and 1, both excluded, got 0.0"),
        (lambda: tokencut(FEATURES, (3, 4), tau=float("nan")), "tau .* got nan"),
        (lambda: maskcut(FEATURES, (3, 4), n_masks=0), "n_masks must be at least 1, got 0"),
        (lambda: maskcut(FEATURES, (3, 4), tau=-0.1), r"tau must lie in \[0, 1\], got -0.1"),
        (lambda: deep_spectral(FEATURES, (3, 4), n_vectors=1), "n_vectors must be at least 2, got 1"),
        (lambda: dino_seg(torch.rand(1, 3, 12), (3, 4), head=3), "head must be below the number of heads 3, got 3"),
        (lambda: dino_seg(torch.rand(1, 3, 12), (3, 4), head=-1), "head must be at least 0, got -1"),
        (lambda: dino_seg(torch.rand(1, 3, 12), (3, 4), head=0, mass=1.0), "mass .* got 1.0"),
    ],
)
def test_options_out_of_range_are_named(call, words):
    with pytest.raises(ParameterError, match=words):
        call()


@pytest.mark.parametrize(
    "attention", [torch.rand(3, 12), torch.rand(1, 3, 11), -torch.ones(1, 3, 12), torch.full((1, 3, 12), float("nan"))]
)
def test_unusable_attention_is_one_clear_error(attention):
    with pytest.raises(InputError):
        dino_seg(attention, (3, 4), head=0)


def test_fewer_eigenvectors_where_there_are_fewer_patches():
    (found,) = deep_spectral(FEATURES[:, :3], (1, 3), n_vectors=5)
    assert found.eigenvalues.shape == (3,)
    assert found.eigenvectors.shape == (3, 3)


def test_boxes_are_clipped_to_the_unpadded_image():
    mask = torch.zeros(3, 4, dtype=torch.bool)
    mask[1:, 2:] = True
    assert PatchObject(mask, 6).box(16, (40, 60)) == (32, 16, 60, 40)
    assert PatchObject(mask, 6).box(16, (40, 32)) is None  # all of it lies in the padding


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("method", CALLS)
def test_a_gpu_finds_the_same(method):
    features = torch.cat([planted(SCENE, seed=i) for i in range(3)])
    for here, there in zip(CALLS[method](features, GRID), CALLS[method](features.cuda(), GRID), strict=True):
        assert there.mask.device.type == "cpu"
        assert torch.equal(here.mask, there.mask)
        assert here.seed == there.seed


@pytest.mark.parametrize("method", ["lost", "tokencut", "maskcut", "deep_spectral"])
def test_the_answer_does_not_depend_on_the_number_of_threads(method):
    label_map = np.kron(SCENE, np.ones((6, 6), int))
    features = planted(label_map, noise=0.4, channels=64)
    before = torch.get_num_threads()
    try:
        masks = []
        for threads in (1, 2, 1):
            torch.set_num_threads(threads)
            masks.append([one.mask for one in CALLS[method](features, label_map.shape)])
    finally:
        torch.set_num_threads(before)
    for one, two, again in zip(*masks, strict=True):
        assert torch.equal(one, two)
        assert torch.equal(one, again)
