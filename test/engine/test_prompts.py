"""Prompts on their way into the methods: judged, numbered, encoded, and taken over in one go."""

import threading
from dataclasses import dataclass

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file
from waiting import PATIENCE_S

from objloc_ros.backbones.clip import CLIP_SPECS, build_clip_image, build_text_transformer
from objloc_ros.backbones.clip_text import SPECIAL_TOKENS, byte_pairs
from objloc_ros.backbones.vit import build_vit
from objloc_ros.backbones.weights import load_clip_text
from objloc_ros.engine.backbone import Backbone
from objloc_ros.engine.pipeline import Pipeline
from objloc_ros.engine.prompts import (
    IMAGENET,
    MAX_TEMPLATES,
    PromptEncoder,
    check_prompts,
    expand_templates,
)
from objloc_ros.errors import ParameterError, WeightsError
from objloc_ros.types import DEFAULT_TEMPLATES, LabelSet

CPU = torch.device("cpu")
WORDS = "a background blue circle object of photo red the triangle"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Random weights of the embedded CLIP pair's layout that know a few words."""
    torch.manual_seed(0)
    known = torch.tensor(sorted(byte_pairs().encode(WORDS)))
    state = {f"visual.{key}": value for key, value in build_clip_image("tiny_clip").visual.state_dict().items()}
    state |= build_text_transformer("tiny_clip", len(known) + SPECIAL_TOKENS).state_dict()
    path = tmp_path_factory.mktemp("weights") / "clip.safetensors"
    save_file({key: value.clone() for key, value in state.items()} | {"known_tokens": known}, path)
    return path


@pytest.fixture
def encoder(weights):
    return PromptEncoder("tiny_clip", path=weights, device=CPU)


class Head:
    """A method that stops at its beginning until it is let go, and answers with the prompts it was given."""

    default_options = None

    def __init__(self):
        self.entered, self.go = threading.Event(), threading.Event()
        self.go.set()

    def reads_features(self, options):
        return False

    def __call__(self, batch, options):
        self.entered.set()
        assert self.go.wait(PATIENCE_S)
        return [batch.prompts] * len(batch.images)


@dataclass
class Setup:
    """A pipeline around one head."""

    pipeline: Pipeline
    head: Head

    def run(self):
        """The prompts that the head saw."""
        return self.pipeline.run(np.zeros((8, 8, 3), np.uint8))["head"]


@pytest.fixture
def setup(encoder):
    head = Head()
    vit = build_vit("tiny").eval()
    return Setup(Pipeline(Backbone(vit, name="tiny", device=CPU, short_side=None), {"head": head}, encoder), head)


def test_the_background_is_encoded_first(encoder, weights):
    encoded = encoder.encode(["red circle", "blue object"])
    assert encoded.prompts == ("red circle", "blue object")
    assert encoded.texts.shape == (3, 128)
    tower = load_clip_text("tiny_clip", path=weights)
    for row, prompt in zip(encoded.texts, ("background", "red circle", "blue object"), strict=True):
        torch.testing.assert_close(row, tower.encode([prompt], ["a photo of a {}"])[0], rtol=1e-4, atol=1e-5)


def test_a_prompt_may_be_the_background(encoder):
    encoded = encoder.encode(["red circle", "background"])
    assert torch.equal(encoded.texts[0], encoded.texts[2])


def test_templates_count(encoder):
    once = encoder.encode(["red circle"]).texts
    torch.testing.assert_close(encoder.encode(["red circle"], DEFAULT_TEMPLATES).texts, once)
    assert (encoder.encode(["red circle"], ["the {}"]).texts - once).abs().max() > 1e-3


def test_prompts_that_stay_keep_their_numbers(encoder):
    first = encoder.encode(["red circle", "blue object"]).number(None)
    assert first.labels == LabelSet(("red circle", "blue object"), (0, 1))
    encoded = encoder.encode(["triangle", "blue object"])
    following = encoded.number(first.labels)
    assert following.labels == LabelSet(("triangle", "blue object"), (2, 1))
    assert following.texts is encoded.texts


def test_the_tower_is_loaded_with_the_first_prompts(tmp_path):
    encoder = PromptEncoder("tiny_clip", path=tmp_path / "nowhere.safetensors", device=CPU)
    assert encoder.unknown_words(["zebra"]) == []
    with pytest.raises(ParameterError, match="1 to 254"):
        encoder.encode([])
    with pytest.raises(WeightsError, match="no weights file"):
        encoder.encode(["red circle"])


def test_the_tower_is_loaded_once(encoder, monkeypatch):
    calls = []

    def load(*arguments, **options):
        calls.append(arguments)
        return load_clip_text(*arguments, **options)

    monkeypatch.setattr("objloc_ros.engine.prompts.load_clip_text", load)
    for prompts in (["red"], ["blue"], ["red", "blue"]):
        encoder.encode(prompts)
    assert calls == [("tiny_clip",)]


def test_unknown_words_are_named_once_in_their_order(encoder):
    encoder.encode(["red"])
    assert encoder.unknown_words(["red zebra", "blue Giraffe zebra", "circle"]) == ["zebra", "Giraffe"]


def test_imagenet_stands_for_openais_templates():
    templates = expand_templates([IMAGENET])
    assert len(templates) == 80
    assert [template.replace("{}", "dog") for template in templates] == [
        make("dog") for make in open_clip.OPENAI_IMAGENET_TEMPLATES
    ]
    assert expand_templates((IMAGENET,)) == templates


@pytest.mark.parametrize("templates", [["{}"], ["a {}", "the {}"], ["x" * 198 + "{}"], ["{}"] * MAX_TEMPLATES])
def test_other_templates_stand_for_themselves(templates):
    assert expand_templates(templates) == tuple(templates)


@pytest.mark.parametrize(
    ("templates", "message"),
    [
        ([], "templates must be 1 to 100 texts, got 0"),
        (["{}"] * 101, "templates must be 1 to 100 texts, got 101"),
        (["a photo"], r"a template must have one \{\} .* got 'a photo'"),
        (["a {} and a {}"], r"a template must have one \{\} .* got 'a \{\} and a \{\}'"),
        (["a {0}"], r"got 'a \{0\}'"),
        ([""], "got ''"),
        (["{}", "imagenet"], "be the only one and named 'imagenet'; got 'imagenet'"),
        (["x" * 199 + "{}"], "at most 200 characters"),
    ],
)
def test_templates_that_break_a_rule_are_refused(templates, message):
    with pytest.raises(ParameterError, match=message):
        expand_templates(templates)
    with pytest.raises(ParameterError, match=message):
        check_prompts("tiny_clip", ["dog"], templates)


def test_prompts_are_judged_without_a_tower(monkeypatch):
    monkeypatch.setattr("objloc_ros.engine.prompts.load_clip_text", None)
    check_prompts("clip_vitb16", ["dog", "traffic cone"], ["imagenet"])
    check_prompts("tiny_clip", ["dog"], DEFAULT_TEMPLATES)


@pytest.mark.parametrize("name", CLIP_SPECS)
def test_a_prompt_must_fit_every_template(name):
    fits = " ".join(["dog"] * (CLIP_SPECS[name].context - 2))
    check_prompts(name, ["cat", fits], ["{}"])
    with pytest.raises(ParameterError, match=r"'the dog dog dog dog.* dog dog' has 78 tokens, at most 77 are read"):
        check_prompts(name, ["cat", fits], ["{}", "the {}"])


@pytest.mark.parametrize("prompts", [[], [""], ["dog", "Dog"], ["a\ndog"], [f"dog {i}" for i in range(255)]])
def test_prompts_that_break_a_rule_are_refused(prompts):
    with pytest.raises(ParameterError, match="prompts must"):
        check_prompts("tiny_clip", prompts, DEFAULT_TEMPLATES)


def test_an_unknown_model_is_named():
    with pytest.raises(ParameterError, match="unknown CLIP model 'clip_rn50'"):
        check_prompts("clip_rn50", ["dog"], DEFAULT_TEMPLATES)


def test_a_pipeline_without_prompts_has_no_labels(setup):
    assert setup.pipeline.labels is None
    assert setup.pipeline.unknown_words() == []
    assert setup.run() is None


def test_set_prompts_holds_from_the_next_run_on(setup):
    labels = setup.pipeline.set_prompts(["red circle", "blue zebra"])
    assert labels == setup.pipeline.labels == LabelSet(("red circle", "blue zebra"), (0, 1))
    assert setup.run().labels is labels
    assert setup.pipeline.unknown_words() == ["zebra"]
    assert setup.pipeline.set_prompts(["triangle", "red circle"]).ids == (2, 0)
    assert setup.run().labels.prompts == ("triangle", "red circle")
    assert setup.pipeline.unknown_words() == []


@pytest.mark.parametrize(
    ("prompts", "templates"),
    [
        ([], DEFAULT_TEMPLATES),
        (["blue", "blue"], DEFAULT_TEMPLATES),
        (["blue"], []),
        (["blue"], ["a photo"]),
        (["blue", "dog " * 90], DEFAULT_TEMPLATES),
    ],
)
def test_a_set_that_fails_leaves_the_old_one(setup, prompts, templates):
    before = setup.pipeline.set_prompts(["red circle", "triangle"])
    seen = setup.run()
    with pytest.raises(ParameterError):
        setup.pipeline.set_prompts(prompts, templates)
    assert setup.pipeline.labels is before
    assert setup.run() is seen


def test_a_failing_tower_leaves_the_old_set(setup, monkeypatch):
    before = setup.pipeline.set_prompts(["red circle"])

    def fail(*arguments):
        raise RuntimeError("out of memory")

    monkeypatch.setattr("objloc_ros.backbones.clip_text.embed_tokens", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        setup.pipeline.set_prompts(["blue", "triangle"])
    assert setup.pipeline.labels is before
    monkeypatch.undo()
    assert setup.pipeline.set_prompts(["blue", "triangle"]).ids == (1, 2)


def test_encoding_changes_nothing(setup):
    setup.pipeline.set_prompts(["red circle"])
    encoded = setup.pipeline.encode_prompts(["blue"])
    assert setup.pipeline.labels.prompts == ("red circle",)
    labels = setup.pipeline.use_prompts(encoded)
    assert labels is setup.pipeline.labels
    assert labels == LabelSet(("blue",), (1,))


def test_numbers_follow_the_set_in_force_when_prompts_are_taken_over(setup):
    """Not the one in force when they were encoded, which another may have replaced meanwhile."""
    setup.pipeline.set_prompts(["red circle", "triangle"])
    late = setup.pipeline.encode_prompts(["red circle", "blue", "photo"])
    assert setup.pipeline.set_prompts(["blue", "triangle"]).ids == (2, 1)
    assert setup.pipeline.use_prompts(late).names() == {0: "red circle", 2: "blue", 3: "photo"}


def test_a_run_ends_with_the_prompts_it_began_with(setup):
    first = setup.pipeline.set_prompts(["red circle"])
    setup.head.entered.clear()
    setup.head.go.clear()
    seen = []
    thread = threading.Thread(target=lambda: seen.append(setup.run()))
    thread.start()
    assert setup.head.entered.wait(PATIENCE_S)
    second = setup.pipeline.set_prompts(["blue", "red circle"])
    setup.head.go.set()
    thread.join()
    assert seen[0].labels is first
    assert len(seen[0].texts) == 2
    assert setup.run().labels is second


def test_a_pipeline_without_a_text_tower_says_so():
    pipeline = Pipeline(Backbone(build_vit("tiny").eval(), name="tiny", device=CPU, short_side=None), {"head": Head()})
    with pytest.raises(ParameterError, match="this pipeline has no text tower"):
        pipeline.set_prompts(["dog"])
    assert pipeline.unknown_words() == []
