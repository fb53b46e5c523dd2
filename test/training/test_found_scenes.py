"""FOUND's head from composed scenes: what the labels are, what the loss prefers, and that it learns whole objects."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from detector_toy import ColourBackbone

from objloc_ros.errors import ParameterError
from objloc_ros.methods.found_network import background_mask, head_logits
from objloc_ros.scenes.compose import Bank
from objloc_ros.training import found_scenes
from objloc_ros.training.found_scenes import (
    LabelledKeys,
    SceneHeadTraining,
    encode_scenes,
    find_covered,
    fit_head,
    overlap_loss,
)
from objloc_ros.training.views import SceneImages

WHITE, BLACK, GREEN = (1.0, 1.0, 1.0), (-1.0, -1.0, -1.0), (-0.5, 0.5, -0.5)


@pytest.fixture
def small_views(monkeypatch):
    monkeypatch.setattr(found_scenes, "SHORT_SIDES", (16, 24, 48))


@pytest.fixture(scope="module")
def bank():
    return Bank(3, backgrounds=3, sprites=4, side=64)


def two_toned_views(count=12, grid=(6, 8)):
    """Views of one object, half white and half black, on green."""
    keys, labels = [], []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        y, x = rng.integers(0, 3, 2)
        view = np.full((*grid, 3), GREEN) + rng.normal(0, 0.05, (*grid, 3))
        covered = np.zeros(grid, bool)
        view[y : y + 3, x : x + 2], view[y : y + 3, x + 2 : x + 4] = WHITE, BLACK
        covered[y : y + 3, x : x + 4] = True
        colour = view.reshape(-1, 3)
        keys.append(np.concatenate([colour, np.abs(colour.mean(1, keepdims=True))], axis=1))
        labels.append(covered.ravel())
    covered = torch.tensor(np.stack(labels))
    return LabelledKeys(torch.tensor(np.stack(keys)).half(), covered, covered, grid)


def test_holes_of_objects_are_filled_but_not_the_gap_between_two():
    identities = np.zeros((16, 40), np.uint8)
    identities[:, :24] = 1
    identities[2:14, 8:16] = 0  # a hole in the middle of the first object
    identities[:8, 35:] = 2  # 40 of 64 pixels of the upper right patch
    identities[8:, 36:] = 3  # 32 of 64 pixels below
    expected = [1, 1, 1, 0, 1, 1, 1, 1, 0, 0]
    np.testing.assert_array_equal(find_covered(identities, 8), np.array(expected, bool))


def test_nothing_is_covered_in_an_empty_view():
    assert not find_covered(np.zeros((16, 16), np.uint8), 8).any()


def test_overlap_loss_is_one_minus_the_mean_soft_iou():
    rng = np.random.default_rng(0)
    logits, coverage = rng.normal(0, 2, (3, 10)), rng.random((3, 10))
    expected = []
    for mask, covered in zip(1 / (1 + np.exp(-logits)), coverage, strict=True):
        shared = sum(m * c for m, c in zip(mask, covered, strict=True))
        union = sum(m + c - m * c for m, c in zip(mask, covered, strict=True))
        expected.append(1 - (shared + 1) / (union + 1))
    actual = overlap_loss(torch.tensor(logits), torch.tensor(coverage)).item()
    assert actual == pytest.approx(np.mean(expected))


def test_the_head_marks_both_tones_of_an_object():
    views = two_toned_views()
    weight, bias = fit_head([views], SceneHeadTraining(steps=120, batch=6))
    assert weight.shape == (1, 4, 1, 1)
    assert bias.shape == (1,)
    unseen = two_toned_views(20)
    logits = head_logits(unseen.keys.float()[12:], weight, bias, unseen.grid).flatten(1)
    assert torch.equal(logits > 0, unseen.covered[12:])


def test_what_is_discovered_draws_the_head_along():
    views = two_toned_views()
    settings = SceneHeadTraining(steps=60, batch=6)
    logits = [
        head_logits(views.keys.float(), *fit_head([replace(views, discovered=labels)], settings), views.grid)
        for labels in (torch.zeros_like(views.discovered), torch.ones_like(views.discovered))
    ]
    assert (logits[1] > logits[0]).float().mean() > 0.9


def test_the_foreground_is_the_complement_of_the_discovered_background(bank, small_views):
    backbone = ColourBackbone()
    views = encode_scenes(backbone, bank, SceneHeadTraining(scenes=3))
    for i, (size, side) in enumerate(zip(views, (16, 24, 48), strict=True)):
        width = 8 * size.grid[1]
        scene = SceneImages(bank, seed=0, count=3, size=(side, width), sizes=found_scenes.OBJECT_SIZES)[i]
        features = backbone((torch.from_numpy(scene).permute(2, 0, 1)[None] / 255 - 0.5) / 0.25)
        background = background_mask(features.keys, features.cls_attention, features.grid, n_heads=1)
        assert torch.equal(size.discovered, ~background.flatten(1))


def test_scale_and_offset_of_channels_do_not_change_what_is_learned():
    views = two_toned_views()
    scale, offset = torch.tensor([4.0, 0.25, 1.0, 2.0]), torch.tensor([0.5, -2.0, 3.0, 0.0])
    changed = replace(views, keys=(views.keys.float() * scale + offset).half())
    settings = SceneHeadTraining(steps=20, batch=4)
    logits = [head_logits(some.keys.float(), *fit_head([some], settings), some.grid) for some in (views, changed)]
    torch.testing.assert_close(*logits, atol=0.05, rtol=0.05)


def test_equal_settings_give_equal_heads_and_every_step_is_told(bank, small_views):
    settings = SceneHeadTraining(scenes=6, steps=5, batch=2)
    told = []
    runs = [
        fit_head(encode_scenes(ColourBackbone(), bank, settings), settings, lambda step, losses: told.append(step))
        for _ in range(2)
    ]
    assert torch.equal(runs[0][0], runs[1][0])
    assert torch.equal(runs[0][1], runs[1][1])
    assert told == [1, 2, 3, 4, 5] * 2
    other = SceneHeadTraining(scenes=6, steps=5, batch=2, seed=1)
    assert not torch.equal(runs[0][0], fit_head(encode_scenes(ColourBackbone(), bank, other), other)[0])


def test_views_of_each_size_are_encoded_once(bank, small_views, monkeypatch):
    monkeypatch.setattr(found_scenes, "ENCODED_AT_ONCE", 2)
    done = []
    views = encode_scenes(ColourBackbone(), bank, SceneHeadTraining(scenes=8), done.append)
    assert [size.grid for size in views] == [(2, 3), (3, 4), (6, 8)]
    assert [len(size.keys) for size in views] == [3, 3, 2]
    assert done == [2, 3, 5, 6, 8]
    for size in views:
        assert size.keys.dtype == torch.float16
        assert size.keys.shape == (*size.covered.shape, 3)
        assert size.covered.dtype == size.discovered.dtype == torch.bool
        assert size.discovered.shape == size.covered.shape


def test_encoding_leaves_the_backbone_alone(bank, small_views):
    backbone = ColourBackbone(gain=2.0)
    encode_scenes(backbone, bank, SceneHeadTraining(scenes=3))
    assert backbone.vit.gain.item() == 2


def test_a_patch_that_does_not_fit_the_views_is_refused(bank):
    backbone = ColourBackbone()
    backbone.patch = 14
    with pytest.raises(ParameterError, match="must divide views of 128 pixels, got 14"):
        encode_scenes(backbone, bank, SceneHeadTraining(scenes=3))


@pytest.mark.parametrize(
    ("setting", "match"), [({"scenes": 2}, "scenes must"), ({"steps": 0}, "steps must"), ({"batch": 0}, "batch must")]
)
def test_senseless_settings_are_refused(setting, match):
    with pytest.raises(ParameterError, match=match):
        SceneHeadTraining(**setting)
