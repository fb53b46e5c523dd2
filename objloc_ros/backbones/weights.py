"""Networks from weights files, refused before anything runs when a file is not what it should be.

Loading never downloads: a missing file is an error that names the command which fetches it. Files are read as
safetensors or through torch's restricted unpickler, so a file cannot execute code. CLIP's two towers, in open_clip's
layout, are each read without the other.
"""

from __future__ import annotations

import argparse
import codecs
import hashlib
import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from objloc_ros.backbones.clip import (
    ImageTower,
    build_image_tower,
    build_text_transformer,
    find_clip_spec,
    find_tower_spec,
)
from objloc_ros.backbones.clip_text import SPECIAL_TOKENS, ClipText, Tokenizer
from objloc_ros.backbones.dino_layouts import unify_layout
from objloc_ros.backbones.gemma_tokens import GemmaTokenizer
from objloc_ros.backbones.lite_clip import LITE_CLIP, LiteImage
from objloc_ros.backbones.lite_text import LiteText, NounTable
from objloc_ros.backbones.onnx_file import SUFFIX
from objloc_ros.backbones.onnx_runtime import ExportedViT, load_exported
from objloc_ros.backbones.registry import REGISTRY, SIGLIP2_TOKENS, WeightsEntry, cache_dir, find_entry
from objloc_ros.backbones.specs import SPECS
from objloc_ros.backbones.store import check_file, describe_missing, fetch, verify
from objloc_ros.backbones.timm_clip import TIMM_CLIP_SPECS, TimmClipSpec, TimmImage, build_timm_text
from objloc_ros.backbones.vit import ViT, build_vit
from objloc_ros.errors import ParameterError, WeightsError

__all__ = ["REGISTRY", "WeightsEntry", "cache_dir", "fetch", "load_backbone", "load_found_head", "read_state", "verify"]

VISUAL = "visual."
"""Prefix of the image tower's tensors in a file of both."""

KNOWN = "known_tokens"
"""CLIP's ids of the tokens that a compact text tower knows, int64 [V], ascending."""

SCALE = "logit_scale"
"""Logarithm of the factor of cosines before the softmax."""

_NEITHER = (SCALE, "logit_bias", "attn_mask", "input_resolution", "context_length", "vocab_size")
"""What files hold besides the towers; similarities are cosines here."""

NUMPY_GLOBALS: list[Any] = [
    (function, f"numpy.{core}.multiarray.{name}")
    for core in ("core", "_core")  # before and since NumPy 2
    for name, function in (("_reconstruct", np.empty(0).__reduce__()[0]), ("scalar", np.float32().__reduce__()[0]))
] + [np.ndarray, np.dtype, *{type(np.dtype(letter)) for letter in "?bBhHiIlLqQefd"}]
"""What torch's unpickler may make beside tensors: arrays and numbers of NumPy, which a trainer's counters may be."""

PICKLE_GLOBALS: dict[str, Any] = {
    "collections.OrderedDict": OrderedDict,
    "_codecs.encode": codecs.encode,  # bytes in old protocols
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    **{place: function for function, place in (item for item in NUMPY_GLOBALS if isinstance(item, tuple))},
}
"""What a pickle may name."""

_SHOWN = 3
"""How many offending keys an error names."""


def load_backbone(name: str = "tiny", *, path: str | Path | None = None, device: str | torch.device = "cpu") -> ViT:
    """Load a backbone with its weights, frozen and in eval mode.

    Args:
        name: Architecture, a key of `specs.SPECS`.
        path: Weights file; None for the embedded or the fetched one. Accepts the DINO and timm layouts, bare or as a
            full training checkpoint (its teacher is taken), those of `dino_layouts`, and what `objloc export` wrote: a
            file ending in .onnx.
        device: Where to put the parameters.

    Raises:
        ParameterError: If the name is unknown.
        WeightsError: If the file is missing, has the wrong hash, cannot be read safely or does not fit.
    """
    if name not in SPECS:
        raise ParameterError(f"unknown backbone {name!r}; known: {', '.join(SPECS)}")
    if path is not None and Path(path).suffix == SUFFIX:
        return load_exported(path, device, backbone=name)
    file = find_verified(name, path)
    model = build_vit(name)
    state = unify_layout(_vit_state(read_state(file)), model.vit.state_dict())
    state = conform(state, model.vit.state_dict(), f"{file} is not a {name} backbone")
    model.vit.load_state_dict(state)
    return model.requires_grad_(False).eval().to(device)


def fingerprint(backbone: ViT) -> str:
    """Return what tells the parameters of a backbone from all others: 64 hexadecimal digits.

    They are the same whatever file, precision or device the parameters came from, as long as their float32 values are;
    an exported backbone has those of the eager one.

    Raises:
        WeightsError: An exported backbone's file does not say.
    """
    if isinstance(backbone, ExportedViT):
        if not backbone.model.info.fingerprint:
            raise WeightsError(f"{backbone.model.path} does not tell its weights from others: export it anew")
        return backbone.model.info.fingerprint
    digest = hashlib.sha256()
    for name, value in sorted(backbone.vit.state_dict().items()):
        digest.update(f"{name} {list(value.shape)}".encode())
        digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_found_head(backbone: str, *, path: str | Path | None = None) -> tuple[Tensor, Tensor]:
    """Load FOUND's 1x1 convolution for a backbone: weight float32 [1, C, 1, 1] and bias float32 [1].

    Args:
        backbone: Architecture whose keys the head reads, a key of `specs.SPECS`.
        path: Weights file; None for the embedded or the fetched one. Accepts the released layout,
            `{"decoder": {"weight", "bias"}}`, and a flat `{"weight", "bias"}`.

    Raises:
        ParameterError: If the backbone is unknown.
        WeightsError: If the file is missing, has the wrong hash, cannot be read safely or does not fit.
    """
    if backbone not in SPECS:
        raise ParameterError(f"unknown backbone {backbone!r}; known: {', '.join(SPECS)}")
    name = f"{backbone}_found_head"
    if path is None and name not in REGISTRY:
        raise WeightsError(
            f"no FOUND head is released for {backbone!r}; train one with `objloc train found --backbone {backbone}`"
        )
    file = find_verified(name, path)
    state = read_state(file)
    shapes = {"weight": torch.empty(1, SPECS[backbone].embed_dim, 1, 1), "bias": torch.empty(1)}
    state = conform(state.get("decoder", state), shapes, f"{file} is not a FOUND head for {backbone}")
    return state["weight"], state["bias"]


def read_state(path: Path) -> dict[str, Any]:
    """Read a weights file into CPU memory.

    Args:
        path: A `.safetensors` file, a torch checkpoint that holds nothing but tensors and plain containers (and the
            argparse.Namespace of DINO's full checkpoints, which is inert), or, as a `.pkl` file, a pickle of plain
            containers and NumPy arrays, as detectron2 converts and publishes weights.

    Raises:
        WeightsError: If the file is of neither kind, is damaged, or asks for code to be run.
    """
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        if path.suffix == ".pkl":
            return _read_pickle(path)
        with torch.serialization.safe_globals([argparse.Namespace, *NUMPY_GLOBALS]):
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a hostile or damaged file can make the readers raise anything
        reason = str(error).strip().partition("\n")[0]
        raise WeightsError(f"{path} cannot be read as weights: {reason or type(error).__name__}") from error
    if not isinstance(state, dict):
        raise WeightsError(f"{path} holds a {type(state).__name__}, expected a dictionary of tensors")
    return state


class _ArrayUnpickler(pickle.Unpickler):
    """Reads plain containers and arrays; whatever else a pickle names is refused before it is looked up."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what a pickle names, if it is harmless."""
        if (place := f"{module}.{name}") not in PICKLE_GLOBALS:
            raise pickle.UnpicklingError(f"it asks for {place}, which is neither an array nor a plain container")
        return PICKLE_GLOBALS[place]


def _read_pickle(path: Path) -> dict[str, Any]:
    """Read a pickle of plain containers and arrays."""
    with path.open("rb") as file:
        state = _ArrayUnpickler(file, encoding="latin1").load()
    if not isinstance(state, dict):
        raise WeightsError(f"{path} holds a {type(state).__name__}, expected a dictionary of arrays")
    return state


def find_verified(name: str, path: str | Path | None) -> Path:
    """Find the file to load, its hash checked wherever one is known."""
    if path is not None:
        return check_file(Path(path).expanduser()).path
    entry = find_entry(name)
    if not entry.path.is_file():
        raise WeightsError(describe_missing(entry))
    return check_file(entry.path, entry.sha256).path


def _vit_state(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Pick the transformer's entries under their bare names, out of a bare or a full checkpoint."""
    for wrapper in ("teacher", "state_dict", "model"):
        if isinstance(checkpoint.get(wrapper), Mapping):
            checkpoint = checkpoint[wrapper]
    bare = {str(key).removeprefix("module.").removeprefix("backbone."): value for key, value in checkpoint.items()}
    return {key: value for key, value in bare.items() if not key.startswith("head.")}


def conform(state: Any, expected: Mapping[str, Tensor], complaint: str) -> dict[str, Tensor]:
    """Return the state in the dtypes of `expected`, once its keys and shapes are known to agree.

    Raises:
        WeightsError: If they do not; the message names the first few keys of each kind.
    """
    if not isinstance(state, Mapping):
        raise WeightsError(f"{complaint}: it holds a {type(state).__name__} where a dictionary of tensors should be")
    shared = [key for key in expected if key in state]
    problems = {
        "missing": [key for key in expected if key not in state],
        "unexpected": [str(key) for key in state if key not in expected],
        "not a tensor": [key for key in shared if not isinstance(state[key], Tensor)],
        "mis-shaped": [
            f"{key} {list(state[key].shape)} for {list(expected[key].shape)}"
            for key in shared
            if isinstance(state[key], Tensor) and state[key].shape != expected[key].shape
        ],
    }
    found = "; ".join(f"{len(keys)} {kind} ({_list_some(keys)})" for kind, keys in problems.items() if keys)
    if found:
        raise WeightsError(f"{complaint}: {found}")
    return {key: state[key].to(value.dtype) for key, value in expected.items()}


def _list_some(keys: list[str]) -> str:
    return ", ".join(keys[:_SHOWN]) + (", ..." if len(keys) > _SHOWN else "")


def load_clip_image(
    name: str = "tiny_clip", *, path: str | Path | None = None, device: str | torch.device = "cpu"
) -> ImageTower:
    """Load an image tower, frozen and in eval mode.

    Args:
        name: Architecture, one of `clip.CLIP_NAMES`.
        path: Weights file in open_clip's layout; None for the embedded or the fetched one.
        device: Where to put the parameters.

    Raises:
        ParameterError: If the name is unknown.
        WeightsError: If the file is missing, has the wrong hash, cannot be read safely or does not fit.
    """
    find_tower_spec(name)
    file = find_verified(name, path)  # before a large network is built
    tower = build_image_tower(name)
    network = tower if isinstance(tower, LiteImage) else tower.visual
    scaled = isinstance(tower, TimmImage)
    state = read_tensors(file, lambda key: key.startswith(VISUAL) or (scaled and key == SCALE))
    state = {key.removeprefix(VISUAL): value for key, value in state.items()}
    expected = network.state_dict() | ({SCALE: torch.empty(())} if scaled else {})
    state = conform(state, expected, f"{file} does not hold the image tower of {name}")
    if isinstance(tower, TimmImage):
        tower.logit_scale = float(state.pop(SCALE).exp())
    network.load_state_dict(state)
    if isinstance(tower, TimmImage):
        tower.eval().fuse_branches()
    return tower.requires_grad_(False).eval().to(device)


def load_clip_text(
    name: str = "tiny_clip", *, path: str | Path | None = None, device: str | torch.device = "cpu"
) -> ClipText | LiteText:
    """Load a text tower with its tokens or nouns, frozen and in eval mode.

    Args:
        name: Architecture, one of `clip.CLIP_NAMES`.
        path: Weights file in open_clip's layout; None for the embedded or the fetched one.
        device: Where to put the parameters.

    Raises:
        ParameterError: If the name is unknown.
        WeightsError: If the file is missing, has the wrong hash, cannot be read safely or does not fit.
    """
    if name == LITE_CLIP:
        return LiteText(load_noun_table(path), torch.device(device))
    spec = TIMM_CLIP_SPECS.get(name) or find_clip_spec(name)
    file = find_verified(name, path)
    tokenizer = load_tokenizer(name, path=path)
    state = read_tensors(file, lambda key: not key.startswith(VISUAL) and key not in _NEITHER)
    state = {key.removeprefix("text."): value for key, value in state.items()}
    known = state.pop(KNOWN, None)
    if isinstance(spec, TimmClipSpec):
        tower = build_timm_text(name)
    elif not spec.compact:
        tower = build_text_transformer(name)
    elif isinstance(known, torch.Tensor) and known.ndim == 1 and len(known):
        tower = build_text_transformer(name, len(known) + SPECIAL_TOKENS)
        tokenizer = Tokenizer(spec.context, known)
    else:
        raise WeightsError(f"{file} does not hold the text tower of {name}: {KNOWN} must list its tokens")
    state = conform(state, tower.state_dict(), f"{file} does not hold the text tower of {name}")
    tower.load_state_dict(state)
    tower.requires_grad_(False).eval().to(device)
    return ClipText(name, tower, tokenizer)


def load_tokenizer(name: str, *, path: str | Path | None = None) -> Tokenizer | GemmaTokenizer:
    """Load what turns texts into ids, without a network; of a compact text tower, with all of CLIP's tokens.

    Args:
        name: Architecture, one of `clip.CLIP_NAMES` that has a text tower.
        path: Its weights file; a `tokenizer.json` beside it is preferred to the fetched one.

    Raises:
        ParameterError: If the name is unknown.
        WeightsError: If a file of tokens is needed and is missing, has the wrong hash or cannot be read.
    """
    spec = TIMM_CLIP_SPECS.get(name) or find_clip_spec(name)
    if not (isinstance(spec, TimmClipSpec) and spec.gemma):
        return Tokenizer(spec.context)
    beside = None if path is None else Path(path).expanduser().with_name("tokenizer.json")
    file = find_verified(SIGLIP2_TOKENS, beside if beside is not None and beside.is_file() else None)
    return GemmaTokenizer(file, spec.context)


def load_noun_table(path: str | Path | None = None) -> NounTable:
    """Load the nouns of `lite_clip`, without a network.

    Args:
        path: Weights file; None for the embedded one.

    Raises:
        WeightsError: If the file is missing, has the wrong hash, cannot be read safely or does not fit.
    """
    file = find_verified(LITE_CLIP, path)
    try:
        return NounTable.unpack(read_tensors(file, lambda key: not key.startswith(VISUAL)))
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        raise WeightsError(f"{file} does not hold the nouns of {LITE_CLIP}: {error!r}") from error


def read_tensors(path: Path, wanted: Callable[[str], bool]) -> dict[str, Any]:
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
