"""Captions of objects with known attributes, in the groups that the embedded CLIP pair learns to tell apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
import torch
from open_clip import OPENAI_IMAGENET_TEMPLATES
from torch import Tensor

from objloc_ros.backbones.clip_text import byte_pairs
from objloc_ros.scenes.attributes import COLOURS, KEPT_OUT, PATTERNS, SHAPES, Attributes

BACKGROUND = "background"
"""What is said of a picture, or a part of it, without an object."""

SHORT = ("{}", "a {}", "the {}", "a photo of a {}", "a photo of the {}", "a picture of a {}", "there is a {}")
IMAGENET_TEMPLATES = tuple(make("{}") for make in OPENAI_IMAGENET_TEMPLATES)
NOUNS = ("object", "thing", "shape", "shoggoth")
"""Words in place of a shape; the last one stands for whatever noun the text tower will never have seen."""

SYNONYMS = {"plain": ("plain", "solid"), "checkered": ("checkered", "checked")}
PLURALS = {**{shape: f"{shape}s" for shape in SHAPES}, "cross": "crosses", "object": "objects", "thing": "things"}

PAIRS = tuple(pair for pair in product(COLOURS, SHAPES) if pair not in KEPT_OUT)


@dataclass(frozen=True)
class Group:
    """Kinds of object that one attribute, or a pair, distinguishes.

    Args:
        kinds: The kinds; a background comes on top as the last one.
        of: The kind of an object.
        weight: Weight of the group in the loss.
    """

    kinds: tuple[tuple[str, ...], ...]
    of: Callable[[Attributes], tuple[str, ...]]
    weight: float

    def index(self, attributes: Attributes | None) -> int:
        """Return the number of an object's kind; of the background for None."""
        return len(self.kinds) if attributes is None else self.kinds.index(self.of(attributes))


GROUPS = (
    Group(tuple((word,) for word in COLOURS), lambda a: (a.colour,), 0.6),
    Group(tuple((word,) for word in PATTERNS), lambda a: (a.pattern,), 0.6),
    Group(tuple((word,) for word in SHAPES), lambda a: (a.shape,), 1.5),
    Group(PAIRS, lambda a: (a.colour, a.shape), 1.0),
)


COLOURS_RULED_OUT = torch.tensor(
    [[(colour, shape) in KEPT_OUT for colour in (*COLOURS, BACKGROUND)] for shape in (*SHAPES, BACKGROUND)]
)
"""bool [shapes + 1, colours + 1]: no training object of this shape has this colour.

That is our doing and says nothing about either word, so such a caption is no counter-example: with it as one, a tower
learns that whatever is red is no star.
"""


def make_captions(rng: np.random.Generator, group: Group) -> list[str]:
    """Return one caption of each kind of a group, the background's last, all in the words of one template."""
    templates = SHORT if rng.random() < 0.7 else IMAGENET_TEMPLATES
    template = templates[int(rng.integers(len(templates)))]
    many, noun = bool(rng.random() < 0.12), NOUNS[int(rng.integers(len(NOUNS)))]
    phrases = [_phrase(rng, kind, noun, many) for kind in group.kinds]
    return [template.replace("{}", phrase) for phrase in [*phrases, BACKGROUND]]


def known_tokens() -> Tensor:
    """Return CLIP's ids of all tokens that captions may have, int64 [V], ascending."""
    words = [*COLOURS, *PATTERNS, *SHAPES, *NOUNS[:-1], *PLURALS.values(), *sum(SYNONYMS.values(), ()), BACKGROUND]
    texts = [*words, *(template.replace("{}", " ") for template in (*SHORT, *IMAGENET_TEMPLATES))]
    return torch.tensor(sorted({token for text in texts for token in byte_pairs().encode(text)}))


def match_captions(groups: Sequence[Group], visible: Sequence[Sequence[Attributes]]) -> list[npt.NDArray[np.float32]]:
    """Return which captions of each group are true of each picture.

    Args:
        groups: The groups.
        visible: Objects in sight in each of B pictures; none means background.

    Returns:
        Per group float32 [B, kinds + 1], rows summing to 1: a picture of two objects has two true captions.
    """
    tables = []
    for group in groups:
        table = np.zeros((len(visible), len(group.kinds) + 1), np.float32)
        for row, objects in zip(table, visible, strict=True):
            for attributes in objects or (None,):
                row[group.index(attributes)] += 1
        tables.append(table / table.sum(1, keepdims=True))
    return tables


def _phrase(rng: np.random.Generator, kind: tuple[str, ...], noun: str, many: bool) -> str:
    """Return the words of a kind, a noun at their end, at times in the plural."""
    words = [str(rng.choice(SYNONYMS[word])) if word in SYNONYMS else word for word in kind]
    if kind[-1] not in SHAPES:
        words.append(noun)
    if many and words[-1] in PLURALS:
        words[-1] = PLURALS[words[-1]]
    return " ".join(words)
