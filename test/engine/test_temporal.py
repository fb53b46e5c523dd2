"""Discovery over video: what is known is carried over, what is new waits a frame, what fades is forgotten."""

import numpy as np
import pytest
import torch

from objloc_ros.engine import temporal
from objloc_ros.engine.temporal import Memory
from objloc_ros.methods.patch_object import PatchObject

GRID = (8, 10)


def frame(*objects, noise=0.05, seed=0):
    """Features [N, C] of a ground with objects (direction, row, column, side), and the objects' masks."""
    generator = torch.Generator().manual_seed(seed)
    directions = torch.linalg.qr(torch.randn(16, 16, generator=torch.Generator().manual_seed(9))).Q
    labels = torch.zeros(GRID, dtype=torch.long)
    masks = []
    for direction, row, column, side in objects:
        mask = torch.zeros(GRID, dtype=torch.bool)
        mask[row : row + side, column : column + side] = True
        labels[mask] = direction
        masks.append(mask)
    return directions[labels.flatten()] + noise * torch.randn(80, 16, generator=generator), masks


def found(*masks):
    return [PatchObject(mask, int(mask.flatten().int().argmax())) for mask in masks]


def answers(memory, features, *masks):
    return [one.mask for one in memory.update(features, GRID, found(*masks))]


def same(got, expected):
    return len(got) == len(expected) and all(any(torch.equal(a, b) for b in expected) for a in got)


def test_the_first_frame_is_answered_as_it_is():
    features, masks = frame((1, 1, 1, 3), (2, 4, 6, 2))
    assert same(answers(Memory(), features, *masks), masks)


def test_an_object_that_is_missed_is_carried_over_to_where_it_moved():
    memory = Memory()
    for step in range(5):
        features, (mask,) = frame((1, 1, 1 + step, 3), seed=step)
        got = answers(memory, features, *([mask] if step == 0 else []))
        assert same(got, [mask]), step


def test_what_is_found_again_updates_the_mask():
    memory = Memory()
    features, (mask,) = frame((1, 1, 1, 3))
    answers(memory, features, mask)
    grown = mask.clone()
    grown[4, 1:4] = True
    assert same(answers(memory, features, grown), [grown])


def test_a_new_object_waits_one_frame_and_no_longer():
    memory = Memory()
    features, (old, new) = frame((1, 1, 1, 3), (2, 4, 6, 2))
    answers(memory, features, old)
    assert same(answers(memory, features, old, new), [old])
    assert same(answers(memory, features, old), [old, new])  # seen to be still there, though it was not found again


def test_of_a_method_of_several_objects_a_new_one_must_be_found_twice():
    memory = Memory()
    features, (old, once, twice) = frame((1, 1, 1, 3), (2, 4, 6, 2), (3, 0, 7, 3))

    def ask(*masks):
        return [one.mask for one in memory.update(features, GRID, found(*masks), several=True)]

    ask(old)
    assert same(ask(old, once, twice), [old])
    assert same(ask(old, twice), [old, twice])
    assert same(ask(), [old, twice])  # both were found in two frames


def test_an_error_of_one_frame_is_never_answered():
    memory = Memory()
    features, (mask,) = frame((1, 1, 1, 3))
    answers(memory, features, mask)
    nothing = torch.zeros(GRID, dtype=torch.bool)
    nothing[6:8, 6:9] = True  # some ground
    assert same(answers(memory, features, mask, nothing), [mask])
    assert same(answers(memory, features, mask), [mask])


def test_an_object_that_left_is_forgotten_at_once():
    memory = Memory()
    features, (mask,) = frame((1, 1, 1, 3))
    answers(memory, features, mask)
    features, _ = frame(seed=1)
    assert answers(memory, features) == []


def test_patience_ends(monkeypatch):
    monkeypatch.setattr(temporal, "MAX_MISSED_FRAMES", 2)
    memory = Memory()
    features, (mask,) = frame((1, 1, 1, 3))
    assert [len(answers(memory, features, *([mask] if step == 0 else []))) for step in range(5)] == [1, 1, 1, 0, 0]


def test_parts_of_a_known_object_are_no_other_objects():
    memory = Memory()
    features, (mask,) = frame((1, 1, 1, 4))
    answers(memory, features, mask)
    part = torch.zeros(GRID, dtype=torch.bool)
    part[1:2, 1:5] = True  # overlaps too little to be the object itself
    for _ in range(3):
        assert same(answers(memory, features, part), [mask])


def test_two_objects_do_not_exchange_their_masks():
    memory = Memory()
    for step in range(6):
        features, (a, b) = frame((1, 1, 1 + step, 2), (2, 5, 7 - step, 2), seed=step)
        got = memory.update(features, GRID, found(b, a) if step % 2 else found(a, b))
        assert same([one.mask for one in got], [a, b])


def test_a_frame_of_another_size_starts_afresh():
    memory = Memory()
    features, (mask,) = frame((1, 1, 1, 3))
    answers(memory, features, mask)
    small = torch.zeros(4, 5, dtype=torch.bool)
    small[0, 0] = True
    (got,) = memory.update(torch.randn(20, 16), (4, 5), found(small))
    assert torch.equal(got.mask, small)
    (got,) = memory.update(torch.randn(20, 8), (4, 5), found(small))  # another backbone
    assert torch.equal(got.mask, small)


@pytest.mark.parametrize("features", [torch.zeros(80, 16), torch.ones(80, 16)], ids=["zeros", "ones"])
def test_features_without_structure_carry_nothing_over(features):
    memory = Memory()
    known, (mask,) = frame((1, 1, 1, 3))
    answers(memory, known, mask)
    assert answers(memory, features) == []
    assert answers(memory, features, torch.zeros(GRID, dtype=torch.bool)) == []


def test_the_same_frames_give_the_same_answers():
    runs = []
    for _ in range(2):
        memory, masks = Memory(), []
        for step in range(4):
            features, objects = frame((1, 1, 1 + step, 3), (2, 5, 6, 2), seed=step, noise=0.3)
            masks += answers(memory, features, *objects[: 1 + step % 2])
        runs.append(np.array([mask.numpy() for mask in masks]))
    np.testing.assert_array_equal(*runs)
