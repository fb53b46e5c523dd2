"""Files of SigLIP 2 and MobileCLIP2 in the layout that is released, with random numbers, and open_clip's own model."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
import pytest
import torch
from open_clip.model import CustomTextCLIP
from open_clip.timm_model import TimmModel
from safetensors.torch import save_file
from torch import nn

from objloc_ros.backbones import timm_clip
from objloc_ros.backbones.timm_clip import TIMM_CLIP_SPECS

OPEN_CLIP = {
    "siglip2_vitb32": ("ViT-B-32-SigLIP2-256", "webli"),
    "siglip2_vitb16": ("ViT-B-16-SigLIP2", "webli"),
    "siglip2_vitb16_512": ("ViT-B-16-SigLIP2-512", "webli"),
    "mobileclip2_s0": ("MobileCLIP2-S0", "dfndr2b"),
    "mobileclip2_s2": ("MobileCLIP2-S2", "dfndr2b"),
    "mobileclip2_s3": ("MobileCLIP2-S3", "dfndr2b"),
    "mobileclip2_s4": ("MobileCLIP2-S4", "dfndr2b"),
}
"""What open_clip calls a pair of towers, and its weights."""

WORDS = ["a", "background", "blue", "circle", "cone", "object", "of", "photo", "red", "the", "traffic"]
SCALE = 112.0


class Made(NamedTuple):
    """A pair of towers.

    Args:
        name: Of the towers.
        path: Their file.
        model: What is in it, as open_clip runs it.
    """

    name: str
    path: Path
    model: CustomTextCLIP


def build_reference(name: str, **text: Any) -> CustomTextCLIP:
    """Build open_clip's model with random weights, some settings of its text tower changed."""
    config = open_clip.get_model_config(OPEN_CLIP[name][0])
    config.pop("custom_text")
    return CustomTextCLIP(**config | {"text_cfg": config["text_cfg"] | text})


@contextmanager
def make_towers(name: str, folder: Path, *, side: int | None = None) -> Iterator[Made]:
    """Make a pair of towers of the true widths with two blocks of each transformer, and SigLIP's with few tokens.

    Args:
        name: A key of `TIMM_CLIP_SPECS`.
        folder: Where its files go.
        side: Side of the images of convolutions, which are slow; None for the true one.
    """

    def shorten(*arguments: Any, **options: Any) -> TimmModel:
        visual = TimmModel(*arguments, **options)
        return _shorten(visual)

    spec = TIMM_CLIP_SPECS[name]
    text = {"layers": 2} | ({"vocab_size": 300} if spec.gemma else {})
    torch.manual_seed(0)
    model = build_reference(name, **text).eval()
    _shorten(model.visual)
    with torch.no_grad():
        _enliven(model.visual)
        model.logit_scale.fill_(math.log(SCALE))
    path = folder / "open_clip_model.safetensors"
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    if spec.gemma:
        write_tokens(folder / "tokenizer.json")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timm_clip, "TimmModel", shorten)
        reduced = {"text_layers": 2} | ({"vocabulary": 300} if spec.gemma else {})
        reduced |= {"side": side} if side and spec.pool == "avg" else {}
        patch.setitem(TIMM_CLIP_SPECS, name, dataclasses.replace(spec, **reduced))
        yield Made(name, path, model)
    path.unlink()  # hundreds of MB, which pytest would keep


def write_tokens(path: Path) -> None:
    """Write tokens as Gemma's file has them: spaces are letters, words grow pair by pair, bytes for all the rest."""
    letters = sorted({"\u2581", *"abcdefghijklmnopqrstuvwxyz"})
    vocabulary = ["<pad>", "<eos>", "<bos>", "<unk>", *letters]
    merges = []
    for word in WORDS:
        for end in range(2, len(word) + 1):
            if (piece := word[:end]) not in vocabulary:
                vocabulary.append(piece)
                merges.append([word[: end - 1], word[end - 1]])
    vocabulary += [f"<0x{byte:02X}>" for byte in range(0x80, 0xF5)]
    special = [
        {
            "id": number,
            "content": vocabulary[number],
            "special": True,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
        }
        for number in range(4)
    ]
    model = {
        "type": "BPE",
        "vocab": {token: number for number, token in enumerate(vocabulary)},
        "merges": merges,
        "unk_token": "<unk>",
        "fuse_unk": True,
        "byte_fallback": True,
    }
    normalizer = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    path.write_text(json.dumps({"version": "1.0", "added_tokens": special, "normalizer": normalizer, "model": model}))


def _enliven(visual: nn.Module) -> None:
    """Draw numbers through which images make a difference: those before training are near nothing."""
    for module in visual.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight)
    for name, parameter in visual.named_parameters():
        if name.endswith("gamma"):  # layer scale
            parameter.uniform_(0.2, 0.5)
        elif name.endswith("latent"):
            parameter.normal_()


def _shorten(visual: TimmModel) -> TimmModel:
    trunk: Any = visual.trunk
    if hasattr(trunk, "blocks"):
        trunk.blocks = trunk.blocks[:2]
    return visual
