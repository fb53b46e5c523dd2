"""Prompts on their way into the methods: checked, numbered, encoded; all of it away from the frames."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import torch
from open_clip import OPENAI_IMAGENET_TEMPLATES
from torch import Tensor

from objloc_ros.backbones.clip_text import ClipText, check_lengths, fill_template
from objloc_ros.backbones.lite_clip import LITE_CLIP
from objloc_ros.backbones.lite_text import LiteText
from objloc_ros.backbones.weights import load_clip_text, load_noun_table, load_tokenizer
from objloc_ros.errors import ParameterError
from objloc_ros.methods.exemplar import Exemplar
from objloc_ros.types import BACKGROUND, DEFAULT_TEMPLATES, LabelSet, check_prompt_texts

IMAGENET = "imagenet"
"""In place of templates: OpenAI's 80, which CLIP-DINOiser uses."""

MAX_TEMPLATES = 100


@dataclass(frozen=True)
class EncodedPrompts:
    """A set of prompts that has been checked and encoded, and is numbered when it comes into force.

    Args:
        prompts: P texts.
        texts: Unit vectors float32 [1 + P, D], the background's first.
        exemplars: Classes that were shown, by name: E of them.
    """

    prompts: tuple[str, ...]
    texts: Tensor
    exemplars: Mapping[str, Exemplar] = field(default_factory=dict)

    def number(self, previous: LabelSet | None) -> ActivePrompts:
        """Give out ids as for the set that follows another: prompts that stay keep theirs."""
        labels = LabelSet.number((*self.prompts, *self.exemplars), previous)
        return ActivePrompts(labels, self.texts, tuple(self.exemplars.values()))


@dataclass(frozen=True)
class ActivePrompts:
    """A set of prompts in force.

    Args:
        labels: The prompts, then the exemplars' names, and their ids: P + E.
        texts: Unit vectors float32 [1 + P, D], the background's first.
        exemplars: E classes that were shown.
    """

    labels: LabelSet
    texts: Tensor
    exemplars: tuple[Exemplar, ...] = ()

    @property
    def prompts(self) -> tuple[str, ...]:
        """The P prompts."""
        return self.labels.prompts[: len(self.labels) - len(self.exemplars)]


class PromptEncoder:
    """A text tower that is loaded when the first prompts come, and remembers what it has encoded; thread-safe.

    Args:
        name: Name of the CLIP model.
        path: Weights file; None for the registered one.
        device: Where it runs.
    """

    def __init__(self, name: str, *, path: str | Path | None = None, device: torch.device) -> None:
        self._name, self._path, self._device = name, path, device
        self._tower: ClipText | LiteText | None = None
        self._lock = threading.Lock()

    def encode(self, prompts: Sequence[str], templates: Sequence[str] = DEFAULT_TEMPLATES) -> EncodedPrompts:
        """Check and encode prompts.

        Args:
            prompts: 1 to 254 different texts.
            templates: Texts with one "{}" each, or "imagenet".

        Raises:
            ParameterError: If prompts or templates break a constraint.
            WeightsError: If the text tower's weights are missing or refused.
        """
        check_prompt_texts(prompts)
        sentences = expand_templates(templates)
        with self._lock:
            if self._tower is None:
                self._tower = load_clip_text(self._name, path=self._path, device=self._device)
            return EncodedPrompts(tuple(prompts), self._tower.encode([BACKGROUND, *prompts], sentences))

    def unknown_words(self, prompts: Sequence[str]) -> list[str]:
        """Return the words that the text tower has never met, each once; none for large towers, which read letters."""
        if self._tower is None:
            return []
        return list(dict.fromkeys(word for prompt in prompts for word in self._tower.unknown_words(prompt)))


def check_prompts(
    name: str, prompts: Sequence[str], templates: Sequence[str], *, path: str | Path | None = None
) -> None:
    """Check prompts and templates without encoding them.

    Args:
        name: Name of the CLIP model.
        prompts: See `PromptEncoder.encode`.
        templates: See `PromptEncoder.encode`.
        path: Its weights file; None for the registered one.

    Raises:
        ParameterError: If they break a constraint; the message names it.
        WeightsError: If the file of the model's nouns or tokens, where it has one, is missing or refused.
    """
    check_prompt_texts(prompts)
    if name == LITE_CLIP:
        expand_templates(templates)
        return LiteText(load_noun_table(path), torch.device("cpu")).check(prompts)
    sentences = (fill_template(template, prompt) for template, prompt in product(expand_templates(templates), prompts))
    check_lengths(load_tokenizer(name, path=path), sentences)


def expand_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """Replace the name of the ImageNet templates by the templates themselves.

    Raises:
        ParameterError: If there are none or too many, or one does not have exactly one place for a prompt.
    """
    if tuple(templates) == (IMAGENET,):
        return tuple(make("{}") for make in OPENAI_IMAGENET_TEMPLATES)
    if not 1 <= len(templates) <= MAX_TEMPLATES:
        raise ParameterError(f"templates must be 1 to {MAX_TEMPLATES} texts, got {len(templates)}")
    for template in templates:
        if template.count("{}") != 1 or len(template) > 200:
            raise ParameterError(
                f"a template must have one {{}} and at most 200 characters, or be the only one and named {IMAGENET!r}; "
                f"got {template[:60]!r}"
            )
    return tuple(templates)
