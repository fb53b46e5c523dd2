"""A class from one example: its patches are found, others are not, and what was shown says how sure that is."""

import pytest
import torch

from objloc_ros.errors import InputError
from objloc_ros.methods.exemplar import (
    MAX_AROUND,
    MAX_SHOWN,
    MIN_CONTRAST,
    describe_patches,
    find_exemplar,
    learn_exemplar,
)

RED, GREEN, BLUE, GREY = (0.5, 0.7, 0.65), (0.6, 0.3, 0.65), (0.3, 0.65, 0.2), (0.5, 0.5, 0.5)


def patches(*kinds, seed=0, noise=0.15):
    """Descriptors of patches, each (axis of its value, colour)."""
    rng = torch.Generator().manual_seed(seed)
    values = torch.stack([torch.eye(8)[axis] for axis, _ in kinds])
    values = values + noise * torch.randn(values.shape, generator=rng)
    colours = torch.tensor([colour for _, colour in kinds]) + 0.01 * torch.randn((len(kinds), 3), generator=rng)
    return describe_patches(values, colours)


THING, GROUND = (0, RED), (1, GREY)
SCENE = [*[THING] * 10, *[GROUND] * 40]
INSIDE = torch.arange(50) < 10


def test_descriptors_are_unit_vectors_of_value_and_colour():
    same, other_colour, other_value = patches((0, RED), (0, GREEN), (1, RED), noise=0)
    torch.testing.assert_close(same.norm(), torch.tensor(1.0))
    assert float(same @ other_colour) == pytest.approx(2 / 3, abs=0.05)
    assert float(same @ other_value) == pytest.approx(1 / 3, abs=0.05)


def test_what_was_shown_is_found_elsewhere_and_nothing_else():
    exemplar = learn_exemplar(patches(*SCENE), INSIDE)
    scores = find_exemplar(patches(*[GROUND] * 5, *[THING] * 5, *[(2, BLUE)] * 5, seed=1), exemplar)
    assert (scores >= MIN_CONTRAST).tolist() == [False] * 5 + [True] * 5 + [False] * 5
    assert scores.max() <= 1
    assert float(scores[5:10].mean()) > 0.7


def test_what_resembles_neither_is_not_of_the_class_though_it_is_nearer_to_the_thing():
    exemplar = learn_exemplar(patches(*SCENE, noise=0.02), INSIDE)
    stranger = patches((3, RED), noise=0)  # the thing's colour alone: nearer to it than to the ground
    assert float((stranger @ exemplar.shown.T).mean()) > float((stranger @ exemplar.around.T).mean())
    assert find_exemplar(stranger, exemplar).tolist() == [0]


def test_ground_in_the_corners_of_the_box_is_not_learned():
    exemplar = learn_exemplar(patches(*SCENE), torch.arange(50) < 14)  # four patches of the ground, too
    assert len(exemplar.shown) == 10
    scores = find_exemplar(patches(*[GROUND] * 5, *[THING] * 5, seed=1), exemplar)
    assert (scores >= MIN_CONTRAST).tolist() == [False] * 5 + [True] * 5


def test_one_patch_is_enough():
    exemplar = learn_exemplar(patches(THING, *[GROUND] * 20), torch.arange(21) < 1)
    scores = find_exemplar(patches(THING, GROUND, seed=1), exemplar)
    assert (scores >= MIN_CONTRAST).tolist() == [True, False]


def test_large_images_keep_a_bounded_number_of_patches():
    exemplar = learn_exemplar(patches(*[THING] * 400, *[GROUND] * 2000), torch.arange(2400) < 400)
    assert (len(exemplar.shown), len(exemplar.around)) == (MAX_SHOWN, MAX_AROUND)


@pytest.mark.parametrize("inside", [torch.zeros(50, dtype=torch.bool), torch.ones(50, dtype=torch.bool)])
def test_a_box_needs_an_inside_and_an_outside(inside):
    with pytest.raises(InputError, match="inside its box and around it"):
        learn_exemplar(patches(*SCENE), inside)
