"""Prompts and the numbers that stand for them in a mask."""

import numpy as np
import pytest

from objloc_ros.errors import ParameterError
from objloc_ros.types import LONGEST_PROMPT, MOST_PROMPTS, UNLABELLED, LabelSet


def many(count, prefix="thing"):
    return [f"{prefix} {i}" for i in range(count)]


def test_a_set_knows_its_names_and_numbers():
    labels = LabelSet(("dog", "traffic cone"), (7, 0))
    assert len(labels) == 2
    assert labels.names() == {7: "dog", 0: "traffic cone"}
    assert UNLABELLED == 255


def test_the_first_set_is_numbered_from_0():
    labels = LabelSet.number(["dog", "cat", "bird"])
    assert (labels.prompts, labels.ids) == (("dog", "cat", "bird"), (0, 1, 2))


@pytest.mark.parametrize(
    ("before", "after", "ids"),
    [
        ({"dog": 0, "cat": 1}, ["dog", "cat"], (0, 1)),
        ({"dog": 0, "cat": 1}, ["cat", "dog"], (1, 0)),  # the order is nothing
        ({"dog": 0, "cat": 1}, ["bird", "dog"], (2, 0)),  # 1 rests
        ({"dog": 0, "cat": 1}, ["bird", "fish"], (2, 3)),
        ({"dog": 2, "cat": 3}, ["bird", "fish", "cow"], (0, 1, 4)),  # what rested before is free again
        ({"dog": 5}, ["cat"], (0,)),
        ({"dog": 254}, ["dog", "cat"], (254, 0)),
        ({"dog": 0}, ["Dog"], (1,)),  # another text
    ],
)
def test_prompts_that_stay_keep_their_numbers_and_vacant_ones_rest(before, after, ids):
    previous = LabelSet(tuple(before), tuple(before.values()))
    assert LabelSet.number(after, previous).ids == ids
    assert previous == LabelSet(tuple(before), tuple(before.values()))


def test_a_number_rests_for_one_set_only():
    labels = LabelSet.number(["dog", "cat"])
    seen = []
    for name in ("bird", "fish", "cow", "horse"):
        labels = LabelSet.number(["dog", name], labels)
        assert labels.ids[0] == 0
        seen.append(labels.ids[1])
    assert seen == [2, 1, 2, 1]


def test_numbers_that_rest_are_taken_where_there_are_no_others():
    first = LabelSet.number(many(MOST_PROMPTS))
    assert first.ids == tuple(range(254))
    other = LabelSet.number(many(MOST_PROMPTS, "other"), first)
    assert other.ids == (254, *range(253))  # the only fresh one first
    mixed = LabelSet.number([*many(200), *many(54, "new")], first)
    assert mixed.ids == (*range(200), 254, *range(200, 253))
    assert UNLABELLED not in {*other.ids, *mixed.ids}


def test_numbers_stay_different_over_a_long_time():
    rng = np.random.default_rng(0)
    labels = None
    for _ in range(60):
        wanted = [f"thing {i}" for i in rng.permutation(400)[: rng.integers(1, MOST_PROMPTS + 1)]]
        following = LabelSet.number(wanted, labels)
        assert following.prompts == tuple(wanted)
        if labels is not None:
            before, now = labels.names(), following.names()
            stay = set(before.values()) & set(wanted)
            assert {n: t for n, t in before.items() if t in stay} == {n: t for n, t in now.items() if t in stay}
            if len(set(before) | set(now)) < UNLABELLED:  # there was room to let all vacant numbers rest
                assert all(before.get(number, text) == text for number, text in now.items())
        labels = following


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([], "prompts must be 1 to 254 texts, got 0"),
        (many(255), "prompts must be 1 to 254 texts, got 255"),
        ([""], "prompts must not be empty, got ''"),
        (["dog", " \t "], r"prompts must not be empty, got ' \\t '"),
        (["dog", 7], "prompts must be texts, got 7"),
        (["dog", None], "prompts must be texts, got None"),
        ([" " * 501], "at most 500 characters, got 501"),
        (["dog", "dog"], "prompts must be different, got 'dog' and 'dog'"),
        (["Red  Dog", "cat", " red dog "], "prompts must be different, got 'Red  Dog' and ' red dog '"),
        (["ÄPFEL", "äpfel"], "prompts must be different, got 'ÄPFEL' and 'äpfel'"),
        (["x" * 501], r"at most 500 characters, got 501: 'x{40}'\.\.\.$"),
        (["a\ndog"], r"must not have control characters, got 'a\\ndog'"),
        (["a\0dog"], "must not have control characters"),
        (["a\x7fdog"], "must not have control characters"),
        (["\ud800"], "must not have control characters"),
    ],
)
def test_prompts_that_break_a_rule_are_refused(prompts, message):
    with pytest.raises(ParameterError, match=message):
        LabelSet(tuple(prompts), tuple(range(len(prompts))))
    with pytest.raises(ParameterError, match=message) as raised:
        LabelSet.number(prompts, LabelSet(("dog",), (3,)))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("prompt", ["x" * LONGEST_PROMPT, " dog ", "🚗", "信号", "{}", "a dog, a cat", "-", "0"])
def test_other_prompts_are_accepted_as_they_are(prompt):
    assert LabelSet.number([prompt]).prompts == (prompt,)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        ((0,), "2 prompts need as many different ids, got \\[0\\]"),
        ((0, 1, 2), "2 prompts need as many different ids"),
        ((4, 4), "2 prompts need as many different ids, got \\[4, 4\\]"),
        ((0, 255), r"ids must lie in 0..254, got \[0, 255\]"),
        ((-1, 0), r"ids must lie in 0..254, got \[-1, 0\]"),
    ],
)
def test_numbers_that_break_a_rule_are_refused(ids, message):
    with pytest.raises(ParameterError, match=message):
        LabelSet(("dog", "cat"), ids)
