"""lite_clip's text tower: which noun of a prompt is read, what speaks for it, and what is refused."""

import pytest
import torch
from torch.nn import functional as F

from objloc_ros.backbones.lite_clip import CLASSES
from objloc_ros.backbones.lite_text import BACKGROUND_EVIDENCE, COUNT_EXPONENT, GAIN, LiteText, NounTable
from objloc_ros.backbones.weights import load_clip_text
from objloc_ros.errors import ParameterError

WORDS = ("animal", "bear", "brown bear", "cup", "dog", "knife", "traffic light", "photo")
KINDS = {"animal": (0, 1, 2, 3), "bear": (2, 3), "brown bear": (2,), "dog": (0, 1), "cup": (7,)}


@pytest.fixture(scope="module")
def text():
    generator = torch.Generator().manual_seed(0)
    embeddings = F.normalize(torch.randn(len(WORDS), 384, generator=generator), dim=1)
    classes = F.normalize(torch.randn(CLASSES, 384, generator=generator), dim=1)
    classes[9] = embeddings[WORDS.index("knife")]
    pairs = [(WORDS.index(word), number) for word, numbers in KINDS.items() for number in numbers]
    rows = {word: row for row, word in enumerate(WORDS)} | {"knives": WORDS.index("knife")}
    return LiteText(
        NounTable(rows, embeddings, classes, torch.tensor(pairs), torch.ones(len(pairs))), torch.device("cpu")
    )


@pytest.fixture(scope="module")
def embedded():
    return load_clip_text("lite_clip")


@pytest.mark.parametrize(
    ("prompt", "noun", "left_out"),
    [
        ("dog", "dog", []),
        ("The Dogs", "dog", []),
        ("a photo of a brown dog", "dog", ["brown"]),
        ("a close-up of two brown bears", "brown bear", []),
        ("brown bear", "brown bear", []),
        ("big bear", "bear", ["big"]),
        ("traffic lights", "traffic light", []),
        ("traffic_light", "traffic light", []),
        ("a cup of tea", "cup", []),
        ("dog on the photo", "dog", []),
        ("knives", "knives", []),
        ("photo", "photo", []),
        ("background", None, []),
    ],
)
def test_the_noun_of_a_prompt_is_its_longest_known_ending(text, prompt, noun, left_out):
    if noun is not None:
        assert text.find_noun(prompt) == noun
    assert text.unknown_words(prompt) == left_out


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("dgo", "'dgo'; nearest known: 'dog'"),
        ("a photo of a dgo", "'dgo'; nearest known: 'dog'"),
        ("traffic", "'traffic'; nearest known: 'traffic light'"),
        ("dog house", "'dog house'"),
        ("zzzzz", "'zzzzz' \\(it knows"),
        ("a", "'a' \\(it knows"),
        ("?!", "'\\?!' \\(it knows"),
    ],
)
def test_a_prompt_without_a_known_noun_is_refused_with_the_nearest_ones(text, prompt, message):
    with pytest.raises(ParameterError, match=f"lite_clip does not know {message}"):
        text.encode([prompt], ["{}"])


@pytest.mark.parametrize("pair", [("red dog", "blue dog"), ("dog", "dogs"), ("knife", "knives")])
def test_prompts_of_one_noun_are_refused(text, pair):
    with pytest.raises(ParameterError, match="are the same to lite_clip, which reads nouns"):
        text.encode(pair, ["{}"])


def test_texts_are_unit_vectors_whatever_the_template(text):
    prompts = ["dog", "animal", "knife", "background"]
    vectors = text.encode(prompts, ["a photo of a {}"])
    assert vectors.shape == (4, CLASSES + 2)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(4))
    assert torch.equal(vectors, text.encode(prompts, ["{}", "a drawing of the {}"]))
    assert (vectors >= 0).all()


def test_kinds_of_a_noun_speak_for_it_and_many_kinds_less_each(text):
    dog, animal, cup = (text.table.evidence([text.table.rows[word]])[0] for word in ("dog", "animal", "cup"))
    torch.testing.assert_close(dog[:2], torch.full((2,), 2.0**-COUNT_EXPONENT), atol=0.01, rtol=0)
    torch.testing.assert_close(animal[:4], torch.full((4,), 4.0**-COUNT_EXPONENT), atol=0.01, rtol=0)
    assert cup.argmax() == 7
    assert cup[7] > dog[0] > animal[0] > animal[4:].max()


def test_a_noun_without_kinds_takes_the_class_of_the_nearest_name(text):
    knife = text.table.evidence([text.table.rows["knife"]])[0]
    assert knife.argmax() == 9
    assert knife[9] > 0.5


def test_background_has_the_same_evidence_whatever_is_seen(text):
    (background,) = text.encode(["Background"], ["{}"])
    torch.testing.assert_close(background[:CLASSES], torch.full((CLASSES,), GAIN * BACKGROUND_EVIDENCE))


@pytest.mark.parametrize(
    ("noun", "name", "other"),
    [("dog", 207, 282), ("cat", 282, 207), ("car", 817, 547), ("teapot", 849, 817), ("person", 981, 282)],
)
def test_the_embedded_table_knows_ordinary_nouns(embedded, noun, name, other):
    """Golden retriever, tiger cat, sports car, electric locomotive, teapot, ballplayer."""
    (vector,) = embedded.encode([noun], ["{}"])
    assert vector[name] > 3 * vector[other]


def test_the_embedded_table_knows_kitchenware_and_irregular_plurals(embedded):
    embedded.check(["colander", "whisk", "rolling pin", "mice", "children", "wolves", "traffic cones"])
    with pytest.raises(ParameterError, match="nearest known: 'dog'"):
        embedded.check(["dgo"])


def test_damaged_tables_are_refused(text):
    state = {
        "words": torch.tensor(list(b"dog\ncat"), dtype=torch.uint8),
        "rows": torch.tensor([0, 5], dtype=torch.int16),
        "embeddings": torch.ones(2, 384, dtype=torch.int8),
        "class_embeddings": torch.ones(CLASSES, 384, dtype=torch.int8),
        "kinds": torch.zeros(0, 2, dtype=torch.int16),
        "kind_weights": torch.zeros(0, dtype=torch.float16),
    }
    with pytest.raises(ValueError, match="rows up to 5 of 2"):
        NounTable.unpack(state)
