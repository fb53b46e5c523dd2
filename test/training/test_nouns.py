"""Making lite_clip's table: WordNet's files, MiniLM's embeddings, and which nouns are chosen."""

import pytest
import torch
from safetensors.torch import save_file

from objloc_ros.errors import InputError, WeightsError
from objloc_ros.training.minilm import HEADS, LAYERS, MLP_WIDTH, WIDTH, MiniLM
from objloc_ros.training.nouns import Classes, choose_nouns, is_concrete, list_kinds, weigh_kinds
from objloc_ros.training.wordnet import WordNet

LICENCE = "  1 This software and database is being provided\n"
DATA = [
    "00001740 03 n 01 entity 0 000 | that which is",
    "00001930 03 n 01 physical_entity 0 001 @ 00001740 n 0000 | has a body",
    "00000100 05 n 01 animal 0 001 @ 00001930 n 0000 | alive",
    "00000200 05 n 02 dog 0 domestic_dog 0 002 @ 00000100 n 0000 + 00000900 v 0101 | barks",
    "00000210 05 n 01 poodle 0 001 @ 00000200 n 0000 | curly",
    "00000220 05 n 01 Great_Dane 0 001 @ 00000200 n 0000 | large",
    "00000300 06 n 02 frank 0 dog 0 001 @ 00001930 n 0000 | in a bun",
    "00000400 09 n 01 idea 0 001 @ 00001740 n 0000 | thought",
]
INDEX = [
    "animal n 1 1 @ 1 0 00000100",
    "dog n 2 1 @ 2 1 00000200 00000300",
    "domestic_dog n 1 1 @ 1 0 00000200",
    "frank n 1 1 @ 1 0 00000300",
    "great_dane n 1 1 @ 1 0 00000220",
    "idea n 1 1 @ 1 1 00000400",
    "poodle n 1 1 @ 1 0 00000210",
]
CLASSES = Classes((210, 220, 300), (("poodle",), ("Great Dane",), ("frank", "dog")))
PIECES = ["[UNK]", "[CLS]", "[SEP]", "dog", "do", "##g", "##gs", "poodle", "idea", "animal", "-"]


@pytest.fixture(scope="module")
def wordnet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wordnet")
    (folder / "data.noun").write_text(LICENCE + "\n".join(DATA) + "\n")
    (folder / "index.noun").write_text(LICENCE + "\n".join(INDEX) + "\n")
    (folder / "cntlist.rev").write_text(
        "dog%1:05:00:: 1 9\ndog%1:13:00:: 2 1\ndog%2:30:00:: 1 3\nidea%1:09:00:: 1 50\n"
    )
    (folder / "noun.exc").write_text("mice mouse\n")
    return WordNet(folder)


@pytest.fixture(scope="module")
def minilm(tmp_path_factory):
    """Random weights under BERT's names."""
    folder = tmp_path_factory.mktemp("minilm")
    generator = torch.Generator().manual_seed(0)

    def linear(name, out, into):
        return {
            f"{name}.weight": torch.randn(out, into, generator=generator) / into**0.5,
            f"{name}.bias": torch.zeros(out),
        }

    def norm(name):
        return {f"{name}.weight": torch.ones(WIDTH), f"{name}.bias": torch.zeros(WIDTH)}

    state = {
        f"embeddings.{kind}_embeddings.weight": torch.randn(rows, WIDTH, generator=generator)
        for kind, rows in (("word", len(PIECES)), ("position", 16), ("token_type", 2))
    } | norm("embeddings.LayerNorm")
    for layer in range(LAYERS):
        place = f"encoder.layer.{layer}."
        for part in ("query", "key", "value"):
            state |= linear(f"{place}attention.self.{part}", WIDTH, WIDTH)
        state |= linear(f"{place}attention.output.dense", WIDTH, WIDTH) | norm(f"{place}attention.output.LayerNorm")
        state |= linear(f"{place}intermediate.dense", MLP_WIDTH, WIDTH) | linear(
            f"{place}output.dense", WIDTH, MLP_WIDTH
        )
        state |= norm(f"{place}output.LayerNorm")
    save_file(state, folder / "model.safetensors")
    (folder / "vocab.txt").write_text("\n".join(PIECES) + "\n")
    return MiniLM(folder)


def test_senses_come_with_their_counts_and_ancestors(wordnet):
    assert [(sense.synset, sense.count) for sense in wordnet.senses("Dog")] == [(200, 9), (300, 1)]
    assert wordnet.ancestors(210) == [210, 200, 100, 1930, 1740]
    assert wordnet.words[220] == ["Great Dane"]
    assert wordnet.plurals == {"mice": "mouse"}
    assert wordnet.senses("cat") == []


def test_kinds_are_weighed_by_how_frequent_their_sense_is(wordnet):
    below = list_kinds(wordnet, CLASSES)
    assert weigh_kinds(wordnet, "dog", below) == {0: 1.0, 1: 1.0, 2: 0.3}
    assert weigh_kinds(wordnet, "poodle", below) == {0: 1.0}
    assert weigh_kinds(wordnet, "idea", below) == {}


def test_ideas_have_no_body(wordnet):
    assert [noun for noun in wordnet.nouns if is_concrete(wordnet, noun, wordnet.senses(noun))] == [
        *("animal", "dog", "domestic dog", "frank", "poodle")  # Great Dane is a name
    ]


def test_classes_their_ancestors_and_common_things_are_chosen(wordnet, minilm):
    nouns = choose_nouns(wordnet, CLASSES, list_kinds(wordnet, CLASSES), minilm, ["traffic cone"])
    assert nouns == [
        *("animal", "dog", "domestic dog", "entity", "frank", "great dane", "physical entity", "poodle", "traffic cone")
    ]


def test_words_are_split_into_the_longest_pieces(minilm):
    assert minilm.tokenize("Dogg dogs-x") == [1, 3, 5, 0, 10, 0, 2]


def test_a_text_is_embedded_alike_in_any_company(minilm):
    alone = minilm.embed(["poodle"])
    among = minilm.embed(["dog dog dog", "poodle", "dög"])
    torch.testing.assert_close(alone[0], among[1])
    torch.testing.assert_close(among.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(among[2], minilm.embed(["dog"])[0])
    assert HEADS * 32 == WIDTH


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(InputError, match="does not hold WordNet's database"):
        WordNet(tmp_path)
    with pytest.raises(WeightsError, match="does not hold all-MiniLM-L6-v2"):
        MiniLM(tmp_path)
