"""SelfMask: Shin et al., "Unsupervised Salient Object Detection with Spectral Cluster Voting", CVPR workshops 2022.

A small MaskFormer (Cheng et al., NeurIPS 2021) on a vision transformer of its own: queries read the tokens, each is a
mask by its inner products with them, and says how sure it is that the mask is the salient object. It is trained on
masks that spectral clusters elect (`objloc_ros.methods.vote`, `objloc_ros.training.selfmask`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from objloc_ros.backbones.positions import Positions, sized_pos_embed
from objloc_ros.backbones.specs import IMAGENET_MEAN, IMAGENET_STD, SPECS, ViTSpec
from objloc_ros.backbones.vit import build_transformer
from objloc_ros.backbones.weights import conform, find_verified, read_state
from objloc_ros.errors import InputError, WeightsError
from objloc_ros.types import Grid

ENCODER = "dino_vits8"
"""The paper's encoder, which a file has that names no other."""

QUERIES = 20
LAYERS = 6
"""The paper's numbers of queries and of the decoder's layers."""

FORMAT = "objloc selfmask 1"
"""First entry of a file's metadata; its number is raised when the network or the metadata change their meaning."""


class Masks(NamedTuple):
    """What every layer of the decoder says about a batch.

    Args:
        masks: float32 [B, L, Q, 2h, 2w] in [0, 1], two pixels to a patch's side.
        objectness: float32 [B, L, Q, 1] in [0, 1].
    """

    masks: Tensor
    objectness: Tensor


class Decoder(nn.Module):
    """Transformer decoder whose queries start at 0, with learned positions; it returns what every layer says.

    The names of its parameters, and its arithmetic, are those of the released files: norms after each part, ReLU, the
    position of a query added to it where it attends, and no positions of the tokens.

    Args:
        width: Token width C.
        heads: Attention heads.
        layers: Number of layers L.
    """

    def __init__(self, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.TransformerDecoderLayer(width, heads, 4 * width, dropout=0.0, batch_first=True) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        for parameter in self.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, positions: Tensor, tokens: Tensor) -> Tensor:
        """Return the queries after each layer, normed: [B, L, Q, C].

        Args:
            positions: Of the queries, [Q, C].
            tokens: Of the patches, [B, N, C].
        """
        positions = positions.expand(len(tokens), -1, -1)  # B Q C
        queries = torch.zeros_like(positions)
        layers = []
        for layer in cast(Iterable[nn.TransformerDecoderLayer], self.layers):
            asked = queries + positions
            queries = layer.norm1(queries + layer.self_attn(asked, asked, queries, need_weights=False)[0])
            read = layer.multihead_attn(queries + positions, tokens, tokens, need_weights=False)[0]
            queries = layer.norm2(queries + read)
            queries = layer.norm3(queries + layer.linear2(F.relu(layer.linear1(queries))))
            layers.append(self.norm(queries))
        return torch.stack(layers, dim=1)  # B L Q C


class Scorer(nn.Module):
    """Three linear layers with ReLU between them: a query's logit of being the salient object.

    Args:
        width: Token width C.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(width, width), nn.Linear(width, width), nn.Linear(width, 1)])

    def forward(self, queries: Tensor) -> Tensor:
        """[..., C] to [..., 1]."""
        *hidden, last = self.layers
        for layer in hidden:
            queries = F.relu(layer(queries))
        logits: Tensor = last(queries)
        return logits


class SelfMask(nn.Module):
    """The network, with random weights: images to masks and their objectness.

    Args:
        encoder: Architecture of the encoder.
        queries: Number of queries Q.
        layers: Number of the decoder's layers L.

    Attributes:
        patch: Patch side in pixels.
        mean: Of the pixels that it takes, RGB.
        std: Their standard deviation.
    """

    mean = IMAGENET_MEAN
    std = IMAGENET_STD

    def __init__(self, encoder: ViTSpec = SPECS[ENCODER], *, queries: int = QUERIES, layers: int = LAYERS) -> None:
        super().__init__()
        self.spec = encoder
        self.patch = encoder.patch
        self.query_embed = nn.Parameter(torch.randn(queries, encoder.embed_dim))
        self.encoder = build_transformer(encoder)
        self.decoder = Decoder(encoder.embed_dim, encoder.n_heads, layers)
        self.ffn = Scorer(encoder.embed_dim)
        self._positions = Positions(keep_or_resample)

    def train(self, mode: bool = True) -> SelfMask:
        """Switch between training and inference; an encoder that drops channels in training drops none here."""
        super().train(mode)
        self.encoder.eval()
        return self

    def forward(self, images: Tensor) -> Masks:
        """Return what every layer says.

        Args:
            images: float32 [B, 3, H, W], normalised with `mean` and `std`; zeros fill the right and the bottom up to
                multiples of `patch`.

        Raises:
            InputError: If an image is empty.
        """
        queries, pixels = self.read(images)
        masks = torch.einsum("blqc,bchw->blqhw", queries, pixels).sigmoid()
        return Masks(masks, self.ffn(queries).sigmoid())

    def predict(self, images: Tensor) -> Tensor:
        """Return the mask of the last layer's query with the highest objectness: float32 [B, 2h, 2w], logits.

        Args:
            images: See `forward`.

        Raises:
            InputError: If an image is empty.
        """
        queries, pixels = self.read(images)
        last = queries[:, -1]  # B Q C
        best = self.ffn(last)[..., 0].argmax(1)  # B
        chosen = last[torch.arange(len(last), device=last.device), best]  # B C
        return torch.einsum("bc,bchw->bhw", chosen, pixels)

    def read(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the queries after each layer, [B, L, Q, C], and the tokens' map that masks come from, [B, C, 2h, 2w].

        Raises:
            InputError: If an image is empty.
        """
        tokens, grid = self.encode(images)
        queries: Tensor = self.decoder(self.query_embed, tokens[:, 1:])
        pixels = tokens[:, 1:].transpose(1, 2).unflatten(2, grid)  # B C h w
        return queries, F.interpolate(pixels, scale_factor=2, mode="bilinear", align_corners=False)

    def encode(self, images: Tensor) -> tuple[Tensor, Grid]:
        """Return all tokens after the final norm, [B, 1 + N, C] with CLS first, and the grid of patches.

        Raises:
            InputError: If an image is empty.
        """
        height, width = images.shape[-2:]
        if not height or not width:
            raise InputError(f"expected a non-empty image, got {width}x{height} pixels")
        grid = (math.ceil(height / self.patch), math.ceil(width / self.patch))
        images = F.pad(images, (0, grid[1] * self.patch - width, 0, grid[0] * self.patch - height))
        cls_token, pos_embed = cast(Tensor, self.encoder.cls_token), cast(Tensor, self.encoder.pos_embed)
        patches = self.encoder.patch_embed(images)  # B N C
        tokens = torch.cat([cls_token.expand(len(images), -1, -1), patches], dim=1) + self._positions(pos_embed, grid)
        for block in cast(Iterable[nn.Module], self.encoder.blocks):
            tokens = block(tokens)
        return self.encoder.norm(tokens), grid


def keep_or_resample(pos_embed: Tensor, grid: Grid) -> Tensor:
    """Resample position embeddings by size, but leave them as they are for as many patches, whatever their grid.

    That is what the released weights were trained with: not DINO's rule, which adds 0.1.
    """
    as_learned = grid[0] * grid[1] == pos_embed.shape[1] - 1
    return pos_embed if as_learned else sized_pos_embed(pos_embed, grid)


def upsample(logits: Tensor, patch: int) -> Tensor:
    """Turn masks [B, 2h, 2w] into saliency at pixels: float32 [B, h * patch, w * patch] in [0, 1].

    Probabilities, not logits, are interpolated, as in the original.
    """
    fine = F.interpolate(logits.sigmoid()[:, None], scale_factor=patch // 2, mode="bilinear", align_corners=False)
    return fine[:, 0]


def save_selfmask(path: Path, model: SelfMask, encoder: str, trained_on: str = "") -> None:
    """Write a network as safetensors.

    Args:
        path: The file.
        model: The network.
        encoder: Name of its encoder's architecture, a key of `SPECS`.
        trained_on: How it was trained, in words or JSON.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    save_file(tensors, path, metadata={"format": FORMAT, "encoder": encoder, "trained_on": trained_on})


def load_selfmask(name: str = "selfmask_nq20", *, path: str | Path | None = None) -> SelfMask:
    """Load a network with its weights, frozen and in eval mode, on the CPU.

    Args:
        name: Its name in the weights registry.
        path: Weights file; None for the fetched one. Accepts what `objloc train selfmask` writes, whose metadata name
            the encoder, and the released layout with the paper's: bare, or under "model" as its trainer saves it.

    Raises:
        ParameterError: If the name is unknown.
        WeightsError: If the file is missing, has the wrong hash, cannot be read safely or does not fit.
    """
    file = find_verified(name, path)
    encoder = read_encoder(file)
    state = read_state(file)
    state = state["model"] if isinstance(state.get("model"), Mapping) else state
    state = {str(key).removeprefix("module."): value for key, value in state.items()}
    complaint = f"{file} is not a SelfMask with the encoder {encoder}"
    embed = state.get("query_embed")
    layers = {key.split(".")[2] for key in state if key.startswith("decoder.layers.")}
    if not isinstance(embed, Tensor) or embed.ndim != 2 or not len(embed) or not layers:
        raise WeightsError(f"{complaint}: query_embed [queries, channels] or decoder.layers are missing")
    model = SelfMask(SPECS[encoder], queries=len(embed), layers=len(layers))
    model.load_state_dict(conform(state, model.state_dict(), complaint))
    return model.requires_grad_(False).eval()


def read_encoder(file: Path) -> str:
    """Return the name of the encoder that a weights file has: the one in its metadata, else the paper's.

    Raises:
        WeightsError: The file cannot be read, is of another kind, or the encoder is unknown.
    """
    if file.suffix != ".safetensors":
        return ENCODER
    metadata = _read_metadata(file)
    if not metadata:
        return ENCODER
    if (written := metadata.get("format", FORMAT)) != FORMAT:
        raise WeightsError(f"{file} is not a SelfMask: its metadata says format {written!r}, not {FORMAT!r}")
    encoder = metadata.get("encoder", ENCODER)
    if encoder not in SPECS:
        raise WeightsError(f"{file} has the encoder {encoder!r}, which is none of {', '.join(SPECS)}")
    return encoder


def _read_metadata(file: Path) -> dict[str, Any]:
    try:
        with safe_open(file, framework="pt") as opened:
            return opened.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{file} cannot be read as weights: {error}") from error
