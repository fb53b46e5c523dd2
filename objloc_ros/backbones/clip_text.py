"""CLIP's text tower: prompts to token ids by byte-pair encoding, and to unit vectors in one batch, each prompt once.

A small text tower has seen only some of CLIP's tokens; it gets those alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

import torch
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transformer import TextTransformer
from torch import Tensor
from torch.nn import functional as F

from objloc_ros.backbones.gemma_tokens import GemmaTokenizer
from objloc_ros.errors import ParameterError

PAD, UNKNOWN, START = 0, 1, 2
"""The first ids of a compact vocabulary; its last one ends a text."""

SPECIAL_TOKENS = 4
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
        self._compact = (
            None if known is None else {int(token): i for i, token in enumerate(known, start=SPECIAL_TOKENS - 1)}
        )

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Token ids int64 [n, context]; a text that is too long is cut, its end kept."""
        ids = torch.zeros(len(texts), self.context, dtype=torch.int64)
        for row, text in zip(ids, texts, strict=True):
            tokens = self._tokens(text)
            cut = [*tokens[: self.context - 1], tokens[-1]] if len(tokens) > self.context else tokens
            row[: len(cut)] = torch.tensor(cut)
        return ids

    def length(self, text: str) -> int:
        """Return the number of CLIP's tokens, start and end among them; a compact vocabulary may need fewer."""
        return len(byte_pairs().encode(text)) + 2

    def unknown_words(self, text: str) -> list[str]:
        """Return the words of a text of which the tower knows no part."""
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
        return [START, *ids, len(self._compact) + SPECIAL_TOKENS - 1]


MAX_CACHED_TEXTS = 4096
"""Embeddings that are remembered: 8 MB of the large towers'."""

TEXTS_PER_BATCH = 256
"""Texts in one pass: 80 templates of 20 prompts would otherwise need gigabytes in the large towers."""


def embed_tokens(tower: TextTransformer, ids: Tensor) -> Tensor:
    """Run a text tower on ids int64 [n, L]: float32 [n, D], not normalised.

    Columns of padding are left out: attention is causal and a text is read at its end, so they change nothing. The end
    has the highest id of a text; padding is no guide, as its id 0 is also that of the exclamation mark. A tower without
    that mask has learned with all of its columns, padding among them, and gets them.
    """
    if tower.attn_mask is None:
        whole: Tensor = tower(ids)
        return whole.float()
    ends = ids.argmax(1)
    length = int(ends.max()) + 1 if len(ids) else 1
    ids = ids[:, :length]
    x = tower.token_embedding(ids) + tower.positional_embedding[:length]
    x = tower.ln_final(tower.transformer(x, attn_mask=tower.attn_mask[:length, :length]))
    embedded: Tensor = x[torch.arange(len(x), device=x.device), ends] @ tower.text_projection
    return embedded.float()


class ClipText:
    """A text tower with its tokens and what it has encoded so far.

    Args:
        name: Name of the model.
        tower: open_clip's transformer, in eval mode.
        tokenizer: Its tokens.
    """

    def __init__(self, name: str, tower: TextTransformer, tokenizer: Tokenizer | GemmaTokenizer) -> None:
        self.name = name
        self.tokenizer = tokenizer
        self._tower = tower
        self._cache: dict[tuple[str, str], Tensor] = {}

    @torch.inference_mode()
    def encode(self, prompts: Sequence[str], templates: Sequence[str]) -> Tensor:
        """Return unit vectors of prompts: float32 [P, D].

        Each template's embedding is normalised, their mean is normalised again (Radford et al., section 3.1.4). What
        was encoded before comes from the cache, everything else goes through the tower together.

        Args:
            prompts: Such as "traffic cone".
            templates: Such as "a photo of a {}", one or more.

        Raises:
            ParameterError: If a text has more tokens than the tower reads.
        """
        wanted = [(template, prompt) for prompt in prompts for template in templates]
        missing = [pair for pair in dict.fromkeys(wanted) if pair not in self._cache]
        self._forget(set(wanted), room_for=len(missing))
        texts = [fill_template(template, prompt) for template, prompt in missing]
        check_lengths(self.tokenizer, texts)
        for start in range(0, len(texts), TEXTS_PER_BATCH):
            ids = self.tokenizer(texts[start : start + TEXTS_PER_BATCH]).to(self._tower.positional_embedding.device)
            embedded = F.normalize(embed_tokens(self._tower, ids), dim=-1)
            self._cache.update(zip(missing[start : start + TEXTS_PER_BATCH], embedded, strict=True))
        if not wanted:
            return torch.empty(0, self._tower.output_dim, device=self._tower.positional_embedding.device)
        embedded = torch.stack([self._cache[pair] for pair in wanted])  # P*templates D
        return F.normalize(embedded.unflatten(0, (len(prompts), len(templates))).mean(1), dim=-1)

    def unknown_words(self, prompt: str) -> list[str]:
        """Return the words of a prompt of which the tower knows no part; large towers, which read letters, know all."""
        return self.tokenizer.unknown_words(prompt)

    def _forget(self, wanted: set[tuple[str, str]], *, room_for: int) -> None:
        """Drop the oldest embeddings that nobody wants now, as far as the cache would grow beyond its limit."""
        surplus = len(self._cache) + room_for - MAX_CACHED_TEXTS
        for pair in [pair for pair in self._cache if pair not in wanted][: max(0, surplus)]:
            del self._cache[pair]


def check_lengths(tokenizer: Tokenizer | GemmaTokenizer, texts: Iterable[str]) -> None:
    """Raise ParameterError if a text has more tokens than a tower reads."""
    for text in texts:
        length = tokenizer.length(text)
        if length > tokenizer.context:
            raise ParameterError(f"{shorten(text)!r} has {length} tokens, at most {tokenizer.context} are read")


def fill_template(template: str, prompt: str) -> str:
    """Return a template with a prompt in it; braces in the prompt stay what they are."""
    return template.replace("{}", prompt)


def shorten(text: str, limit: int = 40) -> str:
    """Return a text for a message, its middle left out if it is long."""
    return text if len(text) <= limit else f"{text[: limit // 2]}...{text[-limit // 4 :]}"
