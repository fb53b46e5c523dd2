"""The text tower of `lite_clip`: a table of nouns instead of a network.

Each noun has a word embedding (all-MiniLM-L6-v2) and, where WordNet knows kinds of it among ImageNet's classes, those
classes. Both say how much a class speaks for the noun: ConSE seen from the text's side (see `lite_clip`). The tower
reads the noun of a prompt and leaves the words around it out; a prompt without a known noun is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import torch
from torch import Tensor
from torch.nn import functional as F

from objloc_ros.backbones.lite_clip import CLASSES, LITE_CLIP
from objloc_ros.errors import ParameterError
from objloc_ros.types import BACKGROUND

COUNT_EXPONENT = 0.35
"""A noun's evidence is divided by its number of classes to this power: 118 breeds of dogs collect more of what a
classifier is unsure of than one class does. 0: all of it counts; 0.5: its rows have unit length."""

LEAST_COSINE, SHARPNESS = 0.35, 4.0
"""Classes whose names' embeddings are less similar to the noun's do not count; the power that favours the nearest."""

RELATED, RELATED_ALONE = 0.3, 0.7
"""Weight of the nearest class by its embedding, where WordNet knows kinds of the noun, and where it knows none."""

GAIN = 0.25
"""Factor of the evidence in the cosine: with CLIP's factor of 100 before the softmax, what is certain is 25 above what
is not there."""

BACKGROUND_EVIDENCE = 0.03
"""What the word background always has: a noun needs more where the saliency does not decide."""

LEAST_LIKENESS, MOST_SUGGESTIONS = 0.75, 4
"""How similar in spelling a known noun must be to be suggested, and how many are."""

DETERMINERS = re.compile(r"a|an|the|this|that|these|those|some|my|your|his|her|its|our|their|one|two|three")

ENDS_NOUN = re.compile(
    r"of|with|without|on|in|at|by|near|under|over|above|below|behind|beside|between|from|for|to|and|or|while|that|"
    r"which|who|is|are|into|onto|inside|outside|against"
)
"""What follows one of these words does not change what the thing is."""

PICTURE_OF = re.compile(
    r"^((an?|the) )?([a-z-]+ )?(photo|photograph|picture|image|view|drawing|painting|close-up|closeup|pair|group|bunch|"
    r"piece|kind|type) of "
)

REGULAR_PLURALS = (("ies", "y"), ("ves", "f"), ("ves", "fe"), ("es", ""), ("s", ""))
"""Endings and what they become; WordNet's list of irregular ones is part of the table."""


@dataclass(frozen=True)
class NounTable:
    """Nouns and what they have to do with the classes.

    Args:
        rows: Row of each spelling: nouns, and irregular plurals of them.
        embeddings: float32 [N, 384], unit vectors of the nouns.
        class_embeddings: float32 [classes, 384], unit vectors of the classes' names.
        kinds: int64 [M, 2], a row and a class that is a kind of it.
        kind_weights: float32 [M] in (0, 1], less than 1 for rare senses of the noun.
    """

    rows: dict[str, int]
    embeddings: Tensor
    class_embeddings: Tensor
    kinds: Tensor
    kind_weights: Tensor

    @classmethod
    def unpack(cls, state: Mapping[str, Tensor]) -> NounTable:
        """Read a table from tensors.

        Args:
            state: "words" uint8: lines of UTF-8, in the order of "rows" int16 [spellings]; "embeddings" int8 [N, 384];
                "class_embeddings" int8 [classes, 384]; "kinds" int16 [M, 2]; "kind_weights" float16 [M].

        Raises:
            KeyError: If one is missing.
            ValueError: If they do not fit together.
        """
        words, rows = bytes(state["words"].numpy()).decode().split("\n"), state["rows"].tolist()
        table = cls(
            rows=dict(zip(words, rows, strict=True)),
            embeddings=F.normalize(state["embeddings"].float(), dim=1),
            class_embeddings=F.normalize(state["class_embeddings"].float(), dim=1),
            kinds=state["kinds"].long(),
            kind_weights=state["kind_weights"].float(),
        )
        if len(table.class_embeddings) != CLASSES or max(rows) >= len(table.embeddings):
            raise ValueError(
                f"{len(table.class_embeddings)} classes, rows up to {max(rows)} of {len(table.embeddings)}"
            )
        return table

    def evidence(self, rows: Sequence[int]) -> Tensor:
        """Compute how much each class speaks for nouns: float32 [n, classes], not negative.

        Args:
            rows: Rows of the nouns.
        """
        wanted = torch.tensor(rows, dtype=torch.int64)
        where = wanted[:, None] == self.kinds[:, 0]  # n M
        kinds = torch.zeros(len(rows), CLASSES)
        place, entry = where.nonzero(as_tuple=True)
        kinds[place, self.kinds[entry, 1]] = self.kind_weights[entry]
        cosines = self.embeddings[wanted] @ self.class_embeddings.T  # n classes
        near = ((cosines - LEAST_COSINE) / (1 - LEAST_COSINE)).clamp(min=0)
        near = (near / near.amax(1, keepdim=True).clamp(min=1e-6)) ** SHARPNESS
        share = torch.where(kinds.sum(1, keepdim=True) > 0, RELATED, RELATED_ALONE)
        return _normalise_count(kinds) + share * _normalise_count(near)


def _normalise_count(evidence: Tensor) -> Tensor:
    return evidence / evidence.sum(1, keepdim=True).clamp(min=1) ** COUNT_EXPONENT


class LiteText:
    """The text tower.

    Args:
        table: What it knows.
        device: Where its vectors are wanted.
    """

    name = LITE_CLIP

    def __init__(self, table: NounTable, device: torch.device) -> None:
        self.table = table
        self._device = device

    def encode(self, prompts: Sequence[str], templates: Sequence[str]) -> Tensor:
        """Return unit vectors of prompts: float32 [P, D].

        Args:
            prompts: Such as "dog", "traffic lights" or "a photo of a brown dog"; "background" is none of all nouns.
            templates: Sentences around a prompt; they say nothing about nouns.

        Raises:
            ParameterError: If no noun of a prompt is known, or two prompts have the same noun.
        """
        self.check(prompts)
        evidence = torch.full((len(prompts), CLASSES), BACKGROUND_EVIDENCE)
        things = [i for i, prompt in enumerate(prompts) if not _is_background(prompt)]
        evidence[things] = self.table.evidence([self.table.rows[self.find_noun(prompts[i])] for i in things])
        scaled = GAIN * evidence
        scaled = scaled / scaled.norm(dim=1, keepdim=True).clamp(min=1)
        rest = (1 - scaled.square().sum(1, keepdim=True)).clamp(min=0).sqrt()
        return torch.cat([scaled, torch.zeros_like(rest), rest], dim=1).to(self._device)

    def check(self, prompts: Sequence[str]) -> None:
        """Raise ParameterError if no noun of a prompt is known, or two prompts mean the same thing to this tower."""
        seen: dict[int, str] = {}
        for prompt in prompts:
            if _is_background(prompt):
                continue
            row = self.table.rows[self.find_noun(prompt)]
            if row in seen:
                raise ParameterError(
                    f"{seen[row]!r} and {prompt!r} are the same to {self.name}, which reads nouns and neither colours "
                    "nor shapes; leave one of them out, or take tiny_clip for those"
                )
            seen[row] = prompt

    def find_noun(self, prompt: str) -> str:
        """Return the known noun that a prompt is about, as the table spells it: its longest known ending.

        Raises:
            ParameterError: If there is none; the message names the nearest known ones.
        """
        words = _head_words(prompt)
        for start in range(len(words)):
            for spelling in _singulars(" ".join(words[start:])):
                if spelling in self.table.rows:
                    return spelling
        asked = " ".join(words) or prompt.strip()
        nearest = self._suggest(words)
        hint = f"; nearest known: {', '.join(map(repr, nearest))}" if nearest else ""
        raise ParameterError(f"{self.name} does not know {asked!r}{hint} (it knows {len(self.table.rows)} nouns)")

    def unknown_words(self, prompt: str) -> list[str]:
        """Return the words before a prompt's noun that are left out, such as colours.

        Raises:
            ParameterError: If no noun is known.
        """
        if _is_background(prompt):
            return []
        words = _head_words(prompt)
        return words[: len(words) - len(self.find_noun(prompt).split())]

    def _suggest(self, words: Sequence[str]) -> list[str]:
        """Return known nouns like the prompt or its last word; those of the same letters or words first."""
        known = list(self.table.rows)
        nearest: list[str] = []
        for text in dict.fromkeys([" ".join(words), *words[-1:]]):
            letters = sorted(text)
            nearest += [noun for noun in known if len(noun) == len(text) and sorted(noun) == letters]
            nearest += [noun for noun in known if text in noun.split()]
            nearest += get_close_matches(text, known, n=MOST_SUGGESTIONS, cutoff=LEAST_LIKENESS)
        return list(dict.fromkeys(nearest))[:MOST_SUGGESTIONS]


def _is_background(prompt: str) -> bool:
    return " ".join(prompt.lower().split()) == BACKGROUND


def _head_words(prompt: str) -> list[str]:
    """Return the words up to the noun, without determiners, "a photo of" and what follows the noun."""
    text = " ".join(re.sub(r"[^\w\s'-]", " ", prompt.lower()).replace("_", " ").split())
    words = PICTURE_OF.sub("", text + " ").split()
    while words and DETERMINERS.fullmatch(words[0]):
        words = words[1:]
    end = next((i for i, word in enumerate(words) if i and ENDS_NOUN.fullmatch(word)), len(words))
    return words[:end]


def _singulars(text: str) -> Iterator[str]:
    """Yield a noun as it is, and what it may be the plural of."""
    yield text
    for ending, replacement in REGULAR_PLURALS:
        if text.endswith(ending) and len(text) > len(ending) + 1:
            yield text[: -len(ending)] + replacement
