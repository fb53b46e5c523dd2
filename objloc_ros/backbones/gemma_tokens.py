"""SigLIP 2's tokens: Gemma's vocabulary, read from the `tokenizer.json` that is published beside the weights."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from open_clip.tokenizer import get_clean_fn
from torch import Tensor

from objloc_ros.errors import WeightsError

END, PAD = "<eos>", "<pad>"


class GemmaTokenizer:
    """Texts to the ids of SigLIP 2's text tower: lower case, without punctuation, the end marked, filled up to 64.

    Args:
        path: `tokenizer.json`.
        context: Longest text in tokens, the end among them.

    Raises:
        WeightsError: If the file is not what it should be, or the library that reads it is not installed.
    """

    def __init__(self, path: Path, context: int) -> None:
        self.context = context
        self._encoding = _read_encoding(path, path.stat().st_mtime_ns)
        self._clean = get_clean_fn("canonicalize")
        end, pad = (self._encoding.token_to_id(token) for token in (END, PAD))
        if end is None or pad is None:
            raise WeightsError(f"{path} does not hold SigLIP 2's tokens: {END} and {PAD} must be among them")
        self._end, self._pad = end, pad

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Token ids int64 [n, context]; a text that is too long is cut, its end kept."""
        ids = torch.full((len(texts), self.context), self._pad, dtype=torch.int64)
        for row, text in zip(ids, texts, strict=True):
            tokens = [*self._tokens(text)[: self.context - 1], self._end]
            row[: len(tokens)] = torch.tensor(tokens)
        return ids

    def length(self, text: str) -> int:
        """Return the number of tokens, the end among them."""
        return len(self._tokens(text)) + 1

    def unknown_words(self, text: str) -> list[str]:
        """Return no words: what is no token is read byte by byte."""
        return []

    def _tokens(self, text: str) -> list[int]:
        ids: list[int] = self._encoding.encode(self._clean(text), add_special_tokens=False).ids
        return ids


@lru_cache(maxsize=2)
def _read_encoding(path: Path, _changed_ns: int) -> Any:
    """Read the file, which takes a second."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise WeightsError(
            "SigLIP 2 reads texts with the package tokenizers, which is not installed: pip install tokenizers"
        ) from error
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise WeightsError(f"{path} cannot be read as tokens: {error}") from error
