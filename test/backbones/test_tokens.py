"""Prompts to token ids: CLIP's own, or the few that a small tower knows."""

import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer

from objloc_ros.backbones.clip_text import PAD, SPECIAL, START, UNKNOWN, Tokenizer, byte_pairs

TEXTS = [
    "",
    "   ",
    "dog",
    "A  Photo\tof a\n DOG ",
    "don't",
    "1980s",
    "traffic-cone!",
    "!(",
    "naïve Straße",
    "信号",
    "🚗 car",
    "&amp; &lt;",
    "<end_of_text>",
    "antidisestablishmentarianism",
    "one two three four five six seven eight nine ten",
]
WORDS = ["a", "blue", "object", "of", "photo", "red", "triangle"]


@pytest.fixture(scope="module")
def compact():
    """A tokenizer that knows seven words, and the id of each."""
    known = torch.tensor(sorted(byte_pairs().encode(word)[0] for word in WORDS))
    numbers = {word: 3 + known.tolist().index(byte_pairs().encode(word)[0]) for word in WORDS}
    return Tokenizer(8, known), numbers, len(WORDS) + 3


@pytest.mark.parametrize("context", [77, 12, 5, 3])
def test_all_tokens_are_those_of_open_clip(context):
    reference = SimpleTokenizer()(TEXTS, context_length=context)
    ids = Tokenizer(context)(TEXTS)
    assert ids.dtype == torch.int64
    assert torch.equal(ids, reference)
    too_long = [len(SimpleTokenizer().encode(text)) + 2 > context for text in TEXTS]
    assert any(too_long) == (context < 12)
    assert (ids[torch.tensor(too_long), -1] == 49407).all()  # what is cut keeps its end


def test_no_text_has_no_row():
    assert Tokenizer(7)([]).shape == (0, 7)


@pytest.mark.parametrize("text", [text for text in TEXTS if text != "<end_of_text>"])
def test_the_length_counts_start_and_end(text):
    ids = Tokenizer(77)([text])[0]
    assert Tokenizer(77).length(text) == ids.argmax() + 1
    assert Tokenizer(4).length(text) == Tokenizer(77).length(text)


def test_a_small_tower_knows_its_tokens(compact):
    tokenizer, number, end = compact
    ids = tokenizer(["red object", "A Photo of a BLUE triangle", "triangle"])
    rows = [
        [START, number["red"], number["object"], end],
        [START, *(number[word] for word in ("a", "photo", "of", "a", "blue", "triangle"))],
        [START, number["triangle"], end],
    ]
    rows[1].append(end)
    for row, expected in zip(ids.tolist(), rows, strict=True):
        assert row == expected + [PAD] * (8 - len(expected))


def test_ids_of_a_small_tower_are_dense_and_its_end_is_the_highest(compact):
    tokenizer, number, end = compact
    assert sorted(number.values()) == list(range(START + 1, end))
    assert end == len(WORDS) + SPECIAL - 1
    ids = tokenizer([*WORDS, "", "zebra", " ".join(WORDS)])
    assert (ids.max(1).values == end).all()
    assert len({PAD, UNKNOWN, START, end}) == SPECIAL


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("red antidisestablishmentarianism object", ["red", None, "object"]),
        ("zebra", [None]),
        ("zebra giraffe", [None]),
        ("zebra red giraffe", [None, "red", None]),
        ("🚗", [None]),
        ("red 🚗🚙 信号", ["red", None]),
        ("Straße", [None]),
        ("", []),
        (" \t", []),
    ],
)
def test_what_a_small_tower_does_not_know_is_one_thing(compact, text, words):
    tokenizer, number, end = compact
    expected = [START, *(UNKNOWN if word is None else number[word] for word in words), end]
    assert tokenizer([text])[0].tolist() == expected + [PAD] * (8 - len(expected))


def test_a_text_that_is_too_long_for_a_small_tower_keeps_its_end(compact):
    tokenizer, number, end = compact
    row = tokenizer(["red " * 20 + "object"])[0].tolist()
    assert row == [START, *[number["red"]] * 6, end]


def test_a_small_tower_counts_clips_tokens(compact):
    """So that a prompt is as long for every model."""
    tokenizer, _, _ = compact
    word = "antidisestablishmentarianism"
    assert tokenizer.length(word) == len(byte_pairs().encode(word)) + 2 > 3


@pytest.mark.parametrize(
    ("text", "unknown"),
    [
        ("red object", []),
        ("RED  Object", []),
        ("red zebra and giraffe", ["zebra", "and", "giraffe"]),
        ("zebra zebra", ["zebra", "zebra"]),
        ("🚗 red", ["🚗"]),
        ("blaue Straße", ["blaue", "Straße"]),
        ("red-zebra", []),  # half of it is known
        ("", []),
    ],
)
def test_unknown_words_are_those_of_which_no_part_is_known(compact, text, unknown):
    assert compact[0].unknown_words(text) == unknown


def test_a_large_tower_knows_every_word():
    assert Tokenizer(77).unknown_words("zebra 🚗 Straße xqzvw") == []


def test_the_table_is_read_once():
    assert byte_pairs() is byte_pairs()


def test_no_text_is_refused():
    """Whatever people type, the tokenizer has numbers for it; the prompts' own checks come before."""
    strange = ["\u200b", "\ufeff", "a\u0301", "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\u202eabc", "x" * 5000]
    ids = Tokenizer(77)(strange)
    assert (ids.max(1).values == 49407).all()
    assert (ids[:, 0] == 49406).all()
