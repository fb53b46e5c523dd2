"""Prompts to token ids: CLIP's byte-pair encoding, all of it or only the tokens that a small text tower has seen."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor

PAD, UNKNOWN, START = 0, 1, 2
"""The first ids of a compact vocabulary; its last one ends a text."""

SPECIAL = 4
"""Ids of a compact vocabulary that are not CLIP's tokens."""


@cache
def byte_pairs() -> SimpleTokenizer:
    """CLIP's encoding; reading its table takes a fifth of a second."""
    return SimpleTokenizer()


class Tokenizer:
    """Texts to the ids of one text tower.

    Args:
        context: Longest text in tokens, start and end among them.
        known: CLIP's ids of the tokens that the tower knows, int64 [V], ascending; None if it knows all of them.
    """

    def __init__(self, context: int, known: Tensor | None = None) -> None:
        self.context = context
        self._compact = None if known is None else {int(token): i for i, token in enumerate(known, start=SPECIAL - 1)}

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Token ids int64 [n, context]; a text that is too long is cut, its end kept."""
        ids = torch.zeros(len(texts), self.context, dtype=torch.int64)
        for row, text in zip(ids, texts, strict=True):
            tokens = self._tokens(text)
            cut = [*tokens[: self.context - 1], tokens[-1]] if len(tokens) > self.context else tokens
            row[: len(cut)] = torch.tensor(cut)
        return ids

    def length(self, text: str) -> int:
        """Number of CLIP's tokens, start and end among them; a compact vocabulary may need fewer."""
        return len(byte_pairs().encode(text)) + 2

    def unknown_words(self, text: str) -> list[str]:
        """Words of a text of which the tower knows no part."""
        if self._compact is None:
            return []
        words = text.split()
        return [word for word in words if not any(token in self._compact for token in byte_pairs().encode(word))]

    def _tokens(self, text: str) -> list[int]:
        pairs = byte_pairs()
        tokens = pairs.encode(text)
        if self._compact is None:
            return [pairs.sot_token_id, *tokens, pairs.eot_token_id]
        ids = [self._compact.get(token, UNKNOWN) for token in tokens]
        # A word that nobody knows is one thing, however many pieces it has.
        ids = [one for i, one in enumerate(ids) if one != UNKNOWN or i == 0 or ids[i - 1] != UNKNOWN]
        return [START, *ids, len(self._compact) + SPECIAL - 1]
