"""The discovery methods on features made by hand, against the literal formulations' rules one by one."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from objloc_ros.methods import maskcut as maskcut_module
from objloc_ros.methods.deep_spectral import SpectralResult, deep_spectral
from objloc_ros.methods.dino_seg import dino_seg
from objloc_ros.methods.lost import degrees, lost
from objloc_ros.methods.maskcut import maskcut
from objloc_ros.methods.patch_object import separation
from objloc_ros.methods.tokencut import tokencut
from objloc_ros.ops.ncut import Cut

sys.path.insert(0, str(Path(__file__).parent))
from planted_scene import GRID, SCENE, as_map, planted


def single(method):
    return lambda features: method(features, GRID)


SINGLE = {
    "lost": single(lost),
    "tokencut": single(tokencut),
    "deep_spectral": lambda features: [each.object() for each in deep_spectral(features, GRID)],
}


@pytest.mark.parametrize("method", SINGLE)
@pytest.mark.parametrize("label", [1, 2, 3])
def test_a_lone_object_is_found_exactly(method, label):
    (found,) = SINGLE[method](planted(np.where(label == SCENE, label, 0)))
    np.testing.assert_array_equal(found.mask.numpy(), label == SCENE)
    assert not found.degenerate
    assert found.mask.flatten()[found.seed]


@pytest.mark.parametrize("method", [*SINGLE, "maskcut"])
def test_images_of_a_batch_do_not_mix(method):
    maps = [np.where(label == SCENE, label, 0) for label in (1, 2, 3)]
    features = torch.cat([planted(each, seed=i) for i, each in enumerate(maps)])
    run = SINGLE.get(method, lambda f: [objects[0] for objects in maskcut(f, GRID)])
    for i, together in enumerate(run(features)):
        (alone,) = run(features[i : i + 1])
        assert torch.equal(together.mask, alone.mask)
        assert together.seed == alone.seed


def test_maskcut_finds_one_object_after_the_other():
    (found,) = maskcut(planted(SCENE), GRID, n_masks=3)
    masks = {tuple(one.mask.flatten().tolist()) for one in found}
    assert masks == {tuple((label == SCENE).ravel().tolist()) for label in (1, 2, 3)}


def scripted(monkeypatch, sides):
    """Let MaskCut cut what the test says: maps in which 1 is the seed's side and 2 the seed."""
    cuts = []
    for side in map(as_map, sides):
        seed = int((side == 2).ravel().argmax())
        vector = np.where(side.ravel() > 0, 1.0, -1.0)
        vector[seed] = 2.0
        cuts.append([Cut(vector, side.ravel() > 0, seed, empty=False, degenerate=False)])
    removed = []

    def cut(graph):
        removed.append(None if graph.active is None else (graph.active[0] == 0).reshape(as_map(sides[0]).shape))
        return cuts[min(len(removed), len(cuts)) - 1]

    monkeypatch.setattr(maskcut_module, "bipartition", cut)
    return removed


def run_scripted(sides, n_masks):
    shape = as_map(sides[0]).shape
    (found,) = maskcut(torch.randn(1, shape[0] * shape[1], 8), shape, n_masks=n_masks)
    return [one.mask.numpy().astype(int) for one in found]


def test_the_seeds_component_is_the_object(monkeypatch):
    sides = ["01100 02100 00010 00001"]
    scripted(monkeypatch, sides)
    (mask,) = run_scripted(sides, 1)
    np.testing.assert_array_equal(mask, as_map("01100 01100 00000 00000"))


@pytest.mark.parametrize(
    ("side", "object_"),
    [
        ("11111 12000 11011 11011", "00000 00111 00100 00100"),  # all four corners: the other side
        ("11000 12000 00000 00001", "11000 11000 00000 00000"),  # two corners are not enough
    ],
)
def test_a_side_with_three_corners_is_the_ground(side, object_, monkeypatch):
    scripted(monkeypatch, [side])
    (mask,) = run_scripted([side], 1)
    np.testing.assert_array_equal(mask, as_map(object_))


def test_a_rejected_object_paints_nothing_and_comes_back_in_the_next_round(monkeypatch):
    """Round 1 overlaps round 0 and is dropped; round 2 sees the same graph, compares with nothing, and takes it."""
    sides = ["00000 02110 01110 00000", "00000 02111 01110 00000"]
    removed = scripted(monkeypatch, sides)
    first, second, third = run_scripted(sides, 3)
    assert first.sum() == 6
    assert second.sum() == 0
    np.testing.assert_array_equal(third, as_map("00000 00001 00000 00000"))  # less what is the first one's
    assert len(removed) == 2  # the unchanged graph is not cut again
    np.testing.assert_array_equal(removed[1], as_map(sides[0]) > 0)


def test_small_objects_are_dropped_after_the_first(monkeypatch):
    grid = np.zeros((10, 20), int)
    big, small = grid.copy(), grid.copy()
    big[2:6, 2:6], big[2, 2] = 1, 2
    small[8, 10:12], small[8, 10] = 1, 2  # 1 % of the grid
    texts = [" ".join("".join(map(str, row)) for row in each) for each in (small, big, small)]
    scripted(monkeypatch, texts)
    sizes = [mask.sum() for mask in run_scripted(texts, 3)]
    assert sizes == [2, 16, 0]


def test_lost_takes_the_first_of_tied_degrees_and_few_voters():
    """Two pairs of patches, each alike: degrees tie at 1, the first patch in raster order is the seed."""
    features = torch.tensor([[[-1.0, 0, 0], [-1, 0, 0], [0, -1, 0], [0, -1, 0], [1, 1, 1], [1, 1, 2]]])
    assert degrees(torch.nn.functional.normalize(features, dim=2)).tolist() == [[1, 1, 1, 1, 1, 1]]
    for k in (1, 2, 100):
        (found,) = lost(features, (2, 3), k_patches=k)
        assert found.seed == 0
        assert found.mask.int().tolist() == [[1, 1, 0], [0, 0, 0]]


def test_the_segments_largest_part_joins_over_corners():
    segment = torch.from_numpy(as_map("1000 0100 0011 0000 1100") > 0)
    vectors = torch.stack([torch.ones(20), torch.arange(20.0)])
    found = SpectralResult(torch.zeros(2), vectors, segment, degenerate=False).object()
    assert found.mask.int().tolist() == [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert found.seed == 11


def test_an_empty_segment_is_the_whole_image_unless_nothing_is_determined():
    empty = torch.zeros(2, 2, dtype=torch.bool)
    vectors = torch.zeros(2, 4)
    assert SpectralResult(torch.zeros(2), vectors, empty, degenerate=False).object().mask.all()
    nothing = SpectralResult(torch.zeros(2), vectors, empty, degenerate=True).object()
    assert nothing.degenerate
    assert not nothing.mask.any()


ATTENTION = as_map("9800 7000 0005 0001") / 30.0


def test_dino_seg_keeps_the_mass_and_the_largest_component():
    attention = torch.from_numpy(np.stack([np.full((4, 4), 1 / 16), ATTENTION])).float().view(1, 2, 16)
    (found,) = dino_seg(attention, (4, 4), head=1, mass=0.9)
    assert found.mask.int().tolist() == [[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert found.seed == 0
    (narrow,) = dino_seg(attention, (4, 4), head=1, mass=0.25)
    assert narrow.mask.int().sum() == 1
    (flat,) = dino_seg(attention, (4, 4), head=0)
    assert flat.degenerate


@pytest.mark.parametrize(
    ("attention", "expected"),
    [
        ("9900 0000 0009", "1100 0000 0000"),  # two components: the last one is never looked at
        ("0090 0000 9900", "0010 0000 0000"),  # so that the smaller one is taken here
        ("0990 0990 0000", "1001 1001 1111"),  # a single one: the ground
    ],
)
def test_dino_seg_can_choose_as_the_original_does(attention, expected):
    rows = torch.from_numpy(as_map(attention)).float().view(1, 1, -1)
    (found,) = dino_seg(rows, (3, 4), head=0, mass=0.99, compat=True)
    np.testing.assert_array_equal(found.mask.int().numpy(), as_map(expected))


@pytest.mark.parametrize(
    ("inside", "outside", "score"),
    [
        ([[1.0, 0]] * 3, [[-2.0, 0]] * 5, 1.0),  # uniform, and the rest its opposite
        ([[1.0, 0]] * 3, [[0, 3.0]] * 5, 0.5),  # uniform, unrelated to the rest
        ([[1.0, 0]] * 3, [[5.0, 0]] * 5, 0.0),  # as like the rest as itself
        ([[1.0, 0], [-1, 0]], [[1.0, 0]] * 6, 0.0),  # below nothing there is nothing
        ([[1.0, 0], [0, 1.0]], [[0.0, 0.0]] * 6, 0.25),
        ([[1.0, 0]] * 8, [], 0.0),  # no rest to stand out from
    ],
)
def test_separation(inside, outside, score):
    features = torch.tensor(inside + outside)
    mask = torch.arange(len(features)) < len(inside)
    assert separation(features, [mask.view(2, -1)])[0] == pytest.approx(score, abs=1e-6)
    assert separation(features, []).shape == (0,)
