"""CLIP's towers from weights files in open_clip's layout, each read without the other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from objloc_ros.backbones.clip import ClipImage, build_clip_image, build_text_transformer, clip_spec
from objloc_ros.backbones.clip_text import ClipText
from objloc_ros.backbones.tokens import SPECIAL, Tokenizer
from objloc_ros.backbones.weights import conform, read_state, verified
from objloc_ros.errors import WeightsError

VISUAL = "visual."
"""Prefix of the image tower's tensors in a file of both."""

KNOWN = "known_tokens"
"""CLIP's ids of the tokens that a compact text tower knows, int64 [V], ascending."""

_NEITHER = ("logit_scale", "logit_bias", "attn_mask", "input_resolution", "context_length", "vocab_size")
"""What files hold besides the towers; similarities are cosines here."""


def load_clip_image(
    name: str = "tiny_clip", *, path: str | Path | None = None, device: str | torch.device = "cpu"
) -> ClipImage:
    """Load an image tower, frozen and in eval mode.

    Args:
        name: Architecture, a key of `clip.CLIP_SPECS`.
        path: Weights file in open_clip's layout; None for the embedded or the fetched one.
        device: Where to put the parameters.

    Raises:
        ParameterError: If the name is unknown.
        WeightsError: If the file is missing, has the wrong hash, cannot be read safely or does not fit.
    """
    tower = build_clip_image(name)
    file = verified(name, path)
    state = {k.removeprefix(VISUAL): v for k, v in read_some(file, lambda key: key.startswith(VISUAL)).items()}
    state = conform(state, tower.visual.state_dict(), f"{file} does not hold the image tower of {name}")
    tower.visual.load_state_dict(state)
    return tower.requires_grad_(False).eval().to(device)


def load_clip_text(
    name: str = "tiny_clip", *, path: str | Path | None = None, device: str | torch.device = "cpu"
) -> ClipText:
    """Load a text tower with its tokens, frozen and in eval mode.

    Args:
        name: Architecture, a key of `clip.CLIP_SPECS`.
        path: Weights file in open_clip's layout; None for the embedded or the fetched one.
        device: Where to put the parameters.

    Raises:
        ParameterError: If the name is unknown.
        WeightsError: If the file is missing, has the wrong hash, cannot be read safely or does not fit.
    """
    spec = clip_spec(name)
    file = verified(name, path)
    state = read_some(file, lambda key: not key.startswith(VISUAL) and key not in _NEITHER)
    state = {key.removeprefix("text."): value for key, value in state.items()}
    known = state.pop(KNOWN, None)
    if spec.compact and not (isinstance(known, torch.Tensor) and known.ndim == 1 and len(known)):
        raise WeightsError(f"{file} does not hold the text tower of {name}: {KNOWN} must list its tokens")
    tower = build_text_transformer(name, len(known) + SPECIAL if spec.compact else None)
    state = conform(state, tower.state_dict(), f"{file} does not hold the text tower of {name}")
    tower.load_state_dict(state)
    tower.requires_grad_(False).eval().to(device)
    return ClipText(name, tower, Tokenizer(spec.context, known))


def read_some(path: Path, wanted: Callable[[str], bool]) -> dict[str, Any]:
    """Read the tensors whose names are wanted; of a safetensors file nothing else is read.

    Raises:
        WeightsError: If the file cannot be read safely.
    """
    if path.suffix != ".safetensors":
        state = read_state(path)
        state = state["state_dict"] if isinstance(state.get("state_dict"), dict) else state
        bare = {str(key).removeprefix("module."): value for key, value in state.items()}
        return {key: value for key, value in bare.items() if wanted(key)}
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys() if wanted(key)}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read as weights: {error}") from error
