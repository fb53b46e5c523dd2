"""CLIP's text tower: open_clip's answer without its padding, the mean over templates, and nothing encoded twice."""

import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer

from objloc_ros.backbones import clip_text
from objloc_ros.backbones.clip import CLIP_SPECS, ClipSpec, build_text_transformer
from objloc_ros.backbones.clip_text import ClipText, Tokenizer, check_lengths, embed_tokens, filled, shortened
from objloc_ros.errors import ParameterError

SMALL = ClipSpec(patch=4, embed_dim=10, text_width=16, text_layers=2, text_heads=2, context=12)
TEXTS = ["", "a dog", "a photo of a traffic cone", "one two three four five six seven eight nine ten eleven twelve"]


class Counted:
    """A text tower that notes how many texts each of its passes had.

    Args:
        tower: The tower.
    """

    def __init__(self, tower):
        self.passes = []
        tower.token_embedding.register_forward_hook(lambda module, inputs, output: self.passes.append(len(inputs[0])))


@pytest.fixture(params=[False, True], ids=["gelu", "quick gelu"])
def tower(request, monkeypatch):
    """A small tower over all of CLIP's tokens, every parameter random."""
    torch.manual_seed(0)
    monkeypatch.setitem(CLIP_SPECS, "small", ClipSpec(**{**vars(SMALL), "quick_gelu": request.param}))
    model = build_text_transformer("small").eval().requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


@pytest.fixture
def text(tower):
    return ClipText("small", tower, Tokenizer(SMALL.context))


@pytest.mark.parametrize("texts", [TEXTS, TEXTS[:1], TEXTS[:2], TEXTS[3:], TEXTS[::-1], ["🚗", "één ÿ 車"]])
def test_leaving_the_padding_out_changes_nothing(tower, texts):
    ids = Tokenizer(12)(texts)
    embedded = embed_tokens(tower, ids)
    assert embedded.shape == (len(texts), 10)
    assert embedded.dtype == torch.float32
    torch.testing.assert_close(embedded, tower(ids), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("texts", [["!("], ["!="], ["(!)", "red!(car"], ["a photo of a !( ", "!~"]])
def test_a_token_with_the_number_of_the_padding_is_a_token(tower, texts):
    """CLIP's token 0 is an exclamation mark that goes on, and its padding is 0 as well."""
    ids = Tokenizer(12)(texts)
    assert any(0 in row[: row.argmax()] for row in ids)
    torch.testing.assert_close(embed_tokens(tower, ids), tower(ids), rtol=1e-4, atol=1e-5)


def test_no_text_has_no_embedding(tower):
    assert embed_tokens(tower, torch.zeros(0, 12, dtype=torch.int64)).shape == (0, 10)


def test_only_the_columns_in_use_go_through_the_tower(tower):
    seen = []
    tower.token_embedding.register_forward_hook(lambda module, inputs, output: seen.append(tuple(inputs[0].shape)))
    embed_tokens(tower, Tokenizer(12)(["a dog", ""]))
    assert seen == [(2, 4)]


def test_a_prompt_is_the_mean_of_its_templates(text, tower):
    prompts, templates = ["dog", "traffic cone"], ["a {}", "a photo of a {}", "{}"]
    encoded = text.encode(prompts, templates)
    assert encoded.shape == (2, 10)
    for i, prompt in enumerate(prompts):
        total = torch.zeros(10)
        for template in templates:
            one = tower(SimpleTokenizer()([template.replace("{}", prompt)], context_length=12))[0]
            total += one / one.norm()
        torch.testing.assert_close(encoded[i], total / total.norm(), rtol=1e-4, atol=1e-5)


def test_vectors_have_length_one(text):
    encoded = text.encode(["dog", "cat", "traffic cone"], ["a photo of a {}", "{}"])
    torch.testing.assert_close(encoded.norm(dim=1), torch.ones(3))


def test_nothing_is_encoded_twice(text, tower):
    counted = Counted(tower)
    first = text.encode(["dog", "cat"], ["a {}", "{}"])
    assert counted.passes == [4]
    assert torch.equal(text.encode(["dog", "cat"], ["a {}", "{}"]), first)
    assert torch.equal(text.encode(["cat", "dog"], ["a {}", "{}"]), first.flip(0))
    assert counted.passes == [4]
    text.encode(["dog", "bird", "cat"], ["a {}", "{}"])
    assert counted.passes == [4, 2]
    text.encode(["dog", "cat"], ["{}", "the {}"])
    assert counted.passes == [4, 2, 2]


def test_what_occurs_twice_is_encoded_once(text, tower):
    counted = Counted(tower)
    encoded = text.encode(["dog", "dog"], ["a {}"])
    assert counted.passes == [1]
    assert torch.equal(encoded[0], encoded[1])


def test_the_oldest_are_forgotten_where_many_were_encoded(text, tower, monkeypatch):
    monkeypatch.setattr(clip_text, "CACHED", 4)
    counted = Counted(tower)
    text.encode(["dog", "cat"], ["{}"])
    text.encode(["bird", "fish"], ["{}"])
    text.encode(["dog", "cow"], ["{}"])  # for the cow the cat goes: the dog is older, but wanted
    assert counted.passes == [2, 2, 1]
    text.encode(["fish", "bird", "dog", "cow"], ["{}"])
    assert counted.passes == [2, 2, 1]
    text.encode(["cat"], ["{}"])
    assert counted.passes == [2, 2, 1, 1]


def test_a_set_that_is_larger_than_what_is_remembered_is_encoded_all_the_same(text, tower, monkeypatch):
    names = [f"{i} dogs" for i in range(9)]
    at_once = ClipText("small", tower, Tokenizer(12)).encode(names, ["{}"])
    monkeypatch.setattr(clip_text, "CACHED", 4)
    counted = Counted(tower)
    for _ in range(2):
        torch.testing.assert_close(text.encode(names, ["{}"]), at_once, rtol=1e-4, atol=1e-5)
    assert counted.passes == [9]
    for i in range(20):
        text.encode([f"{i} cats"], ["{}"])
    assert len(text._cache) == 4


@pytest.mark.parametrize(("prompts", "passes"), [(3, [6]), (4, [8]), (5, [8, 2]), (9, [8, 8, 2])])
def test_more_texts_than_a_batch_holds_make_several(text, tower, prompts, passes, monkeypatch):
    names = [f"{i} dogs" for i in range(prompts)]
    counted = Counted(tower)
    monkeypatch.setattr(clip_text, "BATCH", 8)
    encoded = text.encode(names, ["a {}", "{}"])
    assert counted.passes == passes
    monkeypatch.undo()
    at_once = ClipText("small", tower, Tokenizer(12)).encode(names, ["a {}", "{}"])
    torch.testing.assert_close(encoded, at_once, rtol=1e-4, atol=1e-5)


def test_no_prompt_has_no_vector(text, tower):
    counted = Counted(tower)
    assert text.encode([], ["a {}"]).shape == (0, 10)
    assert counted.passes == []


def test_a_text_that_is_too_long_is_refused_before_any_is_encoded(text, tower):
    counted = Counted(tower)
    text.encode(["a b c d e f g h i j"], ["{}"])  # exactly 12 tokens
    with pytest.raises(ParameterError, match=r"^'so a b c d e f g h i j' has 13 tokens, at most 12 are read$"):
        text.encode(["dog", "a b c d e f g h i j"], ["{}", "so {}"])
    assert counted.passes == [1]


def test_lengths_are_judged_one_by_one():
    check_lengths(Tokenizer(4), ["", "a", "a b"])
    with pytest.raises(ParameterError, match="'a b c' has 5 tokens, at most 4 are read"):
        check_lengths(Tokenizer(4), ["a b", "a b c"])
    with pytest.raises(ParameterError, match=r"^'x x x x x x x x x x \.\.\. x x x x x' has 102 tokens"):
        check_lengths(Tokenizer(77), [" ".join("x" * 100)])


@pytest.mark.parametrize(
    ("template", "prompt", "text"),
    [
        ("a photo of a {}", "dog", "a photo of a dog"),
        ("{}", "{}", "{}"),
        ("a {} here", "{0} {name} %s", "a {0} {name} %s here"),
        ("{0} {}", "dog", "{0} dog"),
    ],
)
def test_braces_of_a_prompt_stay_what_they_are(template, prompt, text):
    assert filled(template, prompt) == text


@pytest.mark.parametrize(
    ("text", "short"), [("", ""), ("x" * 40, "x" * 40), ("a" * 20 + "b" * 11 + "c" * 10, "a" * 20 + "..." + "c" * 10)]
)
def test_a_long_text_is_shortened_for_a_message(text, short):
    assert shortened(text) == short
