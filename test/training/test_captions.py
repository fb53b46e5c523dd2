"""Captions, the kinds they name, and which of them are true of a picture."""

import numpy as np
import pytest

from objloc_ros.backbones.clip_text import UNKNOWN, Tokenizer
from objloc_ros.scenes.attributes import COLOURS, KEPT_OUT, PATTERNS, SHAPES, Attributes
from objloc_ros.training.captions import (
    BACKGROUND,
    COLOURS_RULED_OUT,
    GROUPS,
    NOUNS,
    PAIRS,
    captions,
    known_tokens,
    targets,
)

RED_CIRCLE = Attributes("red", "plain", "circle")
BLUE_STAR = Attributes("blue", "striped", "star")


def test_the_groups_have_all_kinds_but_the_pairs_that_are_kept_out():
    assert [len(group.kinds) for group in GROUPS] == [len(COLOURS), len(PATTERNS), len(SHAPES), 9 * 6 - len(KEPT_OUT)]
    assert not set(PAIRS) & KEPT_OUT


@pytest.mark.parametrize("number", range(len(GROUPS)))
def test_there_is_a_caption_for_each_kind_and_one_for_the_ground(number):
    rng = np.random.default_rng(0)
    for _ in range(20):
        texts = captions(rng, GROUPS[number])
        assert len(set(texts)) == len(GROUPS[number].kinds) + 1
        assert BACKGROUND in texts[-1]
        for colour, shape in KEPT_OUT:
            assert not any(f"{colour} {shape}" in text for text in texts)


def test_captions_are_made_of_known_tokens_but_for_one_noun():
    tokenizer = Tokenizer(77, known_tokens())
    rng = np.random.default_rng(1)
    for _ in range(60):
        for group in GROUPS:
            for text in captions(rng, group):
                assert (UNKNOWN in tokenizer([text])[0].tolist()) == (NOUNS[-1] in text), text


def test_a_picture_of_two_objects_has_two_true_captions():
    colours, _, shapes, pairs = targets(GROUPS, [[RED_CIRCLE, BLUE_STAR], [RED_CIRCLE], []])
    assert colours[0][[COLOURS.index("red"), COLOURS.index("blue")]].tolist() == [0.5, 0.5]
    assert shapes[1].argmax() == SHAPES.index("circle")
    assert [table[2].argmax() for table in (colours, shapes, pairs)] == [len(COLOURS), len(SHAPES), len(PAIRS)]
    np.testing.assert_allclose(pairs.sum(1), 1)


def test_what_never_occurs_together_is_ruled_out():
    ruled_out = COLOURS_RULED_OUT.numpy()
    found = {(COLOURS[c], SHAPES[s]) for s, c in np.argwhere(ruled_out)}
    assert found == KEPT_OUT
    assert not ruled_out[-1].any()
    assert not ruled_out[:, -1].any()
