"""The method vote: what takes part, what is reported, and inputs without an answer."""

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from objloc_ros.errors import InputError, ParameterError
from objloc_ros.methods import vote as module
from objloc_ros.methods.options import VoteOptions
from objloc_ros.methods.patch_object import PatchObject
from objloc_ros.methods.vote import spectral_candidates, vote_objects
from objloc_ros.types import Features

sys.path.insert(0, str(Path(__file__).parent))
from planted_scene import GRID, SCENE, as_map, planted

TWO = as_map("0000000000 0111000000 0111000000 0111000220 0000000220 0000000000")


def features_of(label_map, **options):
    keys = planted(label_map, **options)
    attention = torch.from_numpy((label_map.ravel() > 0).astype(np.float32) + 0.1).expand(1, 6, -1)
    return Features(keys, keys, keys, attention / attention.sum(2, keepdim=True), label_map.shape)


def test_the_object_is_elected():
    label_map = (TWO == 1).astype(int)
    ((found,),) = vote_objects(features_of(label_map))
    np.testing.assert_array_equal(found.mask.numpy(), label_map > 0)
    assert label_map.ravel()[found.seed]
    assert 0.5 < found.score <= 1
    assert not found.degenerate


def test_parts_of_the_winner_are_objects_of_their_own():
    both = (TWO > 0).astype(int)
    for candidates in ("clusters", "all"):
        (objects,) = vote_objects(features_of(both), candidates=candidates)
        areas = [int(found.mask.sum()) for found in objects]
        assert areas == sorted(areas, reverse=True)
        assert len({found.score for found in objects}) == 1
        for found in objects:
            assert (both[found.mask.numpy()] == 1).all()
    (objects,) = vote_objects(features_of(both), candidates="clusters")
    assert len(objects) == 2


def test_specks_beside_the_largest_part_are_left_out():
    wide = np.zeros((20, 30), int)
    wide[5:12, 5:14] = wide[16, 25] = 1
    (objects,) = vote_objects(features_of(wide), candidates="clusters")
    assert [int(found.mask.sum()) for found in objects] == [63]


def test_undetermined_objects_take_no_part(monkeypatch):
    label_map = (TWO == 1).astype(int)
    features = features_of(label_map)
    wrong = PatchObject(torch.from_numpy(label_map == 0), 0, degenerate=True)
    expected = vote_objects(features, candidates="clusters")[0][0]
    monkeypatch.setattr(module, "_run_methods", lambda features: [[wrong] * 50])
    (found, *_) = vote_objects(features)[0]
    assert torch.equal(found.mask, expected.mask)
    assert found.score == expected.score


def test_a_batch_is_answered_like_its_images():
    one, other = features_of(TWO), features_of(TWO, seed=1)
    keys, attention = (torch.cat([getattr(of, name) for of in (one, other)]) for name in ("keys", "cls_attention"))
    both = Features(keys, keys, keys, attention, one.grid)
    together = vote_objects(both)
    for objects, features in zip(together, (one, other), strict=True):
        for found, expected in zip(objects, vote_objects(features)[0], strict=True):
            assert torch.equal(found.mask, expected.mask)
            assert found.score == expected.score


def test_clusters_come_for_each_number_and_cover_the_grid():
    (masks,) = spectral_candidates(planted(SCENE), GRID)
    assert masks.shape == (2 + 3 + 4, *GRID)
    for start, k in ((0, 2), (2, 3), (5, 4)):
        np.testing.assert_array_equal(masks[start : start + k].sum(0), np.ones(GRID))
    np.testing.assert_array_equal(masks[5:].argmax(0), SCENE)  # in the order of first patches


def test_fewer_clusters_than_asked_for_give_fewer_masks(monkeypatch):
    sides = np.repeat([-1.0, 1.0], 30)
    monkeypatch.setattr(
        module, "smallest_eigenpairs", lambda graph, k: SimpleNamespace(vectors=np.tile(sides, (1, k, 1)))
    )
    (masks,) = spectral_candidates(planted(TWO), TWO.shape, clusters=(4,))
    np.testing.assert_array_equal(masks.reshape(2, -1), [sides < 0, sides > 0])


@pytest.mark.parametrize("grid", [(1, 1), (1, 2), (3, 1)])
def test_small_grids_have_clusters_for_numbers_up_to_their_patches(grid):
    keys = torch.randn(1, grid[0] * grid[1], 8, generator=torch.Generator().manual_seed(0))
    (masks,) = spectral_candidates(keys, grid)
    assert masks.shape == (sum(k for k in (2, 3, 4) if k <= grid[0] * grid[1]), *grid)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_features_without_differences_have_no_answer(value):
    keys = torch.full((1, 12, 5), value)
    assert len(spectral_candidates(keys, (3, 4))[0]) == 0
    ((found,),) = vote_objects(
        Features(keys, keys, keys, torch.full((1, 6, 12), 1 / 12), (3, 4)), candidates="clusters"
    )
    assert found.degenerate
    assert not found.mask.any()


def test_one_patch_has_no_answer():
    keys = torch.ones(1, 1, 5)
    ((found,),) = vote_objects(Features(keys, keys, keys, torch.ones(1, 6, 1), (1, 1)))
    assert found.degenerate or found.mask.all()


def test_senseless_input_is_refused():
    with pytest.raises(InputError, match="NaN"):
        spectral_candidates(torch.full((1, 12, 5), torch.nan), (3, 4))
    with pytest.raises(InputError, match="grid"):
        spectral_candidates(torch.ones(1, 11, 5), (3, 4))
    with pytest.raises(ParameterError, match="candidates must be one of all, clusters; got 'some'"):
        VoteOptions(candidates="some")
