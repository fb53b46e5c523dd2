"""Sentence embeddings of all-MiniLM-L6-v2 in PyTorch alone, for tables that are made once.

Wang et al., "MiniLM: Deep Self-Attention Distillation for Task-Agnostic Compression of Pre-Trained Transformers",
NeurIPS 2020; fine-tuned by the authors of sentence-transformers.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from objloc_ros.errors import WeightsError

WIDTH, HEADS, LAYERS, MLP_WIDTH, EPSILON = 384, 12, 6, 1536, 1e-12

ATTENTION = "attention.self."
LAYER_NAMES = {
    "self_attn.out_proj": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "linear1": "intermediate.dense",
    "linear2": "output.dense",
    "norm2": "output.LayerNorm",
}
"""PyTorch's names within a layer, and BERT's."""


class MiniLM:
    """The model with its word pieces.

    Args:
        folder: With `model.safetensors` and `vocab.txt`.

    Raises:
        WeightsError: If they are missing or those of another model.
    """

    def __init__(self, folder: Path) -> None:
        try:
            state = {key.removeprefix("bert."): value for key, value in load_file(folder / "model.safetensors").items()}
            pieces = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
            self.pieces = {piece: number for number, piece in enumerate(pieces) if piece}
            """Ids of the word pieces; those of frequent words are low."""
            self._tables = [
                state[f"embeddings.{kind}_embeddings.weight"] for kind in ("word", "position", "token_type")
            ]
            self._norm = nn.LayerNorm(WIDTH, EPSILON)
            self._norm.load_state_dict({name: state[f"embeddings.LayerNorm.{name}"] for name in ("weight", "bias")})
            layer = nn.TransformerEncoderLayer(WIDTH, HEADS, MLP_WIDTH, 0.0, "gelu", EPSILON, batch_first=True)
            self._encoder = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
            self._encoder.load_state_dict(_rename(state))
        except (OSError, SafetensorError, KeyError, RuntimeError) as error:
            raise WeightsError(f"{folder} does not hold all-MiniLM-L6-v2: {error}") from error
        self._encoder.eval()

    @torch.inference_mode()
    def embed(self, texts: Sequence[str], batch: int = 256) -> Tensor:
        """Return unit vectors of texts: float32 [n, 384], the mean over the pieces, start and end among them."""
        ids = [self.tokenize(text) for text in texts]
        embedded = torch.empty(len(texts), WIDTH)
        order = sorted(range(len(texts)), key=lambda i: len(ids[i]))
        for length in sorted({len(pieces) for pieces in ids}):  # texts of one length need no padding
            alike = [i for i in order if len(ids[i]) == length]
            for start in range(0, len(alike), batch):
                part = alike[start : start + batch]
                word, position, kind = self._tables
                x = word[torch.tensor([ids[i] for i in part])] + position[:length] + kind[0]  # n length 384
                embedded[part] = F.normalize(self._encoder(self._norm(x)).mean(1), dim=-1)
        return embedded

    def tokenize(self, text: str) -> list[int]:
        """Return the ids of a text's word pieces, the longest first, between start and end."""
        plain = "".join(
            char for char in unicodedata.normalize("NFD", text.lower()) if unicodedata.category(char) != "Mn"
        )
        spaced = "".join(char if char.isalnum() else f" {char} " for char in plain)
        ids = [piece for word in spaced.split() for piece in self._split(word)]
        return [self.pieces["[CLS]"], *ids, self.pieces["[SEP]"]]

    def _split(self, word: str) -> list[int]:
        ids, start = [], 0
        while start < len(word):
            fitting = (
                end for end in range(len(word), start, -1) if ("##" * (start > 0) + word[start:end]) in self.pieces
            )
            end = next(fitting, None)
            if end is None:
                return [self.pieces["[UNK]"]]
            ids.append(self.pieces["##" * (start > 0) + word[start:end]])
            start = end
        return ids


def _rename(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the layers' tensors under PyTorch's names."""
    renamed = {}
    for layer in range(LAYERS):
        theirs = f"encoder.layer.{layer}."
        for kind in ("weight", "bias"):
            parts = [state[f"{theirs}{ATTENTION}{part}.{kind}"] for part in ("query", "key", "value")]
            renamed[f"layers.{layer}.self_attn.in_proj_{kind}"] = torch.cat(parts)
            for name, their_name in LAYER_NAMES.items():
                renamed[f"layers.{layer}.{name}.{kind}"] = state[f"{theirs}{their_name}.{kind}"]
    return renamed
